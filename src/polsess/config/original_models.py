"""The ``model`` section of the original project: a block per architecture, with the papers' letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from polsess.checkpoints import CheckpointError
from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.legacy.reader import CONVERTERS, model_arguments
from polsess.schema import ConfigError

Names = Mapping[str, tuple[str, Any]]
"""Our field for an old key, and the value that an absent key stood for."""

_FILTERBANK = {"kernel_size": ("kernel_size", 16)}
_STATES = {"d_state": ("num_states", 16), "d_conv": ("conv_kernel_size", 4), "expand": ("expansion", 2)}


def upgrade_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings as ``parse_model_config`` takes them, without the number of sources.

    The four architectures whose old weights can be read go through the readers of those weights, so that
    an old configuration and an old checkpoint give the same network.

    Raises:
        ConfigError: If the architecture or a key is not known, or a value has no equal here.
    """
    try:
        name, block = model_arguments(model, "model")
        if name in _TABLES:
            settings = _TABLES[name](block)
        else:
            convert = CONVERTERS.find(name, "model")
            settings = dict(convert(block, {}).model)
    except CheckpointError as error:
        raise ConfigError(f"model: {error}") from None
    settings.pop("num_sources", None)  # the task decides
    return settings


def _mossformer2(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original MossFormer2")
    names = {
        "N": ("num_filters", 512),
        "num_blocks": ("num_blocks", 24),
        "attn_dropout": ("dropout", 0.1),
    }
    return _translate("mossformer2", values, {**_FILTERBANK, **names})


def _spmamba(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original SPMamba")
    values.ignore("input_dim", "lstm_hidden_units", "n_srcs", "sample_rate")  # sizes of nothing, or derived
    values.expect("window", "hann")
    values.expect("activation", "prelu")
    names = {
        "n_fft": ("n_fft", 256),
        "stride": ("hop_length", 64),
        "n_layers": ("num_blocks", 6),
        "attn_n_head": ("num_heads", 4),
        "attn_approx_qk_dim": ("approximate_qk_size", 512),
        "emb_dim": ("num_channels", 16),
        "emb_ks": ("kernel_size", 8),
        "emb_hs": ("stride", 1),
        "eps": ("eps", 1e-5),
    }
    return _translate("spmamba", values, names)


def _mamba_tasnet(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original Mamba-TasNet")
    filters = block.get("N", 256)
    values.expect("bot_dim", filters)
    _expect_plain_mamba(values)
    names = {"N": ("num_filters", 256), "n_mamba": ("num_layers", 8)}
    return _translate("mambatasnet", values, {**_FILTERBANK, **_STATES, **names})


def _dpmamba(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original DPMamba")
    values.expect("n_mamba_dp", 2)
    _expect_plain_mamba(values)
    names = {
        "N": ("num_filters", 64),
        "num_layers": ("num_blocks", 8),
        "chunk_size": ("chunk_size", 250),
        "skip_around_intra": ("skip_around_intra", False),
    }
    settings = _translate("dpmamba", values, {**_FILTERBANK, **_STATES, **names})
    return {**settings, "d_model": settings["num_filters"]}


def _expect_plain_mamba(values: Arguments) -> None:
    values.expect("bidirectional", True)
    values.expect("rms_norm", True)
    values.ignore("residual_in_fp32")  # sums stay in float32 here


def _translate(name: str, values: Arguments, names: Names) -> dict[str, Any]:
    settings = {ours: values.take(theirs, default=default) for theirs, (ours, default) in names.items()}
    if "kernel_size" in names:
        kernel = settings["kernel_size"]
        values.expect("stride", kernel // 2 if isinstance(kernel, int) else None)
    values.ignore("C", "num_spks")
    values.finish()
    return {"model_type": name, **settings}


_TABLES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "mossformer2": _mossformer2,
    "spmamba": _spmamba,
    "mamba_tasnet": _mamba_tasnet,
    "dpmamba": _dpmamba,
}
