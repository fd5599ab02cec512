"""The filterbanks of Asteroid's networks: four kinds of filters, and activations of the encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.toolkits.asteroid.reader import ACTIVATIONS, TORCH_VERSION
from polsess.checkpoints.translation import Arguments, Rule, rename
from polsess.checkpoints.unpickling import CheckpointError


def filters_rules(foreign: str, native: str) -> list[Rule]:
    """Rules for all tensors of a filterbank."""
    return [
        (rf"{foreign}\.filterbank\._filters", f"{native}.weight"),
        (rf"{foreign}\.filterbank\.(low_hz|band_hz)_", rf"{native}.filters.\1"),
    ]


FILTERBANK_RULES: list[Rule] = [
    *filters_rules("encoder", "encoder.conv"),
    *filters_rules("decoder", "decoder.conv"),
    (r"enc_activation\.weight", "encoder.prelu.weight"),
]
_COMPUTED = ("filterbank.torch_window", "filterbank.window_", "filterbank.n_")
"""Tensors that follow from the arguments."""

_KINDS: dict[str, str | None] = {
    **dict.fromkeys(("FreeFB", "free")),
    **dict.fromkeys(("AnalyticFreeFB", "analytic_free"), "analytic"),
    **dict.fromkeys(("ParamSincFB", "param_sinc"), "sinc"),
    **dict.fromkeys(("STFTFB", "stft"), "stft"),
}


def rename_network(
    state: Mapping[str, Tensor], rules: list[Rule], model: Mapping[str, Any], where: str
) -> dict[str, Tensor]:
    """Tensors under our names, those of the filterbank for the kind of filters that the configuration has.

    Raises:
        CheckpointError: If a tensor is of another architecture.
    """
    kept = {key: value for key, value in state.items() if not key.endswith(_COMPUTED)}
    renamed = rename(kept, rules, where)
    if not model.get("filters"):
        return renamed
    return {
        re.sub(r"^((?:en|de)coder\.(?:conv|gate))\.weight$", r"\1.filters.weight", key): value
        for key, value in renamed.items()
    }


def read_filterbank(
    arguments: Arguments,
    where: str,
    activation: str | None = None,
    *,
    num_filters: int = 512,
    kernel_size: int = 16,
) -> dict[str, Any]:
    """The fields of a configuration that describe the filterbank, and the sample rate.

    Files from before Asteroid 0.3.1 name neither the encoder's activation nor the rate, which was 8 kHz.

    Args:
        arguments: The model's arguments, from which these are taken.
        where: The class, for messages.
        activation: The encoder's activation where the file names none.
        num_filters: The number of filters where the file names none.
        kernel_size: Their length where the file names none.

    Raises:
        CheckpointError: If the filters are of a kind that is not read, or the masks are not as wide as the
            features.
    """
    kind = arguments.choose("fb_name", _KINDS, default="free")
    filters = arguments.take("n_filters", default=num_filters)
    kernel = arguments.take("kernel_size", default=kernel_size)
    if kind == "sinc" and kernel % 2 == 0:
        kernel += 1  # as there
    features = {None: filters, "stft": filters + 2}.get(kind, filters - filters % 2)
    for name in ("in_chan", "out_chan"):
        width = arguments.take(name, default=None)
        if width not in (None, features):
            raise CheckpointError(f"{where}: {name}={width!r} differs from the {features} filters; not read.")
    options = _read_filters(arguments, kind, where)
    return {
        "num_filters": features,
        "kernel_size": kernel,
        "stride": arguments.take("stride", default=None) or kernel // 2,
        "encoder_activation": arguments.choose(
            "encoder_activation", {None: "linear", **ACTIVATIONS}, default=activation
        ),
        "sample_rate": int(arguments.take("sample_rate", default=8000)),
        **({"filters": options} if options else {}),
    }


def _read_filters(arguments: Arguments, kind: str | None, where: str) -> dict[str, Any] | None:
    version = arguments.take(TORCH_VERSION, default=None)
    if kind == "analytic":
        return {"kind": kind, "partner": _partner(version, where)}
    limits = ("min_low_hz", "min_band_hz") if kind == "sinc" else ()
    return {"kind": kind, **{name: arguments.take(name, default=50) for name in limits}} if kind else None


def _partner(version: Any, where: str) -> str:
    """The second half of analytic filters; torch 1.8 lost the transform that had made it."""
    numbers = re.match(r"(\d+)\.(\d+)", str(version))
    if numbers is None:
        raise CheckpointError(
            f"{where}: analytic filters depend on the version of torch that trained them, which no file "
            f"names; add {TORCH_VERSION}, e.g. '1.13', to the arguments (in a conf.yml to its filterbank)."
        )
    return "mirror" if (int(numbers[1]), int(numbers[2])) >= (1, 8) else "hilbert"
