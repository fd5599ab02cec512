"""Separation of a conversation: only where several talk; what one says alone passes through untouched.

A detector says how many talk. Pieces of one voice are embedded, clustered and decoded, so that every voice
has its track over the whole recording. Overlaps are separated with context; an output belongs to the voice
that it holds where that one talks alone nearby, and whose embedding it resembles.

Shapes: C outputs, S voices, K channels, T samples, L frames, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.diarization import SpeakerTimeline
from polsess.diarization.assignment import assign_outputs, decode_voices
from polsess.diarization.clustering import Embeddings, Labels, cluster, find_centroids
from polsess.diarization.regions import Frames, Mask, Regions, cut_pieces, cut_steps, find_regions, list_runs
from polsess.diarization.settings import GateConfig
from polsess.diarization.stretches import Piece, find_turns, label_frames, passed_through, plan_pieces
from polsess.inference.composition import ComposedTracks, PassedStretch, SeparatedStretch
from polsess.inference.hearing import Hearing
from polsess.inference.levels import LevelStatistics
from polsess.inference.network import Network
from polsess.inference.outputs import source_names
from polsess.inference.recordings import Channels, Recording
from polsess.inference.rendering import Rendering
from polsess.inference.stitching import Spool
from polsess.timelines import Timeline, list_speakers

Progress = Callable[[float], None]
_ROUNDS = 4
"""Of decoding and finding the centroids again, so that short pieces count as well."""
_BESIDE_SECONDS = 0.3
"""On either side of an overlap; what is told by those who talk alone further away, the network may mix up."""
_VOICE_SPREAD = 0.1
"""Difference of cosines that makes one voice e times as likely as another."""


@dataclass(frozen=True)
class Store:
    """The recording at the network's rate, to be read anywhere."""

    spool: Spool
    """K rows."""
    recording: Recording

    def read(self, first: int, last: int) -> Samples:
        """The channels, ``[K, n]``, up to their end: the last frame may reach beyond it."""
        self.spool.seek(first)
        return self.spool.read(min(last, self.spool.num_samples) - first)

    def read_mix(self, first: int, last: int) -> Samples:
        """The channels mixed, ``[n]``."""
        block = self.read(first, last)
        return block[0] if len(block) == 1 else self.recording.mix(block)[0]


@dataclass(frozen=True)
class Voices:
    """Who says what was said alone."""

    who: Labels
    """The voice of each frame ``[L]``, -1 where nobody or several talk."""
    centroids: Embeddings
    """``[S, D]``."""
    certainty: NDArray[np.float32]
    """How sure the voice of each frame is ``[L]``."""


def find_voices(
    hearing: Hearing,
    store: Store,
    regions: Regions,
    probabilities: NDArray[np.float32],
    num_speakers: tuple[int, int],
    config: GateConfig,
    progress: Progress,
) -> Voices:
    """Say whose each solo stretch is.

    Args:
        hearing: The networks.
        store: The recording.
        regions: How many talk.
        probabilities: Of nobody, one and several ``[L, 3]``.
        num_speakers: The fewest and the most voices.
        config: Thresholds.
        progress: Called with the share that is done.
    """
    num_frames = len(probabilities)
    pieces = cut_pieces(regions, probabilities, config.regions)
    if not pieces:
        none = np.full(num_frames, -1, np.int64)
        return Voices(none, np.zeros((0, 1), np.float32), np.zeros(num_frames, np.float32))
    hop = regions.hop_seconds
    embeddings = hearing.embed_pieces(store.read_mix, pieces, lambda share: progress(0.4 * share))
    seconds = np.array([last - first for first, last in pieces]) * hop
    _, centroids = cluster(
        embeddings,
        seconds,
        num_speakers=num_speakers,
        threshold=config.same_voice,
        eager_threshold=config.same_voice_asked,
    )
    for _ in range(_ROUNDS):
        labels = decode_voices((embeddings @ centroids.T).astype(np.float64), pieces, hop)
        if len(np.unique(labels)) == len(centroids):  # all voices talk
            centroids = find_centroids(embeddings, seconds, labels)
    pieces, windows = cut_steps(regions, pieces, config.regions)
    embeddings = hearing.embed_pieces(store.read_mix, windows, lambda share: progress(0.4 + 0.6 * share))
    similarities = (embeddings @ centroids.T).astype(np.float64)
    labels = decode_voices(similarities, pieces, hop)
    likely = np.exp((similarities - similarities.max(1, keepdims=True)) / _VOICE_SPREAD)
    sure = likely[np.arange(len(pieces)), labels] / likely.sum(1)
    certainty = np.ones(num_frames, np.float32)
    for (first, last), value in zip(pieces, sure, strict=True):
        certainty[first:last] = value
    return Voices(label_frames(pieces, labels, num_frames), centroids, certainty)


