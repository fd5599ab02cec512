"""What is heard in a recording: how many talk, and whose every stretch of one voice is.

A detector says how many talk. Pieces of one voice are embedded, clustered and decoded, so that every voice is
followed over the whole recording.

Shapes: S voices, K channels, T samples, L frames, D dimensions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polsess.allocator import release_free_memory
from polsess.audio import Samples
from polsess.diarization.assignment import Scores, compare_steps, decode_voices
from polsess.diarization.clustering import (
    WEIGHTS,
    Embeddings,
    Labels,
    Pieces,
    Weights,
    find_centroids,
    find_voices,
)
from polsess.diarization.known_voices import KnownVoices, cut_by_known
from polsess.diarization.regions import Frames, Regions, cut_pieces, cut_steps, find_regions
from polsess.diarization.settings import GateConfig
from polsess.diarization.stretches import label_frames
from polsess.inference.hearing import Hearing
from polsess.inference.recordings import Channels, Recording
from polsess.inference.stitching import Spool, Spools
from polsess.pace import Progress

_CLEARING_SHARE = 0.6
"""Of the work before the voices, for the progress: the rest is to find how many talk."""
_ROUNDS = 4
"""Of decoding and finding the centroids again, so that short pieces count as well."""
_VOICE_SPREAD = 0.1
"""Difference of cosines that makes one voice e times as likely as another."""


@dataclass(frozen=True)
class Store:
    """The recording at the network's rate, to be read anywhere."""

    spool: Spool
    """K rows."""
    recording: Recording
    cleared: Spool
    """What listens hears this, one row."""

    def read(self, first: int, last: int) -> Samples:
        """The channels, ``[K, n]``, up to their end: the last frame may reach beyond it."""
        return _read(self.spool, first, last)

    def read_mix(self, first: int, last: int) -> Samples:
        """The channels mixed, ``[n]``."""
        block = self.read(first, last)
        return block[0] if len(block) == 1 else self.recording.mix(block)[0]

    def read_cleared(self, first: int, last: int) -> Samples:
        """What the networks that listen hear, ``[n]``."""
        return _read(self.cleared, first, last)[0]


def _read(spool: Spool, first: int, last: int) -> Samples:
    spool.seek(first)
    return spool.read(min(last, spool.num_samples) - first)


@dataclass(frozen=True)
class Heard:
    """How many talk in a recording."""

    store: Store
    num_samples: int
    """At the network's rate."""
    probabilities: NDArray[np.float32]
    """Of nobody, one and several, ``[L, 3]``."""
    regions: Regions

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.store.recording.num_samples / self.store.recording.sample_rate


def hear(
    hearing: Hearing,
    recording: Recording,
    channels: Channels,
    rate: int,
    gain: float,
    spools: Spools,
    config: GateConfig,
    progress: Progress,
) -> Heard:
    """Put the recording aside at the network's rate, also as it is heard, and find how many talk.

    Args:
        hearing: The networks.
        recording: After its ``working_gain``.
        channels: Which channels are separated, K of them.
        rate: The network's, in Hz.
        gain: The working gain.
        spools: For both.
        config: Thresholds.
        progress: Called with the share that is done.
    """
    spool = spools.open(1 if channels == "mix" else recording.num_channels)
    for block in recording.resampled(channels, rate, gain):
        spool.append(block)
    store, length = Store(spool, recording, spools.open(1)), spool.num_samples
    for part in hearing.clear(store.read_mix, length, lambda share: progress(_CLEARING_SHARE * share)):
        store.cleared.append(part[None])
    activity = hearing.activity(
        store.read_cleared, length, lambda share: progress(_CLEARING_SHARE + (1 - _CLEARING_SHARE) * share)
    )
    release_free_memory()  # blocks leave several times as much as the pieces that come need
    return Heard(store, length, activity, find_regions(activity, hearing.hop_seconds, config.regions))


@dataclass(frozen=True)
class Voices:
    """Who says what was said alone."""

    who: Labels
    """The voice of each frame ``[L]``, -1 where nobody or several talk."""
    centroids: Embeddings
    """``[S, D]``."""
    certainty: NDArray[np.float32]
    """How sure the voice of each frame is ``[L]``."""


