"""What is evaluated: a model, or estimates that lie in files.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from polsess.audio import Samples, read_audio, write_audio
from polsess.checkpoints import BUNDLED_MODELS, read_checkpoint
from polsess.checkpoints.building import build_model
from polsess.costs import count_macs
from polsess.data import Example
from polsess.data.corpora.folder import find_sound, list_items
from polsess.inference import pick_device
from polsess.models import SeparationModel
from polsess.schema import ConfigError, suggest
from polsess.tasks import Task

_COUNTED_SECONDS = 4.0  # as long as the mixtures of PolSESS


class System(Protocol):
    """Gives the estimates of an example."""

    @property
    def name(self) -> str:
        """Names the result."""

    @property
    def identity(self) -> str:
        """Changes when the estimates do."""

    @property
    def sample_rate(self) -> int | None:
        """The rate in Hz that it was made for; None for any."""

    @property
    def num_sources(self) -> int | None:
        """C; None where only the files can tell."""

    @property
    def task(self) -> Task | None:
        """What it was made for, where that is known."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """Where its estimates come from, so that they can be had again.

        A model has ``model``, its path or id, ``parameters``, their number, and ``macs_per_second`` of sound
        at its rate; files have ``estimates``, their folder, and ``system``.
        """

    def estimate(self, example: Example) -> Samples:
        """Estimates ``[C, T]`` of one example.

        Raises:
            ValueError: If there are none.
        """


class ModelSystem:
    """A model, fed one whole utterance at a time, so that no result depends on a batch.

    Args:
        model: Any.
        name: Names the result.
        device: Where it runs.
        source: The path or id that the model was loaded by, for the record.
        task: What it was trained for, where that is known.
    """

    def __init__(
        self,
        model: SeparationModel,
        name: str,
        device: str | torch.device = "cpu",
        source: str = "",
        task: Task | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.device = torch.device(device)
        self.name = name
        self.source = source
        self.task = task

    @property
    def identity(self) -> str:
        """A digest of configuration and weights."""
        digest = hashlib.sha256(self.model.config.model_dump_json().encode())
        for key, tensor in self.model.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def origin(self) -> Mapping[str, Any]:
        """Path or id, the number of parameters, and multiply-accumulates per second of sound."""
        costs = {
            "parameters": sum(each.numel() for each in self.model.parameters()),
            "macs_per_second": round(count_macs(self.model, _COUNTED_SECONDS).per_second),
        }
        return ({"model": self.source} if self.source else {}) | costs

    @property
    def sample_rate(self) -> int:
        """The rate in Hz that the model was made for."""
        return self.model.sample_rate

    @property
    def num_sources(self) -> int:
        """C."""
        return self.model.output_sources

    @torch.inference_mode()
    def estimate(self, example: Example) -> Samples:
        """Separate the mixture of one example."""
        estimates = self.model(example.mixture.to(self.device).unsqueeze(0))
        estimates = estimates.float().cpu().numpy()
        return estimates if self.num_sources == 1 else estimates[0]


class FolderSystem:
    """Estimates in files, ``<item>/<system>/s1.flac`` and so on, or ``<item>/s1.flac`` for the system ``""``.

    Args:
        folder: Holds a folder for each item of the corpus, by its identifier.
        system: The folder of the estimates within each item.
    """

    sample_rate = None
    num_sources = None
    task = None

    def __init__(self, folder: Path, system: str = "") -> None:
        known = list_systems(folder)
        if system not in known:
            raise ConfigError(f"{folder}: no estimates of '{system}'." + suggest(system, known, "Found"))
        self.folder = folder
        self.system = system
        self.name = system or folder.name
        self._rate: int | None = None

    @property
    def identity(self) -> str:
        """A digest of the files' names, sizes and times."""
        digest = hashlib.sha256()
        for item in list_items(self.folder):
            for path in sorted((self.folder / item / self.system).glob("s*.*")):
                digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    @property
    def origin(self) -> Mapping[str, Any]:
        """The folder and the system in it."""
        return {"estimates": str(self.folder.resolve()), "system": self.system}

    def estimate(self, example: Example) -> Samples:
        """Read the estimates of one example; each must be as long as the mixture."""
        folder = self.folder / example.identifier / self.system
        signals = []
        for number in range(1, len(example.references) + 1):
            path = find_sound(folder, f"s{number}")
            samples, _ = read_audio(path)
            if samples.shape != (1, len(example.mixture)):
                raise ValueError(
                    f"{path}: expected one channel of {len(example.mixture)} samples, as the mixture, got "
                    f"{samples.shape[0]} of {samples.shape[1]}."
                )
            signals.append(samples[0].numpy())
        return np.stack(signals)