class OverlapSeparation:
    """Separates overlaps one piece after the other.

    Args:
        network: Estimates C outputs.
        hearing: Embeds them.
        store: The recording.
        voices: Who says what is said alone.
        spool: Receives the estimates, C * K rows.
        margin_seconds: Estimates that are kept on either side of an overlap, for fading.
    """

    def __init__(
        self,
        network: Network,
        hearing: Hearing,
        store: Store,
        voices: Voices,
        spool: Spool,
        margin_seconds: float,
    ) -> None:
        self._network, self._hearing, self._store, self._voices = network, hearing, store, voices
        self._spool, self._margin = spool, round(margin_seconds * network.sample_rate)
        self.stretches: list[tuple[Frames, SeparatedStretch]] = []
        self.swaps, self.network_samples = 0, 0

    def separate(self, piece: Piece, num_samples: int) -> None:
        """Separate a piece of a recording of ``num_samples`` and put its overlaps aside."""
        begin, end = self._hearing.sample(piece.first), min(self._hearing.sample(piece.last), num_samples)
        mixture = self._store.read(begin, end)
        estimates = self._network.estimate(mixture, [begin] * len(mixture)).swapaxes(0, 1)  # [C, K, n]
        self.network_samples += end - begin
        levels = LevelStatistics(len(estimates), len(mixture), self._network.sample_rate)
        levels.add(estimates, mixture)
        estimates = estimates * levels.gains().astype(np.float32)[..., None]
        swapped = False
        for first, last in piece.overlaps:
            voices = tuple(
                tuple(self._assign(piece, (first, last), begin, *each).tolist())
                for each in zip(estimates.swapaxes(0, 1), mixture, strict=True)
            )
            swapped |= any(order != tuple(sorted(order)) for order in voices)
            inner = max(begin, self._hearing.sample(first) - self._margin)
            behind = min(end, self._hearing.sample(last) + self._margin)
            place = self._spool.num_samples
            self._spool.append(estimates[..., inner - begin : behind - begin].reshape(-1, behind - inner))
            times = first * self._hearing.hop_seconds, last * self._hearing.hop_seconds
            stretch = SeparatedStretch(*times, voices, inner, place, behind - inner)
            self.stretches.append(((first, last), stretch))
        self.swaps += swapped

    def _assign(
        self, piece: Piece, overlap: Frames, begin: int, outputs: Samples, mixture: Samples
    ) -> Labels:
        """The voice on each output ``[C, n]`` of one channel ``[n]`` in an overlap of a piece."""
        num_voices = len(self._voices.centroids)
        correlations = np.zeros((len(outputs), num_voices))
        seconds = np.zeros(num_voices)
        beside = round(_BESIDE_SECONDS / self._hearing.hop_seconds)
        near = max(piece.first, overlap[0] - beside), min(piece.last, overlap[1] + beside)
        for voice in np.unique(self._voices.who[slice(*near)]):
            talks = list_runs(self._voices.who[slice(*near)] == voice)
            runs = [(near[0] + first, near[0] + last) for first, last in talks]
            solo = self._cut(mixture[None], begin, runs)[0]
            energy = float(np.square(solo).sum())
            if voice >= 0 and energy:
                seconds[voice] = len(solo) / self._network.sample_rate
                held = self._cut(outputs, begin, runs)
                correlations[:, voice] = (held @ solo).astype(np.float64) / energy
        heard = np.stack([self._hearing.embed(each) for each in self._cut(outputs, begin, [overlap])])
        return assign_outputs(correlations, seconds, (heard @ self._voices.centroids.T).astype(np.float64))

    def _cut(self, rows: Samples, begin: int, runs: list[Frames]) -> Samples:
        """The samples of runs of frames, joined, from rows that begin at a sample."""
        sample = self._hearing.sample
        return np.concatenate(
            [rows[:, sample(first) - begin : sample(last) - begin] for first, last in runs], 1
        )


@dataclass(frozen=True)
class Heard:
    """How many talk in a recording."""

    store: Store
    num_samples: int
    """At the network's rate."""
    probabilities: NDArray[np.float32]
    """Of nobody, one and several, ``[L, 3]``."""
    regions: Regions


def hear(
    hearing: Hearing,
    recording: Recording,
    channels: Channels,
    rate: int,
    gain: float,
    spool: Spool,
    config: GateConfig,
    progress: Progress,
) -> Heard:
    """Put the recording aside at the network's rate and find how many talk.

    Args:
        hearing: The networks.
        recording: After its ``working_gain``.
        channels: Which channels are separated, K of them.
        rate: The network's, in Hz.
        gain: The working gain.
        spool: For K rows.
        config: Thresholds.
        progress: Called with the share that is done.
    """
    for block in recording.resampled(channels, rate, gain):
        spool.append(block)
    store = Store(spool, recording)
    probabilities = hearing.activity(store.read_mix, spool.num_samples, progress)
    regions = find_regions(probabilities, hearing.hop_seconds, config.regions)
    return Heard(store, spool.num_samples, probabilities, regions)


