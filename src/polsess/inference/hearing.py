"""The networks that say who speaks when, run over a stored recording block by block.

Shapes: B batch, T samples, L frames, N pieces, D dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples, resample
from polsess.diarization.clustering import Embeddings
from polsess.diarization.regions import Frames
from polsess.diarization.settings import CLEARED_SHARE
from polsess.inference.network import Estimator
from polsess.inference.side_by_side import ONE_THREAD, Threads, side_by_side
from polsess.pace import Progress

NO_ENHANCER = "none"
"""Says that the others hear the recording as it is."""
_BLOCK_SECONDS, _MARGIN_SECONDS = 15.0, 2.0
"""Enhancer and detector hear blocks, with what comes before and after them."""
_BLOCKS_AT_ONCE = 3
"""Blocks that they hear together, which takes less time than one after the other."""
_SILENT_DB = -50.0
"""Frames this far below the loud ones hold no speech, whatever the detector says."""
_SHORTEST_SECONDS = 0.3
"""Shorter pieces are repeated for the embedder."""
_SECONDS_AT_ONCE = 10.0
"""Of pieces of one length that the embedder hears together, in less time than one after the other."""

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
        """Probabilities of nobody, one and several ``[B, L, 3]`` in samples ``[B, T]``."""


class Embedder(Protocol):
    """Says whose voice it is, whatever runs it."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    def embed(self, samples: Samples) -> Embeddings:
        """The embeddings ``[B, D]``, of unit length, of samples ``[B, T]``."""


@dataclass(frozen=True)
class Listeners:
    """The networks that say who speaks when."""

    detector: Detector
    """Says how many talk."""
    embedder: Embedder
    """Says whose voice it is."""
    enhancer: Estimator | None
    """Takes noise and rooms out of what both hear; None if they hear the recording as it is."""

    def __post_init__(self) -> None:
        if self.enhancer is not None and self.enhancer.output_sources != 1:
            raise ValueError(
                f"enhancer: expected a model with one output, got one with {self.enhancer.output_sources}."
            )


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


@dataclass(frozen=True)
class _Block:
    """Frames that are wanted, and the samples that are heard for them."""

    frames: Frames
    heard_from: int
    """The frame with which the samples begin."""
    samples: Frames


