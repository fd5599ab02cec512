"""Systems to evaluate: models, and estimates in files.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from polsess.audio import Samples, list_sounds, read_audio, write_audio
from polsess.checkpoints import BUNDLED_MODELS, read_checkpoint
from polsess.checkpoints.building import build_model
from polsess.costs import count_macs
from polsess.data import Example
from polsess.data.corpora.folder import find_sound, list_items
from polsess.diarization import SpeakerTimeline
from polsess.inference import Separator, pick_device
from polsess.models import SeparationModel
from polsess.schema import ConfigError, suggest
from polsess.tasks import Task

_COUNTED_SECONDS = 4.0  # as long as the mixtures of PolSESS


@dataclass(frozen=True)
class Estimate:
    """What a system makes of one mixture."""

    tracks: Samples
    """``[K, T]``; ``[T]`` for one."""
    names: tuple[str, ...] = ()
    """Names of the tracks, as the timeline calls them."""
    timeline: SpeakerTimeline | None = None
    """Who talks when; None where the system does not look for that."""
    saved_share: float = math.nan
    """Share of the mixture that no network had to process; not a number where that is not known."""


class System(Protocol):
    """A source of estimates for the examples of a corpus."""

    @property
    def name(self) -> str:
        """Name of the system in the results."""

    @property
    def identity(self) -> str:
        """Identifier that changes when the estimates change."""

    @property
    def sample_rate(self) -> int | None:
        """The sample rate in Hz that the system was made for; None for any rate."""

    @property
    def num_sources(self) -> int | None:
        """C; None where it depends on the files."""

    @property
    def task(self) -> Task | None:
        """Task that it was trained for, where that is known."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """Source of its estimates, for reading or computing them again.

        A model has ``model``, its path or id, ``parameters``, their number, and ``macs_per_second`` of sound
        at its rate; files have ``estimates``, their folder, and ``system``.
        """

    def estimate(self, example: Example) -> Estimate:
        """The tracks of one example.

        Raises:
            ValueError: If there are none.
        """


class ModelSystem:
    """A model, fed one whole utterance at a time, so that no result depends on a batch.

    Args:
        model: Any.
        name: Names the result.
        device: Device that it runs on.
        source: The path or id that the model was loaded by, for the record.
        task: Task that it was trained for, where that is known.
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
    def estimate(self, example: Example) -> Estimate:
        """Separate the mixture of one example in one pass through the network."""
        estimates = self.model(example.mixture.to(self.device).unsqueeze(0))
        estimates = estimates.float().cpu().numpy()
        return Estimate(estimates if self.num_sources == 1 else estimates[0], saved_share=0.0)

    def as_separate(self, **options: Any) -> SeparatorSystem:
        """The same model as ``polsess separate`` runs it.

        Args:
            **options: Options of ``Separator``.
        """
        return SeparatorSystem(self.model, self.name, self.device, self.source, self.task, **options)


class SeparatorSystem(ModelSystem):
    """A model as ``polsess separate`` runs it: in pieces, and with the options of ``Separator``.

    Args:
        model: Any.
        name: Names the result.
        device: Device that it runs on.
        source: The path or id that the model was loaded by, for the record.
        task: Task that it was trained for, where that is known.
        **options: Options of ``Separator``.
    """

    def __init__(
        self,
        model: SeparationModel,
        name: str,
        device: str | torch.device = "cpu",
        source: str = "",
        task: Task | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, name, device, source, task)
        self.options = options
        self._separator = Separator(self.model, device=str(self.device), **options)

    @property
    def identity(self) -> str:
        """A digest of configuration, weights and options."""
        return hashlib.sha256(f"{super().identity} {sorted(self.options.items())}".encode()).hexdigest()[:16]

    @property
    def origin(self) -> Mapping[str, Any]:
        """As that of the model, and the options under ``separator``."""
        return {**super().origin, "separator": self.options}

    def estimate(self, example: Example) -> Estimate:
        """Separate the mixture of one example."""
        separation = self._separator.separate(example.mixture, self.sample_rate)
        saved = 0.0 if separation.timeline is None else separation.timeline.saved_share
        return Estimate(separation.sources.numpy(), separation.names, separation.timeline, saved)


