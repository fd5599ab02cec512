"""The networks that say who speaks when, run over a stored recording block by block.

Shapes: B batch, T samples, L frames, N pieces, D dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples, resample
from polsess.diarization.clustering import Embeddings
from polsess.diarization.regions import Frames

_BLOCK_SECONDS, _MARGIN_SECONDS = 30.0, 2.0
"""The detector hears blocks, with what comes before and after them."""
_SILENT_DB = -50.0
"""Frames this far below the loud ones hold no speech, whatever the detector says."""
_SHORTEST_SECONDS = 0.3
"""Shorter pieces are repeated for the embedder."""
_PIECES_AT_ONCE = 4
"""Pieces of one length that the embedder hears together, which takes less time than one after the other."""

Read = Callable[[int, int], Samples]
"""Gives the samples from one to behind another, ``[T]``."""


class Detector(Protocol):
    """Says how many talk, whatever runs it."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    @property
    def hop_seconds(self) -> float:
        """From one frame to the next."""

    def detect(self, samples: Samples) -> Samples:
        """Probabilities of nobody, one and several ``[L, 3]`` in samples ``[T]``."""


class Embedder(Protocol):
    """Says whose voice it is, whatever runs it."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    def embed(self, samples: Samples) -> Embeddings:
        """The embeddings ``[B, D]``, of unit length, of samples ``[B, T]``."""


def name_listeners(gate: str, **given: object) -> dict[str, str]:
    """The names of networks that listen in place of those of the package, by option.

    Args:
        gate: Of the separator.
        **given: A name, folder or file by option; None where it is not given, or any network.

    Raises:
        ValueError: If one is given where nobody listens.
    """
    for option, network in given.items():
        if network is not None and gate == "never":
            raise ValueError(
                f"{option}: nobody listens for voices with the gate never or a model with one output; leave "
                "it out."
            )
    return {option: Path(each).name for option, each in given.items() if isinstance(each, str | Path)}


class Hearing:
    """Both networks, for sound at a given rate.

    Args:
        detector: Says how many talk.
        embedder: Says whose voice it is.
        sample_rate: Of the sound, in Hz.
    """

    def __init__(self, detector: Detector, embedder: Embedder, sample_rate: int) -> None:
        self._detector, self._embedder, self._rate = detector, embedder, sample_rate
        self.hop_seconds = detector.hop_seconds

    def sample(self, frame: int) -> int:
        """The first sample of a frame."""
        return round(frame * self.hop_seconds * self._rate)

    def num_frames(self, num_samples: int) -> int:
        """L for T samples."""
        return max(1, int(np.ceil(num_samples / self._rate / self.hop_seconds)))

    def activity(
        self, read: Read, num_samples: int, progress: Callable[[float], None]
    ) -> NDArray[np.float32]:
        """Probabilities of nobody, one and several ``[L, 3]``.

        Args:
            read: The recording, mixed to one channel.
            num_samples: Its length T.
            progress: Called with the share that is done.
        """
        count = self.num_frames(num_samples)
        block, margin = (round(seconds / self.hop_seconds) for seconds in (_BLOCK_SECONDS, _MARGIN_SECONDS))
        probabilities = np.zeros((count, 3), np.float32)
        energies = np.zeros(count, np.float32)
        for first in range(0, count, block):
            last, begin = min(first + block, count), max(0, first - margin)
            samples = read(self.sample(begin), min(self.sample(last + margin), num_samples))
            heard = self._detector.detect(self._at_rate(samples, self._detector.sample_rate))
            found = heard[first - begin : last - begin]
            probabilities[first : first + len(found)] = found
            probabilities[first + len(found) : last, 0] = 1.0
            edges = [self.sample(frame) - self.sample(begin) for frame in range(first, last + 1)]
            sums = np.pad(np.square(samples.astype(np.float64)).cumsum(), (1, 0))
            energies[first:last] = np.diff(sums[np.minimum(edges, len(samples))])
            progress(last / count)
        silent = energies <= np.quantile(energies, 0.95) * 10 ** (_SILENT_DB / 10)
        probabilities[silent] = (1.0, 0.0, 0.0)
        return probabilities

    def embed_pieces(
        self, read: Read, pieces: Sequence[Frames], progress: Callable[[float], None]
    ) -> Embeddings:
        """Embeddings of stretches of the recording ``[N, D]``."""
        of_length = defaultdict(list)
        for index, (first, last) in enumerate(pieces):
            of_length[self.sample(last) - self.sample(first)].append(index)
        embeddings: dict[int, Embeddings] = {}
        for length, places in of_length.items():
            for start in range(0, len(places), _PIECES_AT_ONCE):
                batch = places[start : start + _PIECES_AT_ONCE]
                samples = np.zeros((len(batch), length), np.float32)
                for row, index in zip(samples, batch, strict=True):
                    piece = read(*map(self.sample, pieces[index]))
                    row[: len(piece)] = piece  # the last frame of the recording may reach beyond it
                embeddings.update(zip(batch, self.embed(samples), strict=True))
                progress(len(embeddings) / len(pieces))
        return np.stack([embeddings[index] for index in range(len(pieces))])

    def embed(self, samples: Samples) -> Embeddings:
        """The embeddings ``[B, D]`` of samples ``[B, T]``."""
        shortest, length = round(_SHORTEST_SECONDS * self._rate), samples.shape[-1]
        if not length:
            samples = np.zeros((len(samples), shortest), np.float32)
        elif length < shortest:
            samples = np.tile(samples, -(-shortest // length))
        return self._embedder.embed(self._at_rate(samples, self._embedder.sample_rate))

    def _at_rate(self, samples: Samples, rate: int) -> Samples:
        return resample(np.ascontiguousarray(samples), self._rate, rate)