def separate_gated(
    network: Network,
    hearing: Hearing,
    heard: Heard,
    channels: Channels,
    spool: Spool,
    *,
    gain: float,
    num_speakers: tuple[int, int],
    longest_seconds: float,
    config: GateConfig,
    progress: Progress,
) -> Rendering:
    """Separate the overlaps of a recording and give every voice its track.

    Args:
        network: Estimates C outputs.
        hearing: The networks that listen.
        heard: How many talk.
        channels: Which channels are separated, K of them.
        spool: For the estimates, C * K rows.
        gain: The working gain of the store.
        num_speakers: The fewest and the most voices.
        longest_seconds: Longest piece for the network.
        config: Thresholds.
        progress: Called with the share that is done.
    """
    hop = hearing.hop_seconds
    voices = _list_voices(hearing, heard, num_speakers, config, lambda share: progress(0.4 * share))
    alone = len(voices.centroids) < 2
    overlap = np.zeros_like(heard.regions.overlap) if alone else heard.regions.wide_overlap
    separation = OverlapSeparation(network, hearing, heard.store, voices, spool, 2 * config.fade_seconds)
    pieces = plan_pieces(
        overlap,
        voices.who,
        context=round(config.context_seconds / hop),
        longest=max(1, round(longest_seconds / hop)),
        most_voices=network.num_sources,
    )
    for index, piece in enumerate(pieces):
        separation.separate(piece, heard.num_samples)
        progress(0.4 + 0.6 * (index + 1) / len(pieces))
    progress(1.0)
    turns = _turns(heard, voices, separation, overlap)
    recording, stretches = heard.store.recording, separation.stretches
    on_outputs = [voice for _, each in stretches for order in each.tracks for voice in order]
    heard_first = dict.fromkeys([*map(int, list_speakers(turns)), *on_outputs])
    tracks = {voice: track for track, voice in enumerate(heard_first)}
    seconds = recording.num_samples / recording.sample_rate
    if alone:
        passed = [PassedStretch(0.0, seconds, 0)] if turns else []
    else:
        passed = [
            PassedStretch(first * hop, last * hop, tracks[voice])
            for first, last, voice in passed_through(voices.who, overlap, round(config.bridge_seconds / hop))
            if voice in tracks
        ]
    names = source_names(max(network.num_sources, len(tracks)))
    overlaps = list_runs(heard.regions.overlap & overlap)
    timeline = SpeakerTimeline(
        tuple(
            replace(turn, speaker=names[tracks[int(turn.speaker)]], end=min(turn.end, seconds))
            for turn in turns
        ),
        duration_seconds=seconds,
        whole=False,
        overlaps=tuple((first * hop, min(last * hop, seconds)) for first, last in overlaps),
        separated=tuple((each.start, min(each.end, seconds)) for _, each in stretches),
        network_seconds=separation.network_samples / network.sample_rate,
        swaps_repaired=separation.swaps,
        limited=num_speakers[0] < num_speakers[1] == len(tracks),
    )
    separated = [
        replace(each, tracks=tuple(tuple(tracks[voice] for voice in order) for order in each.tracks))
        for _, each in stretches
    ]
    return ComposedTracks(
        recording,
        channels,
        len(names),
        passed,
        separated,
        spool,
        rate=network.sample_rate,
        gain=1 / gain,
        fade_seconds=config.fade_seconds,
        found=timeline,
    )


def _list_voices(
    hearing: Hearing, heard: Heard, num_speakers: tuple[int, int], config: GateConfig, progress: Progress
) -> Voices:
    """The voices of a recording; enough overlap is evidence of two, of which one may never talk alone."""
    share, (fewest, most) = heard.regions.overlap_share, num_speakers
    if share >= config.least_overlap:
        fewest = min(max(fewest, 2), most)
    voices = find_voices(
        hearing, heard.store, heard.regions, heard.probabilities, (fewest, most), config, progress
    )
    if len(voices.centroids) == 1 and most > 1 and share >= config.unheard_voice_overlap:
        return replace(voices, centroids=np.pad(voices.centroids, ((0, 1), (0, 0))))
    return voices


def _turns(heard: Heard, voices: Voices, separation: OverlapSeparation, overlap: Mask) -> Timeline:
    """The turns of all voices, which are named by their numbers."""
    stretches = [
        (frames, sorted({voice for order in each.tracks for voice in order}))
        for frames, each in separation.stretches
    ]
    return find_turns(
        heard.regions.speech,
        heard.regions.overlap & overlap,
        voices.who,
        stretches,
        _confidence(heard, voices),
        tuple(str(voice) for voice in range(len(voices.centroids))),
        heard.regions.hop_seconds,
    )


def _confidence(heard: Heard, voices: Voices) -> NDArray[np.float32]:
    """How sure it is that whoever talks in a frame does, ``[L]``."""
    several = heard.probabilities[:, 2]
    alone = (1 - heard.probabilities[:, 0]) * voices.certainty
    confidence: NDArray[np.float32] = np.where(heard.regions.overlap, several, alone).astype(np.float32)
    return confidence
