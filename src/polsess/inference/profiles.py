"""Assignment of outputs to speakers: one Gaussian of cepstra per voice, and the orders derived from them.

Each speaker is remembered as the mean and covariance of twelve mel cepstra over the frames in which that
speaker is alone or loudest (Bimbot, Magrin-Chagnolleau, Mathan: "Second-order statistical measures for
text-independent speaker identification", Speech Communication 17, 1995,
https://doi.org/10.1016/0167-6393(95)00013-E). Pieces of sound belong to one voice if a single Gaussian
describes them about as well as one each: the generalised likelihood ratio with the penalty of the Bayesian
information criterion (Chen, Gopalakrishnan: "Speaker, environment and channel change detection and clustering
via the Bayesian information criterion", DARPA Broadcast News Workshop 1998).

Shapes: C sources, T samples, L frames, D cepstra.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples, hann_window, magnitudes

_NUM_CEPSTRA = 12
_NUM_BANDS = 24
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 7600.0
_WINDOW_SECONDS = 0.032
_SPEECH_RANGE_DB = 25.0
"""Frames this far below the loud speech count as silent."""
_ABOVE_NOISE_DB = 6.0
_DOMINANCE_DB = 3.0
"""Louder than the other outputs by this much, a frame describes its speaker."""
_SHRINKAGE_FRAMES = 50.0
_VARIANCE_FLOOR = 0.01

_MAX_ROUNDS = 10
_NUM_PARAMETERS = _NUM_CEPSTRA * (_NUM_CEPSTRA + 3) / 2  # mean and covariance
_PENALTY = 0.5
_TOGETHER_FRAMES = 10
"""Voices that begin within a fifth of a second begin together."""


class CepstralFrames:
    """Short-time energies and cepstra of some outputs.

    Args:
        sources: ``[C, T]``.
        sample_rate: In Hz.
    """

    def __init__(self, sources: Samples, sample_rate: int) -> None:
        n_fft = 2 * round(_WINDOW_SECONDS * sample_rate / 2)
        padded = np.pad(sources, ((0, 0), (0, max(0, n_fft - sources.shape[-1]))))
        window = hann_window(n_fft)
        window /= np.sqrt(np.square(window).sum())  # so that the energy of a frame is its mean square
        power = np.square(magnitudes(padded, n_fft, n_fft // 2, window))  # [C, F, L]
        self.energy = power.mean(1)  # [C, L]
        bands = _mel_bands(n_fft, sample_rate) @ power
        floor = np.float32(1e-6) * np.maximum(bands.max((1, 2), keepdims=True), np.float32(1e-20))
        self.cepstra = (_cosines() @ np.log(bands + floor)).swapaxes(-1, -2)  # [C, L, D]

    def loud_level(self) -> float:
        """The energy of a loud frame of all outputs together."""
        return float(np.quantile(self.energy.sum(0), 0.95))

    def speech_threshold(self, loud_level: float) -> float:
        """Lowest energy of a frame of speech: near that of loud speech, and well above steady noise."""
        noise = float(np.quantile(self.energy.sum(0), 0.1))
        above_noise = min(noise * 10 ** (_ABOVE_NOISE_DB / 10), loud_level * 10 ** (-_ABOVE_NOISE_DB / 10))
        return max(loud_level * 10 ** (-_SPEECH_RANGE_DB / 10), above_noise)

    def speech(self, threshold: float) -> NDArray[np.bool_]:
        """Frames of each output that hold its speaker's voice, ``[C, L]`` bool."""
        others = self.energy.sum(0) - self.energy
        return (self.energy > threshold) & (self.energy > others * 10 ** (_DOMINANCE_DB / 10))


class SpeakerProfile:
    """Mean and covariance of the cepstra of one voice."""

    def __init__(self) -> None:
        self.num_frames = 0
        self._sum = np.zeros(_NUM_CEPSTRA)
        self._products = np.zeros((_NUM_CEPSTRA, _NUM_CEPSTRA))

    def add(self, cepstra: Samples) -> None:
        """Add frames ``[L, D]``."""
        exact = cepstra.astype(np.float64)
        self.num_frames += len(exact)
        self._sum = self._sum + exact.sum(0)
        self._products = self._products + exact.T @ exact

    def __add__(self, other: SpeakerProfile) -> SpeakerProfile:
        """The profile of the frames of both profiles."""
        return self._combined(other, 1)

    def __sub__(self, other: SpeakerProfile) -> SpeakerProfile:
        """The profile without the frames of the other profile."""
        return self._combined(other, -1)

    def _combined(self, other: SpeakerProfile, sign: int) -> SpeakerProfile:
        result = SpeakerProfile()
        result.num_frames = self.num_frames + sign * other.num_frames
        result._sum = self._sum + sign * other._sum
        result._products = self._products + sign * other._products
        return result

    def spread(self) -> float:
        """Spread of the frames: their number times the log-determinant of their covariance.

        The spreads of two profiles of one voice add up to about that of both together, those of two voices to
        less.
        """
        if self.num_frames == 0:
            return 0.0
        mean = self._sum / self.num_frames
        covariance = self._products / self.num_frames - np.outer(mean, mean)
        diagonal = np.diag(covariance.diagonal())
        weight = self.num_frames / (self.num_frames + _SHRINKAGE_FRAMES)  # few do not determine a shape
        floor = _VARIANCE_FLOOR * np.eye(_NUM_CEPSTRA)
        return self.num_frames * float(
            np.linalg.slogdet(weight * (covariance - diagonal) + diagonal + floor)[1]
        )