def list_voices(
    hearing: Hearing,
    heard: Heard,
    num_speakers: tuple[int, int],
    config: GateConfig,
    progress: Progress,
    known: KnownVoices | None = None,
) -> Voices:
    """The voices of a recording, of which one may never talk alone.

    Args:
        hearing: The networks.
        heard: How many talk.
        num_speakers: The fewest and the most voices.
        config: Thresholds.
        progress: Called with the share that is done.
        known: Voices that are looked for, and are to be told from others; None for none.
    """
    voices = _find_voices(hearing, heard, num_speakers, config, progress, known)
    unheard = heard.regions.overlap_share >= config.unheard_voice_overlap
    if len(voices.centroids) == 1 and num_speakers[1] > 1 and unheard:
        return replace(voices, centroids=np.pad(voices.centroids, ((0, 1), (0, 0))))
    return voices


def hear_pieces(hearing: Hearing, heard: Heard, frames: Sequence[Frames], progress: Progress) -> Pieces:
    """What is heard of pieces of talk.

    Args:
        hearing: The networks.
        heard: How many talk.
        frames: The pieces, in the order in which they are heard.
        progress: Called with the share that is done.
    """
    hop = heard.regions.hop_seconds
    return Pieces(
        hearing.embed_pieces(heard.store.read_cleared, frames, progress),
        np.array([last - first for first, last in frames]) * hop,
        np.array([after[0] - before[1] for before, after in itertools.pairwise(frames)]) * hop,
        np.array([heard.probabilities[first:last, 2].mean() for first, last in frames], np.float64),
    )


def count_voices(
    pieces: Pieces,
    sure_overlap: float,
    num_speakers: tuple[int, int],
    config: GateConfig,
    weights: Weights = WEIGHTS,
) -> tuple[Labels, Embeddings]:
    """Find out how many voices there are, at least two where enough surely overlaps.

    Args:
        pieces: N of them.
        sure_overlap: Share of the speech in which several surely talk.
        num_speakers: The fewest and the most voices.
        config: Thresholds.
        weights: As in ``find_voices``.

    Returns:
        As ``find_voices``.
    """
    fewest, most = num_speakers
    if sure_overlap >= config.least_overlap:
        fewest = min(max(fewest, 2), most)
    return find_voices(
        pieces,
        num_speakers=(fewest, most),
        sure_overlap=sure_overlap,
        same_voice=config.same_voice,
        same_voice_asked=config.same_voice_asked,
        weights=weights,
    )


def _find_voices(
    hearing: Hearing,
    heard: Heard,
    num_speakers: tuple[int, int],
    config: GateConfig,
    progress: Progress,
    known: KnownVoices | None,
) -> Voices:
    """Say whose each solo stretch is.

    Args:
        hearing: The networks.
        heard: How many talk.
        num_speakers: The fewest and the most voices.
        config: Thresholds.
        progress: Called with the share that is done.
        known: Voices that are looked for.
    """
    num_frames, regions = len(heard.probabilities), heard.regions
    frames = cut_pieces(regions, heard.probabilities, config.regions)
    if not frames:
        none = np.full(num_frames, -1, np.int64)
        return Voices(none, np.zeros((0, 1), np.float32), np.zeros(num_frames, np.float32))
    pieces = hear_pieces(hearing, heard, frames, lambda share: progress(0.4 * share))
    labels, centroids = count_voices(pieces, regions.sure_overlap, num_speakers, config)
    embeddings, hop = pieces.embeddings, regions.hop_seconds
    if known is not None:
        labels = cut_by_known(embeddings, pieces.seconds, labels, known, most=num_speakers[1])
        centroids = find_centroids(embeddings, pieces.seconds, labels)
    for _ in range(_ROUNDS):
        labels = decode_voices((embeddings @ centroids.T).astype(np.float64), frames, hop)
        if len(np.unique(labels)) == len(centroids):  # all voices talk
            centroids = find_centroids(embeddings, pieces.seconds, labels)
    steps, windows = cut_steps(regions, frames, config.regions)
    done = 0

    def compare(places: list[int]) -> Scores:
        nonlocal done
        before, done = done, done + len(places)
        embedded = hearing.embed_pieces(
            heard.store.read_cleared,
            [windows[place] for place in places],
            lambda share: progress(0.4 + 0.6 * (before + share * len(places)) / len(windows)),
        )
        return (embedded @ centroids.T).astype(np.float64)

    similarities = compare_steps(steps, len(centroids), compare)
    labels = decode_voices(similarities, steps, hop)
    likely = np.exp((similarities - similarities.max(1, keepdims=True)) / _VOICE_SPREAD)
    sure = likely[np.arange(len(steps)), labels] / likely.sum(1)
    certainty = np.ones(num_frames, np.float32)
    for (first, last), value in zip(steps, sure, strict=True):
        certainty[first:last] = value
    return Voices(label_frames(steps, labels, num_frames), centroids, certainty)