def write_estimates(folder: Path, identifier: str, estimates: Samples, sample_rate: int) -> None:
    """Write the estimates of one utterance as a ``FolderSystem`` reads them.

    Those that are not finite are left out: no file holds them, and their scores say so.

    Raises:
        ConfigError: If the utterance's name cannot name a folder.
    """
    if Path(identifier).name != identifier or identifier.startswith("."):
        raise ConfigError(f"--save-estimates: '{identifier}' cannot be the name of a folder.")
    (folder / identifier).mkdir(parents=True, exist_ok=True)
    for number, estimate in enumerate(np.atleast_2d(estimates), start=1):
        if np.isfinite(estimate).all():
            target = folder / identifier / f"s{number}.wav"
            write_audio(target, torch.from_numpy(estimate), sample_rate, bits="32f")


def open_models(sources: Sequence[str], device: str = "auto") -> list[System]:
    """Load models by path or name, each with a name that tells it from the others.

    Raises:
        CheckpointError: If weights cannot be used.
    """
    chosen = pick_device(device)
    names = distinct_names(sources)
    return [_open_model(source, name, chosen) for source, name in zip(sources, names, strict=True)]


def _open_model(source: str, name: str, device: torch.device) -> ModelSystem:
    checkpoint = read_checkpoint(source)
    model = build_model(checkpoint.config, checkpoint.state, source)
    task = Task(checkpoint.task) if checkpoint.task in set(Task) else None
    return ModelSystem(model, name, device, _absolute(source), task)


def open_estimates(folder: Path, systems: Sequence[str] | None = None) -> list[System]:
    """The estimates in a folder: those of the systems named, or of all.

    Raises:
        ConfigError: If a system has no estimates there.
    """
    found = list(systems or list_systems(folder))
    if not found:
        raise ConfigError(
            f"{folder}: no estimates; expected <item>/<system>/s1.wav (or .flac) in every item. "
            "Files beside a mixture are references."
        )
    return [FolderSystem(folder, system) for system in found]


def distinct_names(sources: Sequence[str]) -> list[str]:
    """File or folder names without suffix; with the folders above where these alone are the same."""
    paths = [Path(source).with_suffix("") if Path(source).is_file() else Path(source) for source in sources]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["-".join(part for part in path.parts[-depth:] if part.strip("/.")) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"The same model is named twice: {', '.join(sources)}.")


def _absolute(source: str) -> str:
    return str(Path(source).resolve()) if source not in BUNDLED_MODELS and Path(source).exists() else source


def list_systems(folder: Path) -> list[str]:
    """The systems that have estimates of every item of a folder, sorted; ``""`` for files in the items."""
    items = list_items(folder)
    if not items:
        raise ConfigError(f"{folder}: no folders of items in it, expected <item>/<system>/s1.flac.")
    inside = [{""} | {path.name for path in (folder / item).iterdir() if path.is_dir()} for item in items]
    names = sorted(set.intersection(*inside))
    complete = [name for name in names if all(_has(folder / item / name, "s1") for item in items)]
    # Beside folders of systems, or beside a mixture, files in the items themselves are references.
    only_estimates = not any(_has(folder / item, "mix") for item in items)
    return [name for name in complete if name] or (complete if only_estimates else [])


def _has(folder: Path, stem: str) -> bool:
    return any(path.stem == stem for path in folder.iterdir())
