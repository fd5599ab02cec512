"""Systems to evaluate, and models as such.

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

import torch

from polsess.audio import Samples
from polsess.checkpoints import BUNDLED_MODELS, read_checkpoint
from polsess.checkpoints.building import build_model
from polsess.costs import count_macs
from polsess.data import Example
from polsess.diarization import SpeakerTimeline
from polsess.files import sha256
from polsess.inference import Separator, pick_device, source_names
from polsess.inference.separator import DETECTOR, EMBEDDER
from polsess.models import SeparationModel
from polsess.models.combination import combine
from polsess.precision import Precision, choose_precision, name_of, reduced
from polsess.schema import ConfigError
from polsess.tasks import Task

_LISTENERS = {"detector": DETECTOR, "embedder": EMBEDDER}
"""Networks of the package by the option that names another."""


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
    num_speakers: int | None = None
    """How many speakers it counted; None from a system that does not count."""


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
        precision: Of its products, see ``polsess.precision``.
    """

    def __init__(
        self,
        model: SeparationModel,
        name: str,
        device: str | torch.device = "cpu",
        source: str = "",
        task: Task | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.model = model.to(device).eval()
        self.device = torch.device(device)
        self._dtype = choose_precision(precision, model.inference_dtype, self.device)
        self.name = name
        self.source = source
        self.task = task

    @property
    def identity(self) -> str:
        """A digest of configuration and weights, and of a reduced precision."""
        digest = _digest(self.model.config.model_dump_json(), self.model.state_dict())
        return digest if self._dtype == torch.float32 else f"{digest}-{self.precision}"

    @cached_property
    def origin(self) -> Mapping[str, Any]:
        """Path or id, the number of parameters, and multiply-accumulates per second of sound."""
        costs = {
            "parameters": sum(each.numel() for each in self.model.parameters()),
            "macs_per_second": round(count_macs(self.model).per_second),
        }
        precision = {"precision": self.precision} if self._dtype != torch.float32 else {}
        return ({"model": self.source} if self.source else {}) | costs | precision

    @property
    def precision(self) -> Precision:
        """The type in which its products are computed."""
        return name_of(self._dtype)

    @property
    def sample_rate(self) -> int:
        """The rate in Hz that the model was made for."""
        return self.model.sample_rate

    @property
    def num_sources(self) -> int | None:
        """C."""
        return self.model.output_sources

    @torch.inference_mode()
    def estimate(self, example: Example) -> Estimate:
        """Separate the mixture of one example in one pass through the network."""
        with reduced(self.device, self._dtype):
            estimates, counts = self.model.separate_counted(example.mixture.to(self.device).unsqueeze(0))
        tracks = estimates[0].float().cpu().numpy()
        counted = None if counts is None else int(counts.numbers)
        return Estimate(tracks[0] if len(tracks) == 1 else tracks, saved_share=0.0, num_speakers=counted)

    def on(self, device: str) -> ModelSystem:
        """The same model on another device."""
        return ModelSystem(self.model, self.name, device, self.source, self.task, self.precision)

    def as_separate(self, **options: Any) -> SeparatorSystem:
        """The same model as ``polsess separate`` runs it.

        Args:
            **options: Options of ``Separator``.
        """
        return SeparatorSystem(self, **options)


class SeparatorSystem(ModelSystem):
    """A model as ``polsess separate`` runs it: in pieces, and with the options of ``Separator``.

    Args:
        system: The model as such.
        **options: Options of ``Separator``; networks that listen as names, folders or files.
    """

    def __init__(self, system: ModelSystem, **options: Any) -> None:
        super().__init__(
            system.model, system.name, system.device, system.source, system.task, system.precision
        )
        self.options = {
            option: _absolute(value) if option in _LISTENERS and value else value
            for option, value in options.items()
        }
        self._separator = Separator(self.model, device=str(self.device), precision=self.precision, **options)

    def on(self, device: str) -> ModelSystem:
        """The same model and options on another device."""
        return super().on(device).as_separate(**self.options)

    @cached_property
    def identity(self) -> str:
        """A digest of configuration, weights, options, and the networks that say who talks when."""
        options, parts = dict(self.options), [super().identity]
        networks = [options.pop(key, None) or name for key, name in _LISTENERS.items()]
        parts.append(str(sorted(options.items())))
        if self._separator.gate != "never":
            parts += map(_digest_of_listener, networks)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    @property
    def origin(self) -> Mapping[str, Any]:
        """As that of the model, and the options under ``separator``."""
        return {**super().origin, "separator": self.options}

    @property
    def num_sources(self) -> int | None:
        """C; None where a gate finds as many voices as there are."""
        return None if self._separator.gate != "never" else super().num_sources

    def estimate(self, example: Example) -> Estimate:
        """Separate the mixture of one example."""
        separation = self._separator.separate(example.mixture, self.sample_rate)
        saved = 0.0 if separation.timeline is None else separation.timeline.saved_share
        counted = None if separation.count is None else separation.count.number
        if counted is None and counts_speakers(self) and separation.timeline is not None:
            counted = len(separation.timeline.speakers)  # by the gate
        return Estimate(separation.sources.numpy(), separation.names, separation.timeline, saved, counted)


def counts_speakers(system: System) -> bool:
    """Whether a system says how many speakers there are."""
    return isinstance(system, ModelSystem) and system.model.counts_speakers


def _digest(config: str, weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(config.encode())
    for key, tensor in weights.items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _digest_of_listener(source: str) -> str:
    """A digest of a network that says who talks when: of an ONNX file, or of configuration and weights."""
    if Path(source).suffix.lower() == ".onnx":
        return sha256(Path(source))
    checkpoint = read_checkpoint(source)
    return _digest(checkpoint.config.model_dump_json(), checkpoint.state)


def open_models(
    sources: Sequence[str], device: str = "auto", precision: Precision = "float32"
) -> list[System]:
    """Load models by path or name, each under a unique name.

    Raises:
        CheckpointError: If weights cannot be used.
    """
    chosen = pick_device(device)
    names = distinct_names(sources)
    return [_open_model(source, name, chosen, precision) for source, name in zip(sources, names, strict=True)]


def open_combined(
    sources: Sequence[str],
    device: str = "auto",
    precision: Precision = "float32",
    *,
    ensemble: bool = False,
    num_shifts: int = 1,
    then: str | None = None,
) -> list[System]:
    """As ``open_models``, each model averaged over shifts and followed by another, or all as one ensemble.

    Raises:
        CheckpointError: If weights cannot be used.
        ValueError: If they do not fit together.
    """
    if not ensemble and num_shifts == 1 and then is None:
        return open_models(sources, device, precision)
    chosen = pick_device(device)
    groups = [list(sources)] if ensemble else [[source] for source in sources]
    names = distinct_names(sources)
    last = None if then is None else _open_model(then, distinct_names([then])[0], chosen, precision)
    systems: list[System] = []
    for group in groups:
        members = [_open_model(each, names[sources.index(each)], chosen, precision) for each in group]
        name = "+".join(each.name for each in members)
        name += f"-shifts{num_shifts}" if num_shifts != 1 else ""
        name += f"-then-{last.name}" if last else ""
        model = combine(
            [each.model for each in members], num_shifts=num_shifts, then=last.model if last else None
        )
        separates = last is None or members[0].model.output_sources > 1
        task = members[0].task if separates or last is None else last.task
        systems.append(ModelSystem(model, name, chosen, task=task, precision=precision))
    return systems


def _open_model(source: str, name: str, device: torch.device, precision: Precision) -> ModelSystem:
    checkpoint = read_checkpoint(source)
    model = build_model(checkpoint.config, checkpoint.state, source)
    task = Task(checkpoint.task) if checkpoint.task in set(Task) else None
    return ModelSystem(model, name, device, _absolute(source), task, precision)


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


def names_of_tracks(num_tracks: int, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the tracks of a system; those that it did not give follow its own."""
    return (*given, *source_names(max(2, num_tracks))[len(given) :])[:num_tracks]
