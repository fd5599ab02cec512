"""Separation of recordings with a model of torch; all but the networks themselves is in ``long_form``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from polsess.audio import Samples, as_tensor
from polsess.checkpoints import DEFAULT_MODEL, load_embedder, load_model
from polsess.devices import pick_device
from polsess.inference.hearing import NO_ENHANCER, Listeners, name_listeners
from polsess.inference.long_form import LongFormSeparator
from polsess.inference.network import Estimator
from polsess.inference.side_by_side import Threads
from polsess.inference.torch_networks import (
    TorchCountingEstimator,
    TorchDetector,
    TorchEmbedder,
    TorchEstimator,
    torch_defaults,
    torch_threads,
    usual_batch,
)
from polsess.models import ActivityDetector, SeparationModel, SpeakerEmbedder
from polsess.precision import Precision, choose_precision, name_of

DETECTOR, EMBEDDER, ENHANCER = "activity-detector", "speaker-embedder", "enhance-one-streaming"
"""Bundled networks that say how many talk, and whose voice it is, and the one through which both hear."""


class Separator(LongFormSeparator[Tensor]):
    """Separates recordings with a model.

    Args:
        model: Any registered model; it is moved to the device and put in evaluation mode.
        device: ``"auto"`` for CUDA, else Apple's MPS, else the CPU; or a device's name.
        precision: ``"auto"`` computes products in bfloat16 where the device has instructions for it and the
            model loses nothing that can be heard, else in float32; or ``"float32"``, ``"bfloat16"``,
            ``"float16"``. The attribute ``precision`` and the results say what ran.
        batch_size: Pieces per pass through the network; None for 8 on CUDA, else for as many as the network
            is made for on a CPU, 1 for most.
        detector: Says how many talk: a network, or its name, folder or file; None for the one of the package.
        embedder: Says whose voice it is, likewise; also an ONNX file, as ``load_embedder`` takes it.
        enhancer: Takes noise and rooms out of what both hear, likewise; ``"none"`` for the recording as it
            is.
        **options: ``segment_seconds``, ``overlap``, ``channels``, ``gate``, ``num_speakers`` and
            ``gate_config``, as ``LongFormSeparator`` takes them.

    Raises:
        CheckpointError: If a network that is named cannot be loaded.
        ValueError: If an option is out of range, there is no such device, or a network is to listen where
            nothing is gated.

    Examples:
        >>> separator = Separator.from_pretrained()  # doctest: +SKIP
        >>> separator.separate("meeting.flac").save("speakers")  # doctest: +SKIP
    """

    _listens_anyway = False
    """Whether voices are heard without a gate, too."""

    def __init__(
        self,
        model: SeparationModel,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int | None = None,
        detector: ActivityDetector | str | Path | None = None,
        embedder: SpeakerEmbedder | str | Path | None = None,
        enhancer: SeparationModel | str | Path | None = None,
        **options: Any,
    ) -> None:
        self.device = pick_device(device)
        super().__init__(
            model.output_sources,
            counts_speakers=model.counts_speakers,
            batch_size=usual_batch(model, self.device) if batch_size is None else batch_size,
            **options,
        )
        gate = "always" if self._listens_anyway else self.gate
        given: dict[str, Any] = {"detector": detector, "embedder": embedder, "enhancer": enhancer}
        self.named_listeners = name_listeners(gate, **given)
        self._dtype = choose_precision(precision, model.inference_dtype, self.device)
        self.precision = name_of(self._dtype)
        self.model = model.to(self.device).eval()
        self._given = {option: network for option, network in given.items() if network is not None}
        if self._given:
            self._heard_by = self._listeners()  # so that what cannot be loaded is known at once

    @classmethod
    def from_pretrained(
        cls, model: str | Path = DEFAULT_MODEL, *, device: str = "auto", **options: Any
    ) -> Self:
        """Load a model and create a separator from it.

        Args:
            model: A folder, a file or a hub id, as for ``polsess.checkpoints.load_model``; ``"default"`` is
                the small model of the package.
            device: As in the class.
            **options: The other options of the class.

        Raises:
            CheckpointError: If the model cannot be loaded.
        """
        return cls(load_model(model), device=device, **options)

    def __repr__(self) -> str:
        model = self.model
        return f"{type(self).__name__}({model.config.model_type}, {model.sample_rate} Hz, {self.device})"

    def _estimator(self) -> Estimator:
        kind = TorchCountingEstimator if self.model.counts_speakers else TorchEstimator
        return kind(self.model, self.device, self._dtype)

    def _listeners(self) -> Listeners:
        return open_listeners(self.device, **self._given)

    def _threads(self) -> Threads:
        return torch_threads(self.device)

    def _given_back(self, sources: Samples) -> Tensor:
        return as_tensor(sources)


def open_listeners(
    device: torch.device,
    *,
    detector: ActivityDetector | str | Path = DETECTOR,
    embedder: SpeakerEmbedder | str | Path = EMBEDDER,
    enhancer: SeparationModel | str | Path = ENHANCER,
) -> Listeners:
    """The networks that say who speaks when, loaded where a name, folder or file is given.

    Args:
        device: Where they run.
        detector: As of ``Separator``, likewise the others.
        embedder: Also an ONNX file.
        enhancer: Also ``"none"``.

    Raises:
        CheckpointError: If one cannot be loaded.
        ValueError: If the enhancer has several outputs.
    """
    with torch_defaults():
        if isinstance(detector, str | Path):
            detector = load_model(detector, kind=ActivityDetector)
        if isinstance(embedder, str | Path):
            embedder = load_embedder(embedder)
        heard_by = TorchDetector(detector, device), TorchEmbedder(embedder, device)
        if enhancer == NO_ENHANCER:
            return Listeners(*heard_by, None)
        if isinstance(enhancer, str | Path):
            enhancer = load_model(enhancer, kind=SeparationModel)
        return Listeners(*heard_by, TorchEstimator(enhancer.to(device).eval(), device))
