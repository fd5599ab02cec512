"""Running models on recordings: any rate, any length, any number of channels."""

from polsess.devices import pick_device
from polsess.inference.outputs import SeparatedFile, Separation, output_paths, source_names
from polsess.inference.separator import SeparationError, Separator

__all__ = [
    "SeparatedFile",
    "Separation",
    "SeparationError",
    "Separator",
    "output_paths",
    "pick_device",
    "source_names",
]
