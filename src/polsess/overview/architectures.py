"""Facts about architectures that the registry and the classes themselves know; nothing is written by hand."""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass

import torch

from polsess.models import (
    SeparationModel,
    create_model,
    get_model_class,
    list_models,
    list_presets,
    parse_model_config,
)
from polsess.overview.model_facts import GoldenError, golden_errors, macs_per_second

_LINK = re.compile(r"https?://[^\s)]+[^\s).,;]")


@dataclass(frozen=True)
class Preset:
    """A named configuration and what becomes of it.

    Attributes:
        name: As ``create_model(..., preset=name)`` takes it; ``default`` is no preset at all.
        parameters: How many numbers are trained.
        macs_per_second: Multiply-accumulates per second of audio at its rate; None if not counted yet.
        num_sources: C.
        sample_rate: In Hz.
        causal: Whether estimates need no future beyond ``look_ahead_samples``.
        look_ahead_samples: None for the whole utterance.
    """

    name: str
    parameters: int
    macs_per_second: int | None
    num_sources: int
    sample_rate: int
    causal: bool
    look_ahead_samples: int | None


@dataclass(frozen=True)
class Architecture:
    """One registered model.

    Attributes:
        name: What users write.
        title: The first sentence of its module.
        about: The paragraphs that follow there: papers and what differs from them.
        papers: The links within, the architecture's own first.
        precision: The reduced precision for training, or ``float32``.
        supports_compile: Whether ``torch.compile`` handles it.
        can_be_causal: Whether some configuration is causal.
        default: The published size that no preset needs to be named for.
        presets: All others, without the one for tests.
        golden_errors: How far its estimates are from its references'.
    """

    name: str
    title: str
    about: tuple[str, ...]
    papers: tuple[str, ...]
    precision: str
    supports_compile: bool
    can_be_causal: bool
    default: Preset
    presets: tuple[Preset, ...]
    golden_errors: tuple[GoldenError, ...]


def list_architectures() -> list[Architecture]:
    """Every registered architecture, by name."""
    return [describe_model(name) for name in list_models()]


def describe_model(name: str) -> Architecture:
    """What is known of an architecture without its weights.

    Raises:
        ConfigError: If there is none of that name.
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
        golden_errors=golden_errors(name),
    )


def _paragraphs(docstring: str) -> list[str]:
    """The sentences of a module's docstring, one text per paragraph, without the legend of shapes."""
    blocks = [" ".join(block.split()) for block in docstring.split("\n\n")]
    return [block for block in blocks if block and not block.startswith("Shapes:")]


def _measure(name: str, preset: str | None) -> Preset:
    chosen = {"preset": preset} if preset else {}
    config = parse_model_config({"model_type": name, **chosen})
    parameters, causal, look_ahead = _build(name, config.model_dump_json())
    label = preset or "default"
    return Preset(
        label,
        parameters,
        macs_per_second(name, label),
        config.num_sources,
        config.sample_rate,
        causal,
        look_ahead,
    )


@functools.lru_cache(maxsize=256)  # presets that differ in name only are built once
def _build(name: str, config_json: str) -> tuple[int, bool, int | None]:
    config = get_model_class(name).config_class.model_validate_json(config_json)
    with torch.device("meta"):  # shapes without memory
        model = create_model(config)
    size = sum(parameter.numel() for parameter in model.parameters())
    return size, model.causal, model.look_ahead_samples
