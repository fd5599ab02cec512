"""Mamba-TasNet and DPMamba as their authors share them: SpeechBrain's three files with classes of their own.

Sizes are read from the tensors; the run's ``hyperparams.yaml`` holds what no tensor shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, given_fields, naming, register_reader
from polsess.checkpoints.toolkits.speechbrain.dual_path import DUAL_PATH_RULES
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Hyperparams
from polsess.checkpoints.toolkits.speechbrain.inner_models import arguments_of
from polsess.checkpoints.toolkits.speechbrain.reader import (
    HYPERPARAMS,
    PARTS,
    hyperparams_name,
    network_arguments,
)
from polsess.checkpoints.translation import Arguments, Rule, join_gates, rename, take, without_unit_dimensions
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of, unwrapped

_MAMBA_TASNET = "mamba_net.layers.0.mixer.A_b_log"
_DPMAMBA = "dual_mdl.0.intra_mdl.layers.0.mixer.A_b_log"


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
    return Converted({"model_type": "dpmamba", **model, **arguments}, renamed)


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


_FILES = [f"{part}.ckpt" for part in PARTS]
_CONVERTERS = {"mambatasnet": convert_mamba_tasnet, "dpmamba": convert_dpmamba}
_NOT_IN_TENSORS = {
    "mambatasnet": {"sample_rate"},
    "dpmamba": {"sample_rate", "chunk_size", "skip_around_intra"},
}


@register_reader
class MambaTasNetReader(Reader):
    """``encoder.ckpt``, ``masknet.ckpt`` and ``decoder.ckpt`` with bidirectional Mamba layers.

    They lie beside the ``hyperparams.yaml`` of the run, or two folders below it. Without that file ``config``
    gives what no tensor shows; the rate is 8 kHz and chunks have 250 frames, as in every published file.
    """

    format = "mamba-tasnet"

    def recognises(self, files: WeightFiles) -> bool:
        if files.main not in (None, HYPERPARAMS, *_FILES) or not files.has(*_FILES):
            return False
        content = files.torch_file("masknet.ckpt")
        if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
            return False
        return architecture(unwrapped(content)) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        parts = {part: state_of(files.torch_file(f"{part}.ckpt"), f"{part}.ckpt") for part in PARTS}
        name = architecture(parts["masknet"])
        assert name is not None
        state = {f"{part}.{key}": value for part in PARTS for key, value in parts[part].items()}
        arguments = _arguments(files, name, config)
        with naming(str(files.path)):
            return _CONVERTERS[name](arguments, state)


def _arguments(files: WeightFiles, name: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Read the fields that no tensor shows: from the YAML of the run, else from ``config``."""
    if (yaml := hyperparams_name(files)) is not None:
        if config is not None:
            raise CheckpointError(f"{files.folder / yaml} holds the configuration; leave config out.")
        arguments = network_arguments(Hyperparams(files.yaml(yaml), yaml), yaml)
        return {"sample_rate": arguments["sample_rate"], **_READERS[name](arguments["masknet"])}
    given = given_fields(config, _NOT_IN_TENSORS[name], str(files.path))
    if name == "dpmamba" and "skip_around_intra" not in given:
        raise CheckpointError(
            f"{files.path}: {HYPERPARAMS} of the run is missing, and no tensor shows whether DPMamba adds "
            "the input of the layer within chunks to its output; pass config={'skip_around_intra': True} for "
            "the published sizes M and L, False for XS and S."
        )
    return {"chunk_size": 250, **given} if name == "dpmamba" else given


def _read_mamba_tasnet(masknet: Mapping[str, Any]) -> dict[str, Any]:
    arguments = Arguments(masknet, "MaskNet")
    for argument, value in (("norm_type", "gLN"), ("causal", False), ("mask_nonlinear", "relu")):
        arguments.expect(argument, value)
    arguments.ignore("enc_dim", "bot_dim", "n_spk")
    _expect_bidirectional_mamba(arguments)
    return {}


def _read_dpmamba(masknet: Mapping[str, Any]) -> dict[str, Any]:
    arguments = Arguments(masknet, "Dual_Path_Model")
    found = {
        "chunk_size": arguments.take("K", default=200),
        "skip_around_intra": arguments.take("skip_around_intra", default=True),
    }
    for path in ("intra_model", "inter_model"):
        _expect_bidirectional_mamba(arguments_of(arguments.take(path), "MambaBlocksSequential", path))
    arguments.expect("norm", "ln")
    arguments.expect("linear_layer_after_inter_intra", False)
    arguments.expect("use_global_pos_enc", False)
    arguments.ignore("num_spks", "in_channels", "out_channels", "num_layers", "max_length")
    arguments.finish()
    return found


def _expect_bidirectional_mamba(stack: Arguments) -> None:
    for argument, value in (("bidirectional", True), ("rms_norm", True), ("use_simple_block", False)):
        stack.expect(argument, value)
    stack.ignore("n_mamba", "d_model", "d_state", "expand", "d_conv")  # the tensors show them
    stack.ignore("fused_add_norm", "residual_in_fp32")  # they change the speed alone
    stack.finish()


_READERS = {"mambatasnet": _read_mamba_tasnet, "dpmamba": _read_dpmamba}