class FolderSystem:
    """Estimates in files: of a system with a folder in every item, or as ``polsess separate`` writes them.

    The files of an item are, whichever is there, ``<item>/<system>/s1`` or ``speaker1``, ``s2`` and so on;
    ``<item>/mix_speaker1``; or ``<item>_speaker1`` beside each other. One output is also called ``speech``.

    Args:
        folder: Holds the files of each item of the corpus, by its identifier.
        system: Folder of the estimates within each item; empty for files that no such folder holds.
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

    @property
    def identity(self) -> str:
        """A digest of the files' names, sizes and times."""
        digest = hashlib.sha256()
        for path in list_sounds(self.folder).paths:
            if self.system in ("", path.parent.name):
                facts = f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n"
                digest.update(facts.encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    @property
    def origin(self) -> Mapping[str, Any]:
        """The folder and the system in it."""
        return {"estimates": str(self.folder.resolve()), "system": self.system}

    def estimate(self, example: Example) -> Estimate:
        """Read the estimates of one example; each must be as long as the mixture."""
        paths = self._paths(example.identifier)
        if len(paths) < len(example.references):
            raise FileNotFoundError(
                f"{self.folder}: {len(paths)} of {len(example.references)} estimates of "
                f"'{example.identifier}' in it, e.g. {self._places(example.identifier)[0][0]}/s1.wav."
            )
        signals = []
        for path in paths:
            samples, _ = read_audio(path)
            if samples.shape != (1, len(example.mixture)):
                raise ValueError(
                    f"{path}: expected one channel of {len(example.mixture)} samples, as the mixture, got "
                    f"{samples.shape[0]} of {samples.shape[1]}."
                )
            signals.append(samples[0].numpy())
        return Estimate(np.stack(signals))

    def _places(self, item: str) -> list[tuple[Path, str]]:
        """Folders to search, each with the prefix of the file names before the number."""
        inside = self.folder / item / self.system
        return [
            (inside, "s"),
            (inside, "speaker"),
            (inside, "mix_speaker"),
            (self.folder, f"{item}_speaker"),
        ]

    def _paths(self, item: str) -> list[Path]:
        for folder, prefix in self._places(item):
            found: list[Path] = []
            while path := _find(folder, f"{prefix}{len(found) + 1}"):
                found.append(path)
            if not found and prefix != "s" and (path := _find(folder, prefix.replace("speaker", "speech"))):
                found.append(path)
            if found:
                return found
        return []


def write_estimates(folder: Path, identifier: str, estimates: Samples, sample_rate: int) -> None:
    """Write the estimates of one utterance, in the order of its references, as a ``FolderSystem`` reads them.

    Estimates that are not finite are left out; their scores give the reason.

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
    """Load models by path or name, each under a unique name.

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
            f"{folder}: no estimates; expected <item>/<system>/s1.wav (or .flac) in every item, or what "
            "`polsess separate` writes. Files beside a mixture are references."
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
    """The systems with estimates of every item, sorted; ``""`` for files that no folder of a system holds."""
    items = list_items(folder)
    if not items and not any(folder.glob("*_speaker1.*")) and not any(folder.glob("*_speech.*")):
        raise ConfigError(
            f"{folder}: no estimates in it, expected <item>/<system>/s1.wav, or <item>_speaker1.wav as "
            "`polsess separate` writes them."
        )
    if not items:
        return [""]
    inside = [{path.name for path in (folder / item).iterdir() if path.is_dir()} for item in items]
    names = [
        name
        for name in sorted(set.intersection(*inside))
        if all(_has(folder / item / name, ("s1", "speaker1", "speech")) for item in items)
    ]
    # Beside folders of systems, or beside a mixture, s1 in the items themselves is a reference.
    are_references = bool(names) or any(_has(folder / item, ("mix",)) for item in items)
    stems = ("mix_speaker1", "mix_speech", *(() if are_references else ("s1", "speaker1", "speech")))
    return names or ([""] if all(_has(folder / item, stems) for item in items) else [])


def _has(folder: Path, stems: tuple[str, ...]) -> bool:
    return any(path.stem in stems for path in folder.iterdir())


def _find(folder: Path, stem: str) -> Path | None:
    """The sound file with a given name, if there is one; several are an error."""
    try:
        return find_sound(folder, stem)
    except FileNotFoundError:
        return None
