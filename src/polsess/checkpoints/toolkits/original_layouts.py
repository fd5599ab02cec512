"""The networks of the original project's package ``polsess-models``: our configuration and names as theirs.

The other direction is ``original.CONVERTERS``. A layout does not know what options the original lacks:
``fields`` says what its class builds, and a network with another value is not one of that class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polsess.checkpoints.toolkits.original import CONVERTERS
from polsess.checkpoints.translation import Rule, rename
from polsess.checkpoints.unpickling import CheckpointError
from polsess.models import NetworkConfig
from polsess.models.layers.positions import inverse_frequencies, sinusoidal_positions

_POSITIONS = 2500
"""Rows of SpeechBrain's table of positions."""


@dataclass(frozen=True)
class Layout:
    """One class of the original package.

    Attributes:
        name: Its ``model_type``.
        arguments: What its constructor takes, of our configuration.
        tensors: Its tensors, of our configuration and state.
        fields: Our configuration of what the constructor builds from its arguments; those that are left out
            have our defaults.
    """

    name: str
    arguments: Callable[[Any], dict[str, Any]]
    tensors: Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]]
    fields: Callable[[Mapping[str, Any]], dict[str, Any]]


def layout_of(config: NetworkConfig) -> Layout:
    """The layout of an architecture.

    Raises:
        CheckpointError: If the original package has no such network.
    """
    if config.model_type not in _LAYOUTS:
        raise CheckpointError(
            f"polsess-models, the original project's package, has no {config.model_type}; "
            f"a bundle can hold {', '.join(_LAYOUTS)}."
        )
    return _LAYOUTS[config.model_type]


def _renamed(state: Mapping[str, Tensor], rules: list[Rule], shapes: Mapping[str, int]) -> dict[str, Tensor]:
    """Tensors under their names, with dimensions of size one behind, as many as ``shapes`` ask for."""
    renamed = rename(state, rules, "original layout")
    for key, value in renamed.items():
        wanted = next((number for pattern, number in shapes.items() if re.search(pattern, key)), value.ndim)
        renamed[key] = value.reshape(*value.shape, *[1] * (wanted - value.ndim))
    return renamed


