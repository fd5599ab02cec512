"""SpeechBrain's inner models: their arguments and the names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.toolkits.speechbrain.hyperparams import Instance
from polsess.checkpoints.translation import Arguments, Rule, take
from polsess.checkpoints.unpickling import CheckpointError
from polsess.models.layers.positions import sinusoidal_positions

NORMS = {"ln": "gLN", "gln": "gLN", "cln": "cLN"}
"""Our names of its norms; ``ln`` and ``gln`` are one formula, every other word is a batch normalisation."""
NORM_TENSORS = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
"""A group of all tensors of a norm."""


_ACTIVATIONS = {"relu": "relu", "gelu": "gelu"}
_CONFORMER_ACTIVATIONS = {**_ACTIVATIONS, "swish": "silu"}
_POSITIONS = {"RelPosMHAXL": "relative", "regularMHA": "absolute"}
_CELLS = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "RNN_RELU"}  # its RNN has relu
TRANSFORMER = "SBTransformerBlock"
RECURRENT = "SBRNNBlock"


def class_of(model: Any) -> str | None:
    """The class of an inner model."""
    return model.class_name if isinstance(model, Instance) else None


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
        "activation": block.choose("activation", _ACTIVATIONS, default="relu"),
        "norm_first": block.take("norm_before", default=False),
        "positional_encoding": block.take("use_positional_encoding", default=False),
    }


def read_other(model: Any, where: str) -> dict[str, Any]:
    """Take an inner model that is no ``SBTransformerBlock``: ``num_layers`` and the others by our names.

    Raises:
        CheckpointError: If it is of a class or kind that no model here has.
    """
    name = class_of(model)
    if name not in _OTHERS:
        known = ", ".join([TRANSFORMER, *_OTHERS])
        raise CheckpointError(f"SpeechBrain {where}: '{name or model}' is not read, only {known}.")
    block = arguments_of(model, name, where)
    fields = _OTHERS[name](block)
    block.finish()
    return fields


def _read_conformer(block: Arguments) -> dict[str, Any]:
    block.expect("kdim", None)
    block.expect("vdim", None)
    block.ignore("input_shape", "d_model")
    positions = block.choose("attention_type", _POSITIONS, default="RelPosMHAXL")
    if not block.take("use_positional_encoding", default=True) and positions == "absolute":
        positions = "none"
    return {
        "kind": "conformer",
        "num_layers": block.take("num_layers"),
        "num_heads": block.take("nhead"),
        "d_ffn": block.take("d_ffn", default=2048),
        "conv_kernel_size": block.take("kernel_size", default=31),
        "conv_bias": block.take("bias", default=True),
        "positions": positions,
        "dropout": block.take("dropout", default=0.1),
        "activation": block.choose("activation", _CONFORMER_ACTIVATIONS, default="swish"),
    }


def _read_torch_transformer(block: Arguments) -> dict[str, Any]:
    block.ignore("out_channels")
    return {
        "kind": "torch_transformer",
        "num_layers": block.take("num_layers", default=6),
        "num_heads": block.take("nhead", default=8),
        "d_ffn": block.take("d_ffn", default=2048),
        "dropout": block.take("dropout", default=0.1),
        "activation": block.choose("activation", _ACTIVATIONS, default="relu"),
        "positional_encoding": block.take("use_positional_encoding", default=True),
    }


def read_recurrent(block: Arguments) -> dict[str, Any]:
    """Take an ``SBRNNBlock``: ``num_layers`` and the options of a recurrent network."""
    block.ignore("input_size")  # the tensors show it
    num_layers, dropout = block.take("num_layers"), block.take("dropout", default=0)
    return {
        "kind": "recurrent",
        "num_layers": num_layers,
        "cell": block.choose("rnn_type", _CELLS, default="LSTM"),
        "hidden_size": block.take("hidden_channels"),
        "bidirectional": block.take("bidirectional", default=True),
        "dropout": 0.0 if num_layers == 1 else dropout,  # it acts between layers only
    }


_OTHERS = {
    "SBConformerEncoderBlock": _read_conformer,
    "PytorchTransformerBlock": _read_torch_transformer,
    RECURRENT: read_recurrent,
}


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


def other_rules(foreign: str, native: str) -> list[Rule]:
    """As ``transformer_rules``, for the other models."""
    layer, renamed = rf"{foreign}\.mdl\.layers\.(?P<layer>\d+)", rf"{native}.layers.\g<layer>"
    kind = r"\.(?P<kind>weight|bias)"
    modules = {
        r"mha_layer\.out_proj": "attention.out",
        r"mha_layer\.linear_pos": "attention.positions",
        r"mha_layer\.att\.out_proj": "attention.out",
        r"convolution_module\.layer_norm": "convolution.norm",
        r"convolution_module\.bottleneck\.0": "convolution.expand",
        r"convolution_module\.conv": "convolution.depthwise",
        r"convolution_module\.after_conv\.0": "convolution.depthwise_norm",
        r"convolution_module\.after_conv\.2": "convolution.project",
        r"ffn_module1\.0": "first_norm",
        r"ffn_module1\.1\.ffn\.0": "first_feed_forward.expand",
        r"ffn_module1\.1\.ffn\.3": "first_feed_forward.reduce",
        r"ffn_module2\.0": "second_norm",
        r"ffn_module2\.1\.ffn\.0": "second_feed_forward.expand",
        r"ffn_module2\.1\.ffn\.3": "second_feed_forward.reduce",
        r"self_attn\.out_proj": "attention.out",
        "linear1": "feed_forward.expand",
        "linear2": "feed_forward.reduce",
        "norm1": "attention_norm",
        "norm2": "feed_forward_norm",
    }
    return [
        *[(rf"{layer}\.{theirs}{kind}", rf"{renamed}.{ours}.\g<kind>") for theirs, ours in modules.items()],
        (rf"{layer}\.mha_layer\.in_proj_weight", rf"{renamed}.attention.qkv_by_head"),
        (rf"{layer}\.mha_layer\.pos_bias_u", rf"{renamed}.attention.content_bias"),
        (rf"{layer}\.mha_layer\.pos_bias_v", rf"{renamed}.attention.position_bias"),
        (
            rf"{layer}\.(?:mha_layer\.att|self_attn)\.in_proj_(?P<kind>weight|bias)",
            rf"{renamed}.attention.qkv.\g<kind>",
        ),
        (rf"{foreign}\.mdl\.norm\.norm{kind}", rf"{native}.norm.\g<kind>"),
        (rf"{foreign}\.mdl\.rnn\.(?P<rest>\w+)", rf"{native}.network.rnn.\g<rest>"),
    ]


def order_heads(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Relative attention as our layers have it: queries, keys and values whole, biases head by head.

    There a matrix holds the three of each head side by side, and biases are stored in the shape
    ``[D / H, H]`` but read as ``[H, D / H]``.

    Raises:
        CheckpointError: If a matrix does not go with the biases.
    """
    ordered = dict(state)
    for key in [key for key in state if key.endswith(".qkv_by_head")]:
        prefix = key.removesuffix("qkv_by_head")
        biases = [f"{prefix}{name}" for name in ("content_bias", "position_bias")]
        for name in biases:
            bias = take(ordered, name, where)
            ordered[name] = bias.reshape(bias.shape[::-1])
        weight, heads = ordered.pop(key), len(ordered[biases[0]])
        if weight.ndim != 2 or heads == 0 or weight.shape[0] % (3 * heads):
            raise CheckpointError(
                f"{where}: {key} is {list(weight.shape)}, which {heads} heads do not divide."
            )
        ordered[f"{prefix}qkv.weight"] = weight.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
    return ordered


def without_positions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the tables of positions, which are computed here.

    Raises:
        CheckpointError: If a table holds something else than the sinusoidal positions.
    """
    tables = {key: value for key, value in state.items() if re.search(r"\.pos_enc(oder)?\.pe$", key)}
    for key, table in tables.items():
        if not _is_sinusoidal(table):
            raise CheckpointError(f"{key}: {list(table.shape)} does not hold sinusoidal positions.")
    return {key: value for key, value in state.items() if key not in tables}


def _is_sinusoidal(table: Tensor) -> bool:
    if table.ndim == 3 and table.shape[1] == 1:
        table = table.transpose(0, 1)  # as PyTorch's encoder has it
    if table.ndim != 3 or len(table) != 1 or table.shape[-1] % 2:
        return False
    rows = table[0, :2500].float()  # later rows may differ between machines by more than rounding
    return torch.allclose(rows, sinusoidal_positions(*rows.shape), rtol=0.0, atol=1e-3)
