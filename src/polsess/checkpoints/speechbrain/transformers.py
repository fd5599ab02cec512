"""SpeechBrain's transformer blocks: their arguments and the names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.formats import CheckpointError
from polsess.checkpoints.speechbrain.arguments import REQUIRED, complete, require
from polsess.checkpoints.speechbrain.hyperparams import Instance
from polsess.models.layers.positional import sinusoidal_positions

_BLOCK = {
    "num_layers": REQUIRED,
    "d_model": REQUIRED,
    "nhead": REQUIRED,
    "d_ffn": 2048,
    "input_shape": None,
    "kdim": None,
    "vdim": None,
    "dropout": 0.1,
    "activation": "relu",
    "use_positional_encoding": False,
    "norm_before": False,
    "attention_type": "regularMHA",
}
_SEGMENT_BLOCK = {**_BLOCK, "causal": False, "use_norm": True, "use_skip": True, "norm_type": "gln"}
_CLASSES = {"SBTransformerBlock": _BLOCK, "SBTransformerBlock_wnormandskip": _SEGMENT_BLOCK}


def read_transformer(where: str, block: Any, class_name: str) -> dict[str, Any]:
    """The arguments of a transformer block, complete.

    Args:
        where: The place in the file, for messages.
        block: What stands there.
        class_name: The class that must stand there.

    Raises:
        CheckpointError: If it is another class, or has arguments that no model here has.
    """
    if not isinstance(block, Instance) or block.class_name != class_name:
        found = block.class_name if isinstance(block, Instance) else repr(block)
        raise CheckpointError(f"{where}: expected a {class_name}, got {found}.")
    values = complete(where, block.arguments, _CLASSES[class_name])
    require(where, values, attention_type="regularMHA", kdim=None, vdim=None)
    return values


def transformer_fields(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of our configurations that every transformer has."""
    return {
        "num_heads": arguments["nhead"],
        "d_ffn": arguments["d_ffn"],
        "dropout": arguments["dropout"],
        "activation": arguments["activation"],
        "norm_first": arguments["norm_before"],
        "positional_encoding": arguments["use_positional_encoding"],
    }


def require_alike(
    first_where: str, first: Mapping[str, Any], second_where: str, second: Mapping[str, Any]
) -> None:
    """Check that two transformers differ in their number of layers only.

    Raises:
        CheckpointError: If they differ otherwise: the models here have one configuration for both.
    """
    for name, value in first.items():
        if name not in ("num_layers", "input_shape") and second[name] != value:
            raise CheckpointError(
                f"{first_where}.{name} is {value!r}, {second_where}.{name} is {second[name]!r}: "
                "models with unequal transformers are not read."
            )


def transformer_names(foreign: str, native: str) -> list[tuple[str, str]]:
    """Patterns for ``rename``: a block under ``foreign`` (a pattern) becomes a stack under ``native``."""
    layer, renamed = rf"{foreign}\.mdl\.layers\.(?P<layer>\d+)", rf"{native}.layers.\g<layer>"
    kind = r"\.(?P<kind>weight|bias)"
    return [
        (rf"{layer}\.self_att\.att\.in_proj_(?P<kind>weight|bias)", rf"{renamed}.attention.qkv.\g<kind>"),
        (rf"{layer}\.self_att\.att\.out_proj{kind}", rf"{renamed}.attention.out.\g<kind>"),
        (rf"{layer}\.pos_ffn\.ffn\.0{kind}", rf"{renamed}.feed_forward.expand.\g<kind>"),
        (rf"{layer}\.pos_ffn\.ffn\.3{kind}", rf"{renamed}.feed_forward.reduce.\g<kind>"),
        (rf"{layer}\.norm1\.norm{kind}", rf"{renamed}.attention_norm.\g<kind>"),
        (rf"{layer}\.norm2\.norm{kind}", rf"{renamed}.feed_forward_norm.\g<kind>"),
        (rf"{foreign}\.mdl\.norm\.norm{kind}", rf"{native}.norm.\g<kind>"),
    ]


def without_positions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the tables of positions, which are computed here.

    Raises:
        CheckpointError: If a table holds something else than the sinusoidal positions.
    """
    for key, table in state.items():
        if key.endswith(".pos_enc.pe") and not _is_sinusoidal(table):
            raise CheckpointError(f"{key}: {list(table.shape)} does not hold sinusoidal positions.")
    return {key: value for key, value in state.items() if not key.endswith(".pos_enc.pe")}


def _is_sinusoidal(table: Tensor) -> bool:
    if table.ndim != 3 or len(table) != 1 or table.shape[-1] % 2:
        return False
    rows = table[0, :2500].float()  # later rows differ between machines by more than rounding
    return torch.allclose(rows, sinusoidal_positions(*rows.shape), rtol=0.0, atol=1e-3)
