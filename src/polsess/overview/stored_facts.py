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
from importlib.resources import files
from pathlib import Path
from typing import Any

from polsess.overview.architectures import Architecture, GoldenError, Preset

_REGISTERED = re.compile(r"^@register_model\(\"(\w+)\"", re.M)


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
    """The file of every separation model, by the name under which it registers itself."""
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