class Hearing:
    """The networks that listen, for sound at a given rate.

    Args:
        listeners: The networks.
        sample_rate: Of the sound, in Hz.
        threads: For calls of the networks.
    """

    def __init__(self, listeners: Listeners, sample_rate: int, threads: Threads = ONE_THREAD) -> None:
        self._listeners, self._rate, self._threads = listeners, sample_rate, threads
        self.hop_seconds = listeners.detector.hop_seconds

    def sample(self, frame: int) -> int:
        """The first sample of a frame."""
        return round(frame * self.hop_seconds * self._rate)

    def num_frames(self, num_samples: int) -> int:
        """L for T samples."""
        return max(1, int(np.ceil(num_samples / self._rate / self.hop_seconds)))

    def clear(self, read: Read, num_samples: int, progress: Progress) -> Iterator[Samples]:
        """The recording as the others hear it, with less of noise and rooms, part after part ``[n]``.

        Args:
            read: The recording, mixed to one channel.
            num_samples: Its length T.
            progress: Called with the share that is done.
        """
        for blocks, _, cleared in self._heard(self._cleared, read, num_samples):
            for block, row in zip(blocks, cleared, strict=True):
                first, last = (self.sample(frame) - block.samples[0] for frame in block.frames)
                yield row[first:last]
            progress(blocks[-1].frames[1] / self.num_frames(num_samples))

    def clear_all(self, samples: Samples) -> Samples:
        """Samples ``[T]`` as the others hear them."""
        parts = self.clear(lambda first, last: samples[first:last], len(samples), lambda _: None)
        return np.concatenate(list(parts))

    def _cleared(self, samples: Samples) -> Samples:
        enhancer = self._listeners.enhancer
        if enhancer is None:
            return samples
        sound = self._at_rate(samples, enhancer.sample_rate)
        noise = sound - enhancer.estimate(sound)[:, 0]
        taken_out = resample(noise, enhancer.sample_rate, self._rate)[:, : samples.shape[1]]
        cleared = samples.copy()
        cleared[:, : taken_out.shape[1]] -= np.float32(CLEARED_SHARE) * taken_out
        return cleared

    def _heard(
        self, hear: Callable[[Samples], Samples], read: Read, num_samples: int
    ) -> Iterator[tuple[list[_Block], Samples, Samples]]:
        """Blocks that are heard together, their samples ``[B, n]``, and what is made of these."""

        def taken() -> Iterator[tuple[list[_Block], Samples]]:
            for blocks in self._blocks(num_samples):
                yield blocks, np.stack([read(*block.samples) for block in blocks])

        def call(item: tuple[list[_Block], Samples]) -> tuple[list[_Block], Samples, Samples]:
            return *item, hear(item[1])

        return side_by_side(call, taken(), self._threads)

    def _blocks(self, num_samples: int) -> Iterator[list[_Block]]:
        """Blocks of a recording with their margins; those of one length are heard together."""
        count = self.num_frames(num_samples)
        size, margin = (round(seconds / self.hop_seconds) for seconds in (_BLOCK_SECONDS, _MARGIN_SECONDS))
        blocks = []
        for first in range(0, count, size):
            last = min(first + size, count)
            begin = max(0, first - margin)
            end = min(self.sample(last + margin), num_samples)
            blocks.append(_Block((first, last), begin, (self.sample(begin), end)))
        for _, alike in groupby(blocks, key=lambda block: block.samples[1] - block.samples[0]):
            together = list(alike)
            for start in range(0, len(together), _BLOCKS_AT_ONCE):
                yield together[start : start + _BLOCKS_AT_ONCE]

    def activity(self, read: Read, num_samples: int, progress: Progress) -> NDArray[np.float32]:
        """Probabilities of nobody, one and several ``[L, 3]``.

        Args:
            read: The recording as ``clear`` gives it.
            num_samples: Its length T.
            progress: Called with the share that is done.
        """
        count, detector = self.num_frames(num_samples), self._listeners.detector
        probabilities = np.zeros((count, 3), np.float32)
        energies = np.zeros(count, np.float32)

        def detect(samples: Samples) -> Samples:
            return detector.detect(self._at_rate(samples, detector.sample_rate))

        for blocks, samples, heard in self._heard(detect, read, num_samples):
            for block, row, sound in zip(blocks, heard, samples, strict=True):
                (first, last), begin = block.frames, block.samples[0]
                found = row[first - block.heard_from : last - block.heard_from]
                probabilities[first : first + len(found)] = found
                probabilities[first + len(found) : last, 0] = 1.0
                edges = [self.sample(frame) - begin for frame in range(first, last + 1)]
                sums = np.pad(np.square(sound.astype(np.float64)).cumsum(), (1, 0))
                energies[first:last] = np.diff(sums[np.minimum(edges, len(sound))])
            progress(blocks[-1].frames[1] / count)
        silent = energies <= np.quantile(energies, 0.95) * 10 ** (_SILENT_DB / 10)
        probabilities[silent] = (1.0, 0.0, 0.0)
        return probabilities

    def embed_pieces(self, read: Read, pieces: Sequence[Frames], progress: Progress) -> Embeddings:
        """Embeddings of stretches of the recording ``[N, D]``."""
        edges = [(self.sample(first), self.sample(last)) for first, last in pieces]
        batches = of_one_length(edges, lambda length: int(_SECONDS_AT_ONCE * self._rate / max(length, 1)))

        def taken(batch: list[int]) -> Samples:
            first, last = edges[batch[0]]
            samples = np.zeros((len(batch), last - first), np.float32)
            for row, index in zip(samples, batch, strict=True):
                piece = read(*edges[index])
                row[: len(piece)] = piece  # the last frame of the recording may reach beyond it
            return samples

        embeddings: dict[int, Embeddings] = {}
        heard = side_by_side(self.embed, map(taken, batches), self._threads)
        for batch, rows in zip(batches, heard, strict=True):
            embeddings.update(zip(batch, rows, strict=True))
            progress(len(embeddings) / len(pieces))
        return np.stack([embeddings[index] for index in range(len(pieces))])

    def embed(self, samples: Samples) -> Embeddings:
        """The embeddings ``[B, D]`` of samples ``[B, T]``."""
        shortest, length = round(_SHORTEST_SECONDS * self._rate), samples.shape[-1]
        if not length:
            samples = np.zeros((len(samples), shortest), np.float32)
        elif length < shortest:
            samples = np.tile(samples, -(-shortest // length))
        embedder = self._listeners.embedder
        return embedder.embed(self._at_rate(samples, embedder.sample_rate))

    def _at_rate(self, samples: Samples, rate: int) -> Samples:
        return resample(np.ascontiguousarray(samples), self._rate, rate)


def of_one_length(edges: Sequence[tuple[int, int]], most: Callable[[int], int]) -> list[list[int]]:
    """The places of stretches of one length, at most so many together as a function says for that length.

    The longest come first, so that the others find room in the memory that these have left.
    """
    of_length = defaultdict(list)
    for index, (begin, end) in enumerate(edges):
        of_length[end - begin].append(index)
    sizes = {length: max(1, most(length)) for length in of_length}
    return [
        places[start : start + sizes[length]]
        for length, places in sorted(of_length.items(), reverse=True)
        for start in range(0, len(places), sizes[length])
    ]
