"""Networks in ONNX files of ``polsess export``: checked when they are opened, run by onnxruntime.

Shapes: B batch, C sources, T samples, L frames, D dimensions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polsess.audio import Samples
from polsess.config_error import ConfigError
from polsess.onnx_files import check_waveform_input, create_session, read_onnx, run_session

_HIGHEST_RATE, _MOST_SOURCES = 768_000, 64


class OnnxNetwork:
    """A file that ``polsess export`` wrote, of one kind of network.

    Args:
        path: The file.
        kind: What it has to be.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it is no ONNX file, is cut off, or was not written by ``polsess export``, or holds a
            network of another kind.
        ModuleNotFoundError: If onnxruntime is not installed.
    """

    def __init__(self, path: Path | str, kind: str) -> None:
        self.path = Path(path)
        self._session = create_session(read_onnx(self.path), self.path, "Running ONNX files")
        self._facts: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if self._facts.get("polsess_format") != "1":
            raise ConfigError(f"{self.path}: was not written by polsess export; export the network with it.")
        found = self._facts.get("kind", "")
        if found.startswith("stream of "):
            raise ConfigError(
                f"{self.path}: takes a sound push by push; export with --to onnx for whole sounds, "
                "or run `polsess stream` with the checkpoint."
            )
        if found != kind:
            raise ConfigError(f"{self.path}: holds a {found}, expected a {kind}.")
        check_waveform_input(self._session, self.path)
        self.sample_rate = self._whole_number("sample_rate", _HIGHEST_RATE)

    def _whole_number(self, key: str, most: int) -> int:
        text = self._facts.get(key, "")
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
            raise ConfigError(f"{self.path}: {key} in its metadata is {text!r}; export the network again.")
        return int(text)

    def run(self, samples: Samples) -> Samples:
        """The output for samples ``[B, T]``."""
        return run_session(self._session, np.ascontiguousarray(samples), self.path)


class OnnxEstimator(OnnxNetwork):
    """A separation network."""

    place, precision = "cpu", "float32"

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, "separation model")
        self.output_sources = self._whole_number("num_sources", _MOST_SOURCES)
        self.model_type = self._facts.get("model_type", "onnx")
        self._shortest = self._whole_number("minimum_samples", _HIGHEST_RATE)

    def estimate(self, mixtures: Samples) -> Samples:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``; short ones are zero-padded for the network."""
        length = mixtures.shape[-1]
        padded = np.pad(mixtures, ((0, 0), (0, max(0, self._shortest - length))))
        estimates = self.run(padded)
        expected = (len(mixtures), self.output_sources, padded.shape[-1])
        if estimates.shape != expected:
            raise ConfigError(
                f"{self.path}: gives {list(estimates.shape)}, expected {list(expected)}; export it again."
            )
        return estimates[..., :length]


class OnnxDetector(OnnxNetwork):
    """A network that says how many talk."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, "speech activity detector")
        try:
            self.hop_seconds = float(self._facts.get("hop_seconds", ""))
        except ValueError:
            self.hop_seconds = 0.0
        if not 1e-4 <= self.hop_seconds <= 1.0:
            raise ConfigError(f"{self.path}: has no hop_seconds in its metadata; export the network again.")

    def detect(self, samples: Samples) -> Samples:
        """Probabilities of nobody, one and several ``[B, L, 3]`` in samples ``[B, T]``."""
        output, count = self.run(samples), len(samples)
        if output.ndim != 3 or (len(output), output.shape[2]) != (count, 3) or not np.isfinite(output).all():
            found = list(output.shape) if np.isfinite(output).all() else "NaN or infinity"
            raise ConfigError(
                f"{self.path}: gives {found}, expected probabilities [{count}, L, 3]; export it again."
            )
        return output
