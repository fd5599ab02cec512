"""SpeechBrain's transformer blocks: their arguments and the names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.toolkits.speechbrain.hyperparams import Instance
from polsess.checkpoints.translation import Arguments, Rule
from polsess.checkpoints.unpickling import CheckpointError
from polsess.models.layers.positions import sinusoidal_positions

NORMS = {"ln": "gLN", "gln": "gLN", "cln": "cLN"}
"""Our names of its norms; ``ln`` and ``gln`` are one formula, every other word is a batch normalisation."""


def arguments_of(model: Any, class_name: str, where: str) -> Arguments:
    """The arguments of an inner model.

    Raises:
        CheckpointError: If it is of another class.
    """
    if isinstance(model, Instance) and model.class_name == class_name:
        return Arguments(model.arguments, f"SpeechBrain {where} {class_name}")
    found = model.class_name if isinstance(model, Instance) else repr(model)
    raise CheckpointError(f"SpeechBrain {where}: expected a {class_name}, got {found}.")


def read_transformer(block: Arguments) -> dict[str, Any]:
    """Take what every transformer block has: ``num_layers``, and the other fields by our names.

    Raises:
        CheckpointError: If the block is of a kind that no model here has.
    """
    block.expect("attention_type", "regularMHA")
    block.expect("kdim", None)
    block.expect("vdim", None)
    block.ignore("input_shape", "d_model")  # the tensors show d_model
    return {
        "num_layers": block.take("num_layers"),
        "num_heads": block.take("nhead"),
        "d_ffn": block.take("d_ffn", default=2048),
        "dropout": block.take("dropout", default=0.1),
        "activation": block.take("activation", default="relu"),
        "norm_first": block.take("norm_before", default=False),
        "positional_encoding": block.take("use_positional_encoding", default=False),
    }


def join_fields(first: Mapping[str, Any], second: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of two transformers without ``num_layers``, the only one in which they may differ.

    Raises:
        CheckpointError: If they differ in another: the models here have one configuration for both.
    """
    for name, value in first.items():
        if name != "num_layers" and second[name] != value:
            raise CheckpointError(
                f"{where}: {name} is {value!r} in one and {second[name]!r} in the other; they must be equal."
            )
    return {name: value for name, value in first.items() if name != "num_layers"}


def transformer_rules(foreign: str, native: str) -> list[Rule]:
    """Rules for a block under the pattern ``foreign``, which becomes a stack under ``native``.

    Both must use named groups; ``layer`` and ``kind`` are taken.
    """
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
    tables = {key: value for key, value in state.items() if key.endswith(".pos_enc.pe")}
    for key, table in tables.items():
        if not _is_sinusoidal(table):
            raise CheckpointError(f"{key}: {list(table.shape)} does not hold sinusoidal positions.")
    return {key: value for key, value in state.items() if key not in tables}


def _is_sinusoidal(table: Tensor) -> bool:
    if table.ndim != 3 or len(table) != 1 or table.shape[-1] % 2:
        return False
    rows = table[0, :2500].float()  # later rows may differ between machines by more than rounding
    return torch.allclose(rows, sinusoidal_positions(*rows.shape), rtol=0.0, atol=1e-3)
