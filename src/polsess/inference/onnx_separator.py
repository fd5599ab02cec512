"""Separation of recordings by networks in ONNX files; all but the networks is in ``polsess.inference``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from polsess.audio import Samples
from polsess.inference.hearing import NO_ENHANCER, Listeners, name_listeners
from polsess.inference.long_form import LongFormSeparator
from polsess.inference.network import Estimator
from polsess.inference.onnx_networks import OnnxDetector, OnnxEstimator, OnnxNetwork
from polsess.onnx_files import EmbedderFile

DETECTOR, EMBEDDER = "activity-detector.onnx", "speaker-embedder.onnx"
ENHANCER = "enhance-one-streaming.onnx"
"""Files of the networks that listen, beside the separation network's."""


class Separator(LongFormSeparator[Samples]):
    """Separates recordings with networks in ONNX files, without torch.

    Args:
        estimator: The separation network.
        listeners: The networks that say who speaks when; None where there are none, and nothing is gated.
        gate: As ``LongFormSeparator`` takes it; without listeners there is only ``"never"``.
        **options: ``segment_seconds``, ``overlap``, ``channels``, ``batch_size``, ``num_speakers`` and
            ``gate_config``, as ``LongFormSeparator`` takes them.

    Raises:
        ValueError: If an option is out of range, or there is a gate without listeners.
    """

    def __init__(
        self,
        estimator: OnnxEstimator,
        listeners: Listeners | None = None,
        *,
        gate: str | None = None,
        **options: Any,
    ) -> None:
        if gate is None:
            gate = "never" if listeners is None else "auto"
        if gate != "never" and listeners is None and estimator.output_sources > 1:
            raise ValueError(
                f"gate: {gate!r} needs the networks that listen; put {DETECTOR} and {EMBEDDER} beside "
                f"{estimator.path} (polsess export activity-detector, polsess export speaker-embedder), or "
                "choose never."
            )
        super().__init__(estimator.output_sources, gate=gate, **options)  # type: ignore[arg-type]
        self._onnx, self._onnx_listeners = estimator, listeners
        heard_by = listeners and (listeners.detector, listeners.embedder, listeners.enhancer)
        networks = (estimator, *(heard_by or ()))
        self.files = tuple(each.path for each in networks if isinstance(each, OnnxNetwork | EmbedderFile))
        """The ONNX files of the networks."""

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        *,
        detector: str | Path | None = None,
        embedder: str | Path | None = None,
        enhancer: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Open files that ``polsess export`` wrote.

        Args:
            path: The separation network.
            detector: Says how many talk; None for ``activity-detector.onnx`` beside the separation network,
                if it is there.
            embedder: Says whose voice it is, any file that ``EmbedderFile`` takes; None for
                ``speaker-embedder.onnx`` there.
            enhancer: Takes noise and rooms out of what both hear; None for ``enhance-one-streaming.onnx``
                there, or none if it is not; ``"none"`` for the recording as it is.
            **options: The other options of the class. The gate is ``"auto"`` where detector and embedder are
                there, else ``"never"``, unless it is given.

        Raises:
            FileNotFoundError: If there is no such file.
            ConfigError: If a file is no ONNX file of ``polsess export``, or of another kind.
            ModuleNotFoundError: If onnxruntime is not installed.
            ValueError: If an option is out of range.
        """
        estimator = OnnxEstimator(path)
        heard = Path(detector or estimator.path.with_name(DETECTOR))
        known = Path(embedder or estimator.path.with_name(EMBEDDER))
        cleared = Path(enhancer or estimator.path.with_name(ENHANCER))
        gate = "never" if estimator.output_sources == 1 else str(options.get("gate"))
        named = name_listeners(gate, detector=detector, embedder=embedder, enhancer=enhancer)
        if gate == "never" or not (named or (heard.is_file() and known.is_file())):
            return cls(estimator, **options)
        if enhancer is None and not cleared.is_file():
            enhancer = NO_ENHANCER
        enhancing = None if str(enhancer) == NO_ENHANCER else OnnxEstimator(cleared)
        separator = cls(estimator, Listeners(OnnxDetector(heard), EmbedderFile(known), enhancing), **options)
        separator.named_listeners = named | ({} if enhancing else {"enhancer": NO_ENHANCER})
        return separator

    def __repr__(self) -> str:
        onnx = self._onnx
        return f"{type(self).__name__}({onnx.path}, {onnx.model_type}, {onnx.sample_rate} Hz)"

    def _estimator(self) -> Estimator:
        return self._onnx

    def _listeners(self) -> Listeners:
        assert self._onnx_listeners is not None  # the gate asks for them
        return self._onnx_listeners

    def _given_back(self, sources: Samples) -> Samples:
        return sources
