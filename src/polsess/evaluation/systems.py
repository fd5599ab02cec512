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

import numpy as np
import torch

from polsess.audio import Samples
from polsess.checkpoints import BUNDLED_MODELS, read_checkpoint
from polsess.costs import count_macs
from polsess.data import Example
from polsess.diarization import SpeakerTimeline
from polsess.files import sha256
from polsess.inference import Separation, Separator, source_names
from polsess.inference.hearing import NO_ENHANCER
from polsess.inference.separator import DETECTOR, EMBEDDER, ENHANCER
from polsess.models import SeparationModel
from polsess.onnx_files import is_onnx
from polsess.precision import Precision, choose_precision, name_of, reduced
from polsess.tasks import Task

LISTENERS = {"detector": DETECTOR, "embedder": EMBEDDER, "enhancer": ENHANCER}
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

    @classmethod
    def of(cls, separation: Separation[Any], num_speakers: int | None = None) -> Estimate:
        """What ``polsess separate`` makes of a mixture, and how many speakers it counted."""
        saved = 0.0 if separation.timeline is None else separation.timeline.saved_share
        tracks = np.asarray(separation.sources)
        return cls(tracks, separation.names, separation.timeline, saved, num_speakers)


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
            option: absolute_source(value) if option in LISTENERS and value else value
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
        networks = [options.pop(key, None) or name for key, name in LISTENERS.items()]
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
        counted = None if separation.count is None else separation.count.number
        if counted is None and counts_speakers(self) and separation.timeline is not None:
            counted = len(separation.timeline.speakers)  # by the gate
        return Estimate.of(separation, counted)


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
    if source == NO_ENHANCER:
        return source
    if is_onnx(source):
        return sha256(Path(source))
    checkpoint = read_checkpoint(source)
    return _digest(checkpoint.config.model_dump_json(), checkpoint.state)


def absolute_source(source: str) -> str:
    """A source of weights so that it means the same in every working folder."""
    return str(Path(source).resolve()) if source not in BUNDLED_MODELS and Path(source).exists() else source


def names_of_tracks(num_tracks: int, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the tracks of a system; those that it did not give follow its own."""
    return (*given, *source_names(max(2, num_tracks))[len(given) :])[:num_tracks]
