"""What an export must show before it is written: outputs like the network's own, and scores as good.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polsess.audio import Samples, read_audio, resample
from polsess.data.mini import MIXTURES
from polsess.models import SeparationModel
from polsess.models.network import Network
from polsess.signal_ratios import si_snr

LARGEST_ERROR, LARGEST_LOSS_DB = 1e-4, 0.3
"""What float32 may differ by, as a share of the loudest sample where that is above 1; what other precisions
may lose of SI-SNR."""
_LENGTHS_SECONDS = (0.3, 1.0, 1.37, 2.9)
_SPEECH_SECONDS = 4.0
_BEST_SI_SNR_DB = 30.0
"""More counts as this much: an enhancer that leaves clean speech as it is would lose what nobody hears."""

Run = Callable[[Samples], Samples]
"""An exported network: samples ``[B, T]`` to its output."""


@dataclass(frozen=True)
class Fidelity:
    """How near an export is to its network on one input."""

    what: str
    """The input."""
    largest_error: float
    """Largest difference of an output, as a share of the largest output where that is above 1."""
    fidelity_db: float | None
    """Level of the network's output over that of the difference; None for silence."""


@dataclass(frozen=True)
class Checks:
    """All that was compared."""

    of: tuple[Fidelity, ...]
    si_snr_loss_db: float | None
    """Loss of the mean SI-SNR on mixtures of recorded voices; None for networks that do not separate."""

    @property
    def largest_error(self) -> float:
        """On all inputs."""
        return max(each.largest_error for each in self.of)

    @property
    def fidelity_db(self) -> float:
        """On speech, the lowest."""
        return min(each.fidelity_db for each in self.of if each.fidelity_db is not None)

    def as_data(self) -> dict[str, Any]:
        """For the metadata of a file."""
        return {
            "largest_error": self.largest_error,
            "fidelity_db": round(self.fidelity_db, 1),
            "si_snr_loss_db": None if self.si_snr_loss_db is None else round(self.si_snr_loss_db, 3),
            "inputs": [asdict(each) for each in self.of],
        }


def compare(network: Network, reference: Run, exported: Run) -> Checks:
    """Compare an export with its network: at four lengths and batches, on silence, and on recorded speech.

    Args:
        network: Any.
        reference: Runs it.
        exported: Runs the export.

    Raises:
        ValueError: If the export fails on an input, or gives another shape.
    """
    found = [_fidelity(what, samples, reference, exported) for what, samples in _inputs(network.sample_rate)]
    losses = []
    for name, mixture, sources in _mixtures(network.sample_rate):
        found.append(_fidelity(name, mixture, reference, exported))
        if isinstance(network, SeparationModel):
            losses.append(_score(reference(mixture), sources) - _score(exported(mixture), sources))
    return Checks(tuple(found), float(np.mean(losses)) if losses else None)


def compare_streams(rate: int, reference: Run, exported: Run) -> Checks:
    """Compare an exported stream with the network's, on noise, silence and recorded speech.

    Args:
        rate: Of the network, in Hz.
        reference: Runs the stream of the network over samples ``[1, T]``.
        exported: Runs that of the export, with the same pushes.

    Raises:
        ValueError: If the export fails on an input, or gives another shape.
    """
    inputs = [(what, samples[:1]) for what, samples in _inputs(rate)]
    inputs += [(name, mixture) for name, mixture, _ in _mixtures(rate)]
    return Checks(tuple(_fidelity(what, samples, reference, exported) for what, samples in inputs), None)


def _inputs(rate: int) -> Iterator[tuple[str, Samples]]:
    random = np.random.default_rng(0)
    for number, seconds in enumerate(_LENGTHS_SECONDS):
        noise = 0.1 * random.standard_normal((1 + number % 3, round(seconds * rate)))
        yield f"noise of {seconds:g} s, batch of {len(noise)}", noise.astype(np.float32)
    yield "silence", np.zeros((1, rate), np.float32)


def _mixtures(rate: int) -> Iterator[tuple[str, Samples, Tensor]]:
    """Mixtures of recorded voices: name, samples ``[1, T]``, and their sources ``[2, T]``."""
    for folder in sorted((MIXTURES / ("8k" if rate < 16_000 else "16k")).iterdir()):
        if not folder.is_dir():
            continue
        sounds = []
        for name in ("mix", "s1", "s2"):
            sound, sound_rate = read_audio(folder / f"{name}.flac")
            sounds.append(resample(sound, sound_rate, rate)[0, : round(_SPEECH_SECONDS * rate)])
        yield f"speech, {folder.name}", sounds[0][None].numpy(), torch.stack(sounds[1:])


def _fidelity(what: str, samples: Samples, reference: Run, exported: Run) -> Fidelity:
    expected = reference(samples)
    try:
        found = exported(samples)
    except Exception as error:  # of whatever runs it
        reason = (str(error).splitlines() or [type(error).__name__])[-1][-200:]
        raise ValueError(f"it fails on {what} ({reason})") from None
    if found.shape != expected.shape:
        raise ValueError(f"of {what} it gives {list(found.shape)}, the network {list(expected.shape)}")
    difference, level = found - expected, float(np.square(expected).sum())
    largest = float(np.abs(difference).max()) / max(1.0, float(np.abs(expected).max()))
    if not math.isfinite(largest):
        raise ValueError(f"of {what} it gives NaN or infinity")
    db = (
        10 * math.log10(level / max(float(np.square(difference).sum()), 1e-20 * level)) if level > 0 else None
    )
    return Fidelity(what, largest, db)


def _score(estimates: Samples, sources: Tensor) -> float:
    """Mean SI-SNR in dB in the best order; one output is scored against the sum of the voices."""
    outputs = torch.from_numpy(np.ascontiguousarray(estimates[0]))
    if len(outputs) == 1:
        return _mean_score(outputs, sources.sum(0, keepdim=True))
    orders = itertools.permutations(range(len(outputs)), 2)
    return max(_mean_score(outputs[list(order)], sources) for order in orders)


def _mean_score(outputs: Tensor, sources: Tensor) -> float:
    return float(si_snr(outputs, sources).clamp(max=_BEST_SI_SNR_DB).mean())
