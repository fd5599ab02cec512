"""Facts about architectures, without importing one: they are stored with the source that they were taken of.

``architectures.json`` holds them. An architecture that is not in it, or whose file has changed since, is
measured: a new one shows up by itself. ``benchmarks/model_facts.py`` stores all of them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

_REGISTERED = re.compile(r"^@register_model\(\"(\w+)\"", re.M)


@dataclass(frozen=True)
class Preset:
    """A named configuration and its size.

    Attributes:
        name: As ``create_model(..., preset=name)`` takes it; ``default`` is no preset at all.
        parameters: Number of trained parameters.
        macs_per_second: Multiply-accumulates per second of audio at its rate.
        num_sources: C.
        sample_rate: In Hz.
        causal: Whether estimates need no future beyond ``look_ahead_samples``.
        look_ahead_samples: None for the whole utterance.
    """

    name: str
    parameters: int
    macs_per_second: int
    num_sources: int
    sample_rate: int
    causal: bool
    look_ahead_samples: int | None


@dataclass(frozen=True)
class GoldenError:
    """Distance of the estimates from those of the reference implementation, with its weights.

    Attributes:
        reference: Whose code.
        relative: Norm of the difference over the norm of the reference's estimates, float32, the largest of
            all golden cases.
    """

    reference: str
    relative: float


@dataclass(frozen=True)
class Architecture:
    """One registered model.

    Attributes:
        name: As users write it.
        title: The first sentence of its module.
        about: The paragraphs that follow there: papers, and differences from them.
        papers: The links within, the architecture's own first.
        precision: The reduced precision for training, or ``float32``.
        supports_compile: Whether ``torch.compile`` handles it.
        can_be_causal: Whether some configuration is causal.
        default: The published size that no preset needs to be named for.
        presets: All others, without the one for tests.
        golden_errors: Distances from its references.
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
    golden_errors: tuple[GoldenError, ...] = ()


def list_architectures() -> list[Architecture]:
    """Every architecture of this package, by name."""
    return [describe_model(name) for name in sorted(architecture_sources())]


def describe_model(name: str) -> Architecture:
    """Facts about an architecture, without its weights.

    Raises:
        ConfigError: If there is none of that name.
    """
    stored = stored_architectures().get(name)
    path = architecture_sources().get(name)
    if stored and path and stored["source"] == source_digest(path):
        return _parse(stored["architecture"])
    from polsess.overview.measuring import measure_architecture  # imports torch and every model

    return measure_architecture(name, _golden_errors(stored["architecture"]) if stored else ())


@functools.cache
def architecture_sources() -> dict[str, Path]:
    """The file of every architecture of this package, by the name under which it registers itself."""
    spec = importlib.util.find_spec("polsess.models")  # finds the folder without importing it
    folders = (spec and spec.submodule_search_locations) or []
    paths = [path for folder in folders for path in Path(folder).glob("*.py")]
    return {name: path for path in paths for name in _REGISTERED.findall(path.read_text("utf-8"))}


@functools.cache
def stored_architectures() -> dict[str, dict[str, Any]]:
    """Digest of the source and facts of every stored architecture, by name."""
    text = (files("polsess.overview") / "architectures.json").read_text("utf-8")
    stored: dict[str, dict[str, Any]] = json.loads(text)
    return stored


def source_digest(path: Path) -> str:
    """Changes with the text of a file, not with the line breaks of an operating system."""
    return hashlib.sha256(path.read_text("utf-8").encode()).hexdigest()


def format_size(parameters: int) -> str:
    """Millions with two digits: ``5.05 M``."""
    return f"{parameters / 1e6:.2f} M"


def format_macs(macs_per_second: int) -> str:
    """Thousand millions per second of audio with three digits: ``4.97``."""
    return f"{macs_per_second / 1e9:.3g}"


def format_causality(architecture: Architecture) -> str:
    """The ready configurations that are causal, and how far they look ahead."""
    if not architecture.can_be_causal:
        return "no"
    ready = [
        f"{each.name} ({each.look_ahead_samples} samples ahead)"
        for each in (architecture.default, *architecture.presets)
        if each.causal
    ]
    return ", ".join(ready) or "by configuration"


def _parse(facts: dict[str, Any]) -> Architecture:
    return Architecture(
        **facts
        | {
            "about": tuple(facts["about"]),
            "papers": tuple(facts["papers"]),
            "default": Preset(**facts["default"]),
            "presets": tuple(Preset(**preset) for preset in facts["presets"]),
            "golden_errors": _golden_errors(facts),
        }
    )


def _golden_errors(facts: dict[str, Any]) -> tuple[GoldenError, ...]:
    return tuple(GoldenError(**each) for each in facts["golden_errors"])
