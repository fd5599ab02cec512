"""Networks in ONNX files as systems to evaluate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polsess.data import Example
from polsess.evaluation.systems import LISTENERS, Estimate, absolute_source
from polsess.files import sha256
from polsess.inference.onnx_networks import OnnxEstimator
from polsess.inference.onnx_separator import Separator
from polsess.tasks import Task


class OnnxSystem:
    """A separation network that ``polsess export`` wrote, fed one whole utterance at a time.

    Args:
        path: The ONNX file.
        name: Names the result.
        options: Of ``polsess.runtime.Separator``, to run it as that does, in pieces; None for one pass.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it is not such a network.
        ModuleNotFoundError: If onnxruntime is not installed.
        ValueError: If an option is out of range.
    """

    task: Task | None = None

    def __init__(self, path: str | Path, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.path, self.name, self.options = Path(path).resolve(), name, options
        self._network = OnnxEstimator(self.path)
        self._separator = None if options is None else Separator.from_onnx(self.path, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxSystem, (self.path, self.name, self.options)

    @property
    def sample_rate(self) -> int | None:
        """The rate in Hz that the network was made for."""
        return self._network.sample_rate

    @property
    def num_sources(self) -> int | None:
        """C; None where a gate finds as many voices as there are."""
        gated = self._separator is not None and self._separator.gate != "never"
        return None if gated else self._network.output_sources

    @property
    def identity(self) -> str:
        """A digest of the files of the networks, and of the options."""
        paths = (self.path,) if self._separator is None else self._separator.files
        options = "" if self.options is None else str(sorted(self.options.items()))
        return hashlib.sha256(" ".join([*map(sha256, paths), options]).encode()).hexdigest()[:16]

    @property
    def origin(self) -> Mapping[str, Any]:
        """The file, and the options under ``separator``."""
        return {"model": str(self.path)} | ({} if self.options is None else {"separator": self.options})

    def as_separate(self, **options: Any) -> OnnxSystem:
        """The same network as ``polsess separate`` runs it.

        Args:
            **options: Of ``polsess.runtime.Separator``; the gate ``"auto"`` is used where the networks that
                listen are there.
        """
        ours = {"gate": "auto"}
        chosen = {key: value for key, value in options.items() if value not in (None, ours.get(key))}
        listeners = {key: absolute_source(chosen[key]) for key in LISTENERS if key in chosen}
        return OnnxSystem(self.path, self.name, chosen | listeners)

    def estimate(self, example: Example) -> Estimate:
        """The tracks of one example."""
        mixture = example.mixture.numpy()
        if self._separator is not None:
            return Estimate.of(self._separator.separate(mixture, self.sample_rate))
        tracks = self._network.estimate(mixture[None])[0]
        return Estimate(tracks[0] if len(tracks) == 1 else tracks, saved_share=0.0)
