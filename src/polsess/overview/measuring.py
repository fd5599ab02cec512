"""Facts about an architecture from its registered class: everything that ``architectures.json`` stores."""

from __future__ import annotations

import functools
import re
import sys

import torch

from polsess.costs import count_macs
from polsess.models import (
    SeparationModel,
    create_model,
    get_model_class,
    list_presets,
    parse_model_config,
)
from polsess.overview.architectures import Architecture, GoldenError, Preset

_LINK = re.compile(r"https?://[^\s)]+[^\s).,;]")


def measure_architecture(name: str, golden_errors: tuple[GoldenError, ...] = ()) -> Architecture:
    """Describe an architecture from its module, its class and its presets, built without memory.

    Args:
        name: A registered name.
        golden_errors: Distances from its references, which are not measured here.

    Raises:
        ConfigError: If there is no architecture of that name.
    """
    model_class = get_model_class(name)
    title, *about = _paragraphs(sys.modules[model_class.__module__].__doc__ or name)
    dtype = model_class.amp_dtype
    return Architecture(
        name=name,
        title=title.removesuffix("."),
        about=tuple(about),
        papers=tuple(dict.fromkeys(_LINK.findall(" ".join([title, *about])))),
        precision="float32" if dtype is None else str(dtype).removeprefix("torch."),
        supports_compile=model_class.supports_compile,
        can_be_causal=model_class.causal is not SeparationModel.causal,
        default=_measure(name, None),
        presets=tuple(_measure(name, preset) for preset in list_presets(name) if preset != "tiny"),
        golden_errors=golden_errors,
    )


def _paragraphs(docstring: str) -> list[str]:
    """The paragraphs of a module's docstring, one line each, without the legend of shapes."""
    blocks = [" ".join(block.split()) for block in docstring.split("\n\n")]
    return [block for block in blocks if block and not block.startswith("Shapes:")]


def _measure(name: str, preset: str | None) -> Preset:
    config = parse_model_config({"model_type": name} | ({"preset": preset} if preset else {}))
    parameters, macs, causal, look_ahead = _build(name, config.model_dump_json())
    label = preset or "default"
    return Preset(label, parameters, macs, config.num_sources, config.sample_rate, causal, look_ahead)


@functools.lru_cache(maxsize=256)  # presets that differ in name only are built once
def _build(name: str, config_json: str) -> tuple[int, int, bool, int | None]:
    config = get_model_class(name).config_class.model_validate_json(config_json)
    with torch.device("meta"):  # shapes without memory
        model = create_model(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, round(count_macs(model).per_second), model.causal, model.look_ahead_samples
