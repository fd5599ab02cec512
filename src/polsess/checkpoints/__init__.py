"""Weights in and out: one door for every format, files treated as hostile, nothing executed.

Formats of other toolkits are in ``toolkits``, our own in ``native``.
"""

from typing import TYPE_CHECKING

from polsess.dependencies import lazy_names

if TYPE_CHECKING:
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
    from polsess.checkpoints.measured import MeasuredResult, MeasuredScore
    from polsess.checkpoints.native import save_model
    from polsess.checkpoints.onnx_embedder import load_embedder
    from polsess.checkpoints.publishing import push_to_hub
    from polsess.checkpoints.unpickling import CheckpointError

__all__ = [
    "BUNDLED_MODELS",
    "DEFAULT_MODEL",
    "Checkpoint",
    "CheckpointError",
    "Converted",
    "MeasuredResult",
    "MeasuredScore",
    "Published",
    "check_state",
    "convert_checkpoint",
    "list_published",
    "load_embedder",
    "load_model",
    "push_to_hub",
    "read_checkpoint",
    "save_model",
]

# The list of published weights is printed without importing torch.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BUNDLED_MODELS": "polsess.checkpoints.loading",
        "DEFAULT_MODEL": "polsess.checkpoints.loading",
        "Checkpoint": "polsess.checkpoints.formats",
        "CheckpointError": "polsess.checkpoints.unpickling",
        "Converted": "polsess.checkpoints.formats",
        "MeasuredResult": "polsess.checkpoints.measured",
        "MeasuredScore": "polsess.checkpoints.measured",
        "Published": "polsess.checkpoints.catalogue",
        "check_state": "polsess.checkpoints.building",
        "convert_checkpoint": "polsess.checkpoints.conversion",
        "list_published": "polsess.checkpoints.catalogue",
        "load_embedder": "polsess.checkpoints.onnx_embedder",
        "load_model": "polsess.checkpoints.loading",
        "push_to_hub": "polsess.checkpoints.publishing",
        "read_checkpoint": "polsess.checkpoints.loading",
        "save_model": "polsess.checkpoints.native",
    },
)