def _filterbank(config: Any) -> dict[str, Any]:
    return {"N": config.num_filters, "kernel_size": config.kernel_size, "stride": config.kernel_size // 2}


_ENDS: list[Rule] = [
    (r"encoder\.conv\.weight", "encoder.conv1d.weight"),
    (r"decoder\.conv\.weight", "decoder.weight"),
]
_MASKS = {"relu": "relu", "filter_softmax": "softmax"}


def _convtasnet_arguments(config: Any) -> dict[str, Any]:
    return {
        **_filterbank(config),
        "B": config.bottleneck_channels,
        "H": config.hidden_channels,
        "P": config.conv_kernel_size,
        "X": config.num_blocks,
        "R": config.num_repeats,
        "C": config.num_sources,
        "norm_type": config.norm,
        "causal": config.causal,
        "mask_nonlinear": _MASKS.get(config.mask_activation, config.mask_activation),
    }


_CONVOLUTIONS = {
    "expand.weight": "conv.conv.weight",
    "expand_prelu.weight": "act.weight",
    "expand_norm.weight": "norm.gamma",
    "expand_norm.bias": "norm.beta",
    "depthwise.weight": "DSconv.conv_0.conv.weight",
    "depthwise_prelu.weight": "DSconv.act.weight",
    "depthwise_norm.weight": "DSconv.act_0.gamma",
    "depthwise_norm.bias": "DSconv.act_0.beta",
    "outputs.weight": "DSconv.conv_1.conv.weight",
}


def _convtasnet_tensors(config: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    rules = [
        *_ENDS,
        (r"input_norm\.weight", "mask_net.layer_norm.gamma"),
        (r"input_norm\.bias", "mask_net.layer_norm.beta"),
        (r"bottleneck\.weight", "mask_net.bottleneck_conv1x1.conv.weight"),
        (r"to_masks\.weight", "mask_net.mask_conv1x1.conv.weight"),
    ]
    for number in range(config.num_blocks * config.num_repeats):
        repeat, block = divmod(number, config.num_blocks)
        place = f"mask_net.temporal_conv_net.temporalblock_{repeat}_{block}.layers."
        rules += [
            (rf"blocks\.{number}\.{re.escape(ours)}", place + theirs)
            for ours, theirs in _CONVOLUTIONS.items()
        ]
    renamed = _renamed(state, rules, {})
    return {
        key: value[None, None] if key.endswith(("gamma", "beta")) else value for key, value in renamed.items()
    }


def _dual_path_rules(theirs: str, ours: str) -> list[Rule]:
    """Names around the inner models, which are alike in DPRNN and SepFormer.

    Args:
        theirs: The mask network's name there.
        ours: What is before the names of the last layers here, as a pattern.
    """
    kind = r"(weight|bias)"
    return [
        *_ENDS,
        (rf"(?:input_)?norm\.{kind}", rf"{theirs}.norm.\1"),
        (r"bottleneck\.weight", f"{theirs}.conv1d.weight"),
        (rf"blocks\.(\d+)\.(intra|inter)_norm\.{kind}", rf"{theirs}.dual_mdl.\1.\2_norm.\3"),
        (rf"{ours}activation\.weight", f"{theirs}.prelu.weight"),
        (rf"{ours}to_sources\.{kind}", rf"{theirs}.conv2d.\1"),
        (rf"{ours}(output|output_gate)\.{kind}", rf"{theirs}.\1.0.\2"),
        (rf"{ours}to_masks?\.weight", f"{theirs}.end_conv1x1.weight"),
    ]


_DUAL_PATH_SHAPES = {r"\.(conv1d|end_conv1x1|output\.0|output_gate\.0)\.weight": 3, r"\.conv2d\.weight": 4}


def _with_split_gate(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The linear maps of the output and of its gate apart."""
    split = dict(state)
    for kind in ("weight", "bias"):
        joined = split.pop(f"{prefix}gated_output.{kind}")
        split[f"{prefix}output.{kind}"], split[f"{prefix}output_gate.{kind}"] = joined.chunk(2)
    return split


def _dprnn_arguments(config: Any) -> dict[str, Any]:
    return {
        **_filterbank(config),
        "C": config.num_sources,
        "num_layers": config.num_blocks,
        "chunk_size": config.chunk_size,
        "rnn_type": config.rnn_type,
        "hidden_size": config.hidden_size,
        "num_rnn_layers": config.num_layers,
        "dropout": config.dropout,
        "bidirectional": config.inter_bidirectional,
        "norm_type": {"gLN": "ln", "cLN": "cln"}.get(config.norm, config.norm),
    }


def _dprnn_tensors(_: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    path = r"blocks\.(\d+)\.(intra|inter)\."
    rules = [
        *_dual_path_rules("separator", r"to_masks\."),
        (path + r"0\.rnn\.(\w+)", r"separator.dual_mdl.\1.\2_mdl.mdl.rnn.\3"),
        (path + r"1\.(weight|bias)", r"separator.dual_mdl.\1.\2_linear.w.\3"),
    ]
    return _renamed(_with_split_gate(state, "to_masks."), rules, _DUAL_PATH_SHAPES)


def _sepformer_arguments(config: Any) -> dict[str, Any]:
    return {
        **_filterbank(config),
        "C": config.num_sources,
        "causal": False,
        "num_blocks": config.num_blocks,
        "num_layers": config.num_intra_layers,
        "d_model": config.d_model,
        "nhead": config.num_heads,
        "d_ffn": config.d_ffn,
        "dropout": config.dropout,
        "chunk_size": config.chunk_size,
        "hop_size": config.chunk_size // 2,
        "use_positional_encoding": config.positional_encoding,
    }


_TRANSFORMER_PARTS = {
    r"attention\.qkv\.": "self_att.att.in_proj_",
    r"attention\.out\.": "self_att.att.out_proj.",
    r"feed_forward\.expand\.": "pos_ffn.ffn.0.",
    r"feed_forward\.reduce\.": "pos_ffn.ffn.3.",
    r"attention_norm\.": "norm1.norm.",
    r"feed_forward_norm\.": "norm2.norm.",
}


def _sepformer_tensors(config: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    path, theirs = r"blocks\.(\d+)\.(intra|inter)\.", r"masknet.dual_mdl.\1.\2_mdl.mdl."
    rules = [
        *_dual_path_rules("masknet", ""),
        *(
            (rf"{path}layers\.(\d+)\.{part}(weight|bias)", rf"{theirs}layers.\3.{name}\4")
            for part, name in _TRANSFORMER_PARTS.items()
        ),
        (path + r"norm\.(weight|bias)", rf"{theirs}norm.norm.\3"),
    ]
    tensors = _renamed(_with_split_gate(state, ""), rules, _DUAL_PATH_SHAPES)
    if config.positional_encoding:
        table = sinusoidal_positions(_POSITIONS, config.d_model)[None]
        for block in range(config.num_blocks):
            for side in ("intra", "inter"):
                tensors[f"masknet.dual_mdl.{block}.{side}_mdl.pos_enc.pe"] = table.clone()
    return tensors


_MOSSFORMER2_SIZES = {
    "N": "num_filters",
    "kernel_size": "kernel_size",
    "C": "num_sources",
    "num_blocks": "num_blocks",
}


def _mossformer2_fields(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All other sizes are fixed there, at those of the published models, which are our defaults."""
    sizes = {ours: arguments[theirs] for theirs, ours in _MOSSFORMER2_SIZES.items()}
    return {"model_type": "mossformer2", **sizes}


def _mossformer2_arguments(config: Any) -> dict[str, Any]:
    return {
        **{theirs: getattr(config, ours) for theirs, ours in _MOSSFORMER2_SIZES.items()},
        "attn_dropout": config.dropout,
    }


_STACK = "mask_net.mdl.intra_mdl.mossformerM."
_ATTENTION = rf"{_STACK}layers.\1."
_MEMORY = rf"{_STACK}fsmn.\1."
_CONVOLUTIONAL = {"norm.scale": "mdl.0.g", "norm.weight": "mdl.0.weight", "norm.bias": "mdl.0.bias"} | {
    "linear.weight": "mdl.1.weight",
    "linear.bias": "mdl.1.bias",
    "conv.weight": "mdl.3.sequential.1.conv.weight",
}
_MOSSFORMER2_NAMES = {
    r"encoder\.": "enc.conv1d.",
    r"decoder\.": "dec.",
    r"norm_frames\.": "mask_net.mdl.intra_mdl.norm.",
    r"norm_out\.": "mask_net.mdl.intra_norm.",
    r"norm_in\.": "mask_net.norm.",
    r"project_in\.": "mask_net.conv1d_encoder.",
    r"project_out\.": "mask_net.conv1_decoder.",
    r"positions\.": "mask_net.pos_enc.",
    r"split\.0\.": "mask_net.prelu.",
    r"split\.1\.": "mask_net.conv1d_out.",
    r"content\.": "mask_net.output.0.",
    r"gate\.": "mask_net.output_gate.0.",
    r"blocks\.(\d+)\.memory\.squeeze\.0\.": _MEMORY + "conv1.0.",
    r"blocks\.(\d+)\.memory\.squeeze\.1\.": _MEMORY + "conv1.1.",
    r"blocks\.(\d+)\.memory\.squeeze\.2\.": _MEMORY + "norm1.",
    r"blocks\.(\d+)\.memory\.expand\.0\.": _MEMORY + "norm2.",
    r"blocks\.(\d+)\.memory\.expand\.1\.": _MEMORY + "conv2.",
    r"blocks\.(\d+)\.memory\.memory\.project\.0\.": _MEMORY + "gated_fsmn.fsmn.linear.",
    r"blocks\.(\d+)\.memory\.memory\.project\.2\.": _MEMORY + "gated_fsmn.fsmn.project.",
    r"blocks\.(\d+)\.memory\.memory\.conv\.": _MEMORY + "gated_fsmn.fsmn.conv.conv1.",
    r"blocks\.(\d+)\.memory\.memory\.norm\.": _MEMORY + "gated_fsmn.fsmn.conv.norm1.",
    r"blocks\.(\d+)\.memory\.memory\.activation\.": _MEMORY + "gated_fsmn.fsmn.conv.prelu1.",
    r"blocks\.(\d+)\.memory\.memory\.pair_conv\.": _MEMORY + "gated_fsmn.fsmn.conv.conv2.",
    r"blocks\.(\d+)\.memory\.memory\.pair_norm\.": _MEMORY + "gated_fsmn.fsmn.conv.norm2.",
    r"blocks\.(\d+)\.memory\.memory\.pair_activation\.": _MEMORY + "gated_fsmn.fsmn.conv.prelu2.",
}
"""Starts of our names, and of theirs; the last word, ``weight``, ``bias`` or ``scale``, is the same."""
_MODULES = {
    r"memory\.to_memory": _MEMORY + "gated_fsmn.to_u.",
    r"memory\.to_gate": _MEMORY + "gated_fsmn.to_v.",
    r"attention\.to_hidden": _ATTENTION + "to_hidden.",
    r"attention\.to_output": _ATTENTION + "to_out.",
    r"attention\.to_query_key": _ATTENTION + "to_qk.",
}
_MOSSFORMER2_RULES: list[Rule] = [
    *(
        (ours + r"(?P<kind>weight|bias|scale)", rf"model.model.{theirs}\g<kind>")
        for ours, theirs in _MOSSFORMER2_NAMES.items()
    ),
    (r"blocks\.(\d+)\.attention\.scale", f"model.model.{_ATTENTION}qk_offset_scale.gamma"),
    (r"blocks\.(\d+)\.attention\.offset", f"model.model.{_ATTENTION}qk_offset_scale.beta"),
    *(
        (rf"blocks\.(\d+)\.{module}\.{re.escape(ours)}", f"model.model.{place}{theirs}")
        for module, place in _MODULES.items()
        for ours, theirs in _CONVOLUTIONAL.items()
    ),
]
_MOSSFORMER2_SHAPES = {
    r"mask_net\.(conv1d_encoder|conv1_decoder|conv1d_out|output\.0|output_gate\.0)\.weight": 3,
    r"\.fsmn\.conv\.conv\d\.weight": 4,
    r"\.(conv1\.0|conv2)\.weight": 3,
}


def _mossformer2_tensors(config: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The one table of rotations is repeated in every block, as the original's states have it."""
    shaped = {
        key: value.reshape(-1, 2, value.shape[-1]) if key.endswith(".pair_conv.weight") else value
        for key, value in state.items()
        if key != "rotation.rates"
    }
    tensors = _renamed(shaped, _MOSSFORMER2_RULES, _MOSSFORMER2_SHAPES)
    tensors["model.model.mask_net.pos_enc.inv_freq"] = inverse_frequencies(config.num_filters)
    for block in range(config.num_blocks):
        place = f"model.model.{_STACK}layers.{block}.rotary_pos_emb.freqs"
        tensors[place] = state["rotation.rates"].clone()
    return tensors


_TF_SIZES = {
    "C": "num_sources",
    "D": "num_channels",
    "num_blocks": "num_blocks",
    "conv_kernel_size": "kernel_size",
    "conv_stride": "stride",
    "n_heads": "num_heads",
    "num_groups": "num_groups",
    "window_t": "window_time",
    "window_f": "window_frequency",
    "gate_kernel_size": "gate_kernel_size",
    "n_fft": "n_fft",
    "hop_length": "hop_length",
    "attn_dropout": "dropout",
}


def _tf_mossformer_arguments(config: Any) -> dict[str, Any]:
    sizes = {theirs: getattr(config, ours) for theirs, ours in _TF_SIZES.items()}
    return {**sizes, "ffn_hidden_dim": config.ffn_hidden_sizes[0]}


_TF_PARTS = {
    r"ffn_after\.0\.weight": "ffn_norm.0.gamma",  # the lists are built in reverse
    r"ffn_before\.0\.weight": "ffn_norm.1.gamma",
    r"ffn_after\.1\.(conv|deconv)\.(weight|bias)": r"ffn.0.\g<1>1d.\2",
    r"ffn_before\.1\.(conv|deconv)\.(weight|bias)": r"ffn.1.\g<1>1d.\2",
    r"attention_norm\.weight": "attn_norm.gamma",
    r"attention\.(local|global)_attention\.rotation\.rates": r"attn.\1_attn.rope.freqs",
    r"attention\.(local|global)_attention\.to_qkv\.weight": r"attn.\1_attn.qkv.weight",
    r"attention\.(local|global)_attention\.to_output\.weight": r"attn.\1_attn.aggregate_heads.0.weight",
    r"attention\.(local|global)_gate\.conv\.(weight|bias)": r"attn.\1_gate.conv.\2",
}


def _tf_mossformer_tensors(config: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    rules = [
        (r"conv\.(weight|bias)", r"separator.conv.0.\1"),
        (r"norm\.(weight|bias)", r"separator.conv.1.\1"),
        (r"deconv\.(weight|bias)", r"separator.deconv.\1"),
    ]
    for path in range(2 * config.num_blocks):
        place = f"separator.blocks.{path // 2}.{('freq', 'frame')[path % 2]}_path."
        rules += [(rf"paths\.{path}\.{ours}", place + theirs) for ours, theirs in _TF_PARTS.items()]
    return _renamed(state, rules, {})


def _converted(name: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The fields that the converter of a class gives, where no tensor shows any of them."""
    return lambda arguments: CONVERTERS[name](arguments, {}).model


_LAYOUTS = {
    ours: Layout(name, arguments, tensors, fields or _converted(name))
    for ours, name, arguments, tensors, fields in (
        ("convtasnet", "convtasnet", _convtasnet_arguments, _convtasnet_tensors, None),
        ("dprnn", "dprnn", _dprnn_arguments, _dprnn_tensors, None),
        ("sepformer", "sepformer", _sepformer_arguments, _sepformer_tensors, None),
        ("mossformer2", "mossformer2", _mossformer2_arguments, _mossformer2_tensors, _mossformer2_fields),
        ("tfmossformer", "tf_mossformer", _tf_mossformer_arguments, _tf_mossformer_tensors, None),
    )
}
"""By our ``model_type``."""