Voices = Sequence[SpeakerProfile]
Order = tuple[int, ...]


def two_best_orders(scores: NDArray[np.float64]) -> list[tuple[float, Order]]:
    """The two orders with the largest sums of ``scores[i, order[i]]``, the best first; one if there is one.

    Args:
        scores: ``[R, C]`` with R at most C; of more columns, each row takes its own.
    """
    rows = scores.tolist()
    totals = [
        (sum(row[j] for row, j in zip(rows, order, strict=True)), order)
        for order in itertools.permutations(range(scores.shape[1]), len(rows))
    ]
    return sorted(totals, key=lambda total: -total[0])[:2]


def order_stretches(stretches: Sequence[Voices]) -> list[Order]:
    """Put the outputs of every stretch in the order that keeps each speaker on one of them.

    The stretch with the most speech of every speaker is the first; the others join it in turn, and are then
    compared again with all others until nothing changes.

    Args:
        stretches: The profiles of the C outputs in each stretch of a recording.

    Returns:
        For each stretch, which of its outputs belongs to each speaker.
    """
    orders: list[Order] = [tuple(range(len(voices))) for voices in stretches]
    spoken = [index for index, voices in enumerate(stretches) if any(voice.num_frames for voice in voices)]
    if not spoken:
        return orders
    spoken.sort(key=lambda index: _content(stretches[index]), reverse=True)
    speakers = list(stretches[spoken[0]])
    for index in spoken[1:]:
        orders[index] = _best_order(speakers, stretches[index])
        speakers = _joined(speakers, stretches[index], orders[index])
    for _ in range(_MAX_ROUNDS):
        before = list(orders)
        for index in spoken:
            voices = stretches[index]
            own = zip(speakers, orders[index], strict=True)
            others = [speaker - voices[j] for speaker, j in own]
            orders[index] = _best_order(others, voices)
            speakers = _joined(others, voices, orders[index])
        if orders == before:
            break
    return orders


def in_order_of_onset(onsets: Sequence[int], places: Sequence[int]) -> Order:
    """The speakers in the order in which they begin to speak.

    Voices that begin together keep the order of the model's outputs, so that neither
    a difference of one frame nor rounding decides between them.

    Args:
        onsets: The frame in which each speaker begins.
        places: The output of the model that held each speaker when the first of them began.
    """
    waiting = sorted(range(len(onsets)), key=lambda speaker: places[speaker])
    order = []
    while waiting:
        begin = min(onsets[speaker] for speaker in waiting)
        order.append(next(each for each in waiting if onsets[each] <= begin + _TOGETHER_FRAMES))
        waiting.remove(order[-1])
    return tuple(order)


def _content(voices: Voices) -> tuple[int, int]:
    frames = [voice.num_frames for voice in voices]
    return min(frames), sum(frames)


def _joined(speakers: Voices, voices: Voices, order: Order) -> list[SpeakerProfile]:
    return [speaker + voices[j] for speaker, j in zip(speakers, order, strict=True)]


def _best_order(speakers: Voices, voices: Voices) -> Order:
    orders = itertools.permutations(range(len(voices)))
    return min(orders, key=lambda order: _cost(_joined(speakers, voices, order)))


def _cost(speakers: Voices) -> float:
    """Cost of describing the frames by one Gaussian per speaker."""
    total = sum(speaker.num_frames for speaker in speakers)
    penalty = _PENALTY * _NUM_PARAMETERS * math.log(max(total, 2))
    return sum(speaker.spread() + penalty for speaker in speakers if speaker.num_frames)


@functools.cache
def _mel_bands(n_fft: int, sample_rate: int) -> Samples:
    """Triangular bands, ``[bands, F]``."""
    highest = min(_HIGHEST_HZ, 0.975 * sample_rate / 2)
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (min(_LOWEST_HZ, highest / 2), highest))
    edges = 700 * (10 ** (np.linspace(low, high, _NUM_BANDS + 2) / 2595) - 1)
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bands = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return np.maximum(bands, 0.0).astype(np.float32)


@functools.cache
def _cosines() -> Samples:
    """Cosine transform without its constant row, so that the level does not matter, ``[D, bands]``."""
    rows = np.arange(1, _NUM_CEPSTRA + 1)[:, None]
    columns = np.arange(_NUM_BANDS) + 0.5
    cosines = np.cos(math.pi / _NUM_BANDS * rows * columns) * math.sqrt(2 / _NUM_BANDS)
    return cosines.astype(np.float32)
