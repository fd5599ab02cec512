"""Weights in and out: one door for every format, files treated as hostile, nothing executed.

Formats of other toolkits are in ``toolkits``, our own in ``native``.
"""

from polsess.checkpoints.building import check_state
from polsess.checkpoints.catalogue import Published, list_published
from polsess.checkpoints.conversion import convert_checkpoint
from polsess.checkpoints.formats import Checkpoint, Converted
from polsess.checkpoints.loading import (
    BUNDLED_MODELS,
    DEFAULT_MODEL,
    load_model,
    read_checkpoint,
)
from polsess.checkpoints.native import save_model
from polsess.checkpoints.unpickling import CheckpointError

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
