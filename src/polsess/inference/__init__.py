"""Running models on recordings: any rate, any length, any number of channels."""

from polsess.devices import pick_device
from polsess.diarization.settings import GateConfig, NumSpeakers
from polsess.inference.enrolment import EnrolmentError
from polsess.inference.extraction import Extractor
from polsess.inference.network import SeparationError
from polsess.inference.outputs import SeparatedFile, Separation, output_paths, source_names
from polsess.inference.separator import Gate, Separator
from polsess.inference.streaming import StreamingSeparator

__all__ = [
    "EnrolmentError",
    "Extractor",
    "Gate",
    "GateConfig",
    "NumSpeakers",
    "SeparatedFile",
    "Separation",
    "SeparationError",
    "Separator",
    "StreamingSeparator",
    "output_paths",
    "pick_device",
    "source_names",
]
