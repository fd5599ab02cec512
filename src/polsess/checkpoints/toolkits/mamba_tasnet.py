"""Sizes and tensors of Mamba-TasNet and DPMamba from the authors' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, register_reader
from polsess.checkpoints.toolkits.speechbrain.dual_path import DUAL_PATH_RULES
from polsess.checkpoints.translation import Rule, join_gates, rename, take, without_unit_dimensions
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of, unwrapped

_MAMBA_TASNET = "mamba_net.layers.0.mixer.A_b_log"
_DPMAMBA = "dual_mdl.0.intra_mdl.layers.0.mixer.A_b_log"
PUBLISHED = {"chunk_size": 250, "skip_around_intra": False}
"""What no tensor of DPMamba shows, as published."""


def architecture(masknet: Mapping[str, Any]) -> str | None:
    """Our name of the model that these tensors of a mask network belong to."""
    names = {_MAMBA_TASNET: "mambatasnet", _DPMAMBA: "dpmamba"}
    return next((name for key, name in names.items() if key in masknet), None)


def convert_mamba_tasnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert Mamba-TasNet; all but the sample rate is in its tensors.

    Args:
        arguments: Our fields that no tensor shows.
        state: The tensors of the three files, with their parts as prefixes.

    Raises:
        CheckpointError: If a tensor is missing or not of this architecture.
    """
    model = {
        **_sizes(state, "masknet.mamba_net.layers.0.mixer"),
        "num_layers": _count(state, "masknet.mamba_net.layers."),
        "num_sources": _ratio(state, "masknet.mask_conv1x1.conv.weight"),
    }
    rules = [
        (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
        (r"decoder\.weight", "decoder.conv.weight"),
        (r"masknet\.layer_norm\.gamma", "norm.weight"),
        (r"masknet\.layer_norm\.beta", "norm.bias"),
        (r"masknet\.bottleneck_conv1x1\.conv\.weight", "bottleneck.weight"),
        (r"masknet\.mask_conv1x1\.conv\.weight", "to_masks.weight"),
        *_stack(r"masknet\.mamba_net", "layers"),
    ]
    renamed = without_unit_dimensions(rename(state, rules, "Mamba-TasNet"))
    for kind in ("norm.weight", "norm.bias"):
        renamed[kind] = take(renamed, kind, "Mamba-TasNet").flatten()
    return Converted({"model_type": "mambatasnet", **model, **arguments}, renamed)


def convert_dpmamba(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert DPMamba; all but the chunks, the skip and the sample rate is in its tensors.

    Args:
        arguments: Our fields that no tensor shows.
        state: The tensors of the three files, with their parts as prefixes.

    Raises:
        CheckpointError: If a tensor is missing or not of this architecture.
    """
    model = {
        **_sizes(state, "masknet.dual_mdl.0.intra_mdl.layers.0.mixer"),
        "d_model": take(dict(state), "masknet.conv1d.weight", "DPMamba").shape[0],
        "num_blocks": _count(state, "masknet.dual_mdl."),
        "num_sources": _ratio(state, "masknet.conv2d.weight"),
    }
    rules = [*DUAL_PATH_RULES]
    for path in ("intra", "inter"):
        rules += _stack(rf"masknet\.dual_mdl\.(?P<block>\d+)\.{path}_mdl", rf"blocks.\g<block>.{path}")
    renamed = join_gates(without_unit_dimensions(rename(state, rules, "DPMamba")), "DPMamba")
    return Converted({"model_type": "dpmamba", **model, **PUBLISHED, **arguments}, renamed)


def _stack(theirs: str, ours: str) -> list[Rule]:
    """Rules for a stack of bidirectional mixers; the second direction has ``_b`` in its names there."""
    mixer = rf"{theirs}\.layers\.(?P<layer>\d+)\.mixer"
    to = rf"{ours}.mixers.\g<layer>"
    parts = "conv1d|x_proj|dt_proj"
    return [
        (rf"{theirs}\.layers\.(?P<layer>\d+)\.norm\.weight", rf"{ours}.norms.\g<layer>.weight"),
        (rf"{theirs}\.norm_f\.weight", f"{ours}.final_norm.weight"),
        (rf"{mixer}\.(?P<name>in_proj|out_proj)\.weight", rf"{to}.\g<name>.weight"),
        (rf"{mixer}\.(?P<name>A_log|D)", rf"{to}.forward_ssm.\g<name>"),
        (rf"{mixer}\.A_b_log", rf"{to}.backward_ssm.A_log"),
        (rf"{mixer}\.D_b", rf"{to}.backward_ssm.D"),
        (rf"{mixer}\.(?P<name>{parts})\.(?P<kind>weight|bias)", rf"{to}.forward_ssm.\g<name>.\g<kind>"),
        (rf"{mixer}\.(?P<name>{parts})_b\.(?P<kind>weight|bias)", rf"{to}.backward_ssm.\g<name>.\g<kind>"),
    ]


def _sizes(state: Mapping[str, Tensor], mixer: str) -> dict[str, Any]:
    filters, rates, taps = (
        take(dict(state), key, "Mamba")
        for key in ("encoder.conv1d.weight", f"{mixer}.A_log", f"{mixer}.conv1d.weight")
    )
    width = take(dict(state), f"{mixer}.in_proj.weight", "Mamba").shape[-1]
    if filters.ndim != 3 or rates.ndim != 2 or taps.ndim != 3 or width == 0:
        raise CheckpointError(f"{mixer}: the tensors have too few dimensions.")
    return {
        "num_filters": filters.shape[0],
        "kernel_size": filters.shape[2],
        "num_states": rates.shape[1],
        "conv_kernel_size": taps.shape[2],
        "expansion": rates.shape[0] // width,
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _ratio(state: Mapping[str, Tensor], key: str) -> int:
    """Outputs per input: the number of sources, for the layer that makes them."""
    outputs, inputs = (*take(dict(state), key, "Mamba").shape, 0, 0)[:2]
    if inputs == 0:
        raise CheckpointError(f"{key}: expected a convolution of length one.")
    return outputs // inputs


PARTS = ("encoder", "masknet", "decoder")
_FILES = [f"{part}.ckpt" for part in PARTS]
_CONVERTERS = {"mambatasnet": convert_mamba_tasnet, "dpmamba": convert_dpmamba}
_UNTOLD = {"mambatasnet": {"sample_rate"}, "dpmamba": {"sample_rate", *PUBLISHED}}


@register_reader
class MambaTasNetReader(Reader):
    """``encoder.ckpt``, ``masknet.ckpt`` and ``decoder.ckpt`` with bidirectional Mamba layers.

    The classes in the run's YAML are not ones that SpeechBrain has, so sizes come from the tensors. What no
    tensor shows is as published unless ``config`` says otherwise.
    """

    format = "mamba-tasnet"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        if files.main not in (None, *_FILES) or not files.has(*_FILES):
            return False
        content = files.torch_file("masknet.ckpt")
        if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
            return False
        return architecture(unwrapped(content)) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class; ``config`` may say only what no tensor shows."""
        parts = {part: state_of(files.torch_file(f"{part}.ckpt"), f"{part}.ckpt") for part in PARTS}
        name = architecture(parts["masknet"])
        assert name is not None
        given = {key: value for key, value in (config or {}).items() if key != "model_type"}
        if not given.keys() <= _UNTOLD[name]:
            known = ", ".join(sorted(_UNTOLD[name]))
            raise CheckpointError(f"{files.path}: the tensors tell all but {known}; leave the rest out.")
        state = {f"{part}.{key}": value for part in PARTS for key, value in parts[part].items()}
        try:
            return _CONVERTERS[name](given, state)
        except CheckpointError as error:
            raise CheckpointError(f"{files.path}: {error}") from None
