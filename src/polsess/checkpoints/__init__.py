"""Weights in and out: one door for every format, files treated as hostile, nothing executed.

A further toolkit is a further module or package here with a ``@register_reader`` class; a further
architecture of a toolkit is a further module in its package with ``@CONVERTERS.register("ForeignClass")``.
Both are imported by themselves.
"""

import importlib
import pkgutil

from polsess.checkpoints.catalogue import Published, list_published
from polsess.checkpoints.conversion import convert_checkpoint
from polsess.checkpoints.formats import Checkpoint, CheckpointError, Converted
from polsess.checkpoints.loading import (
    BUNDLED_MODELS,
    DEFAULT_MODEL,
    check_state,
    load_model,
    read_checkpoint,
)
from polsess.checkpoints.native import save_model

for _module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "BUNDLED_MODELS",
    "DEFAULT_MODEL",
    "Checkpoint",
    "CheckpointError",
    "Converted",
    "Published",
    "check_state",
    "convert_checkpoint",
    "list_published",
    "load_model",
    "read_checkpoint",
    "save_model",
]
