"""Separation of a conversation: only where several talk; what one says alone passes through untouched.

Every voice has its track over the whole recording. Overlaps are separated with context; an output belongs to
the voice that it holds where that one talks alone nearby, and whose embedding it resembles.

Shapes: C outputs, S voices, K channels, T samples, L frames, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.diarization import SpeakerTimeline
from polsess.diarization.assignment import assign_outputs
from polsess.diarization.clustering import Labels
from polsess.diarization.known_voices import KnownVoices
from polsess.diarization.regions import Frames, Mask, list_runs
from polsess.diarization.settings import GateConfig
from polsess.diarization.stretches import (
    NOBODY,
    Piece,
    StretchEnergies,
    find_changes,
    find_turns,
    passed_through,
    plan_pieces,
)
from polsess.inference.composition import ComposedTracks, PassedStretch, SeparatedStretch
from polsess.inference.hearing import Hearing, of_one_length
from polsess.inference.levels import LevelStatistics
from polsess.inference.outputs import source_names
from polsess.inference.passes import Asking, RecordingNetwork
from polsess.inference.recordings import Channels
from polsess.inference.rendering import Rendering
from polsess.inference.stitching import Spool
from polsess.inference.voices import Heard, Store, Voices, list_voices
from polsess.pace import Progress
from polsess.timelines import Timeline, list_overlaps, list_speakers

_BESIDE_SECONDS = 0.3
"""On either side of an overlap; what is told by those who talk alone further away, the network may mix up."""


class OverlapSeparation:
    """Separates overlaps.

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
        network: RecordingNetwork,
        hearing: Hearing,
        store: Store,
        voices: Voices,
        spool: Spool,
        margin_seconds: float,
    ) -> None:
        self._network, self._hearing, self._store, self._voices = network, hearing, store, voices
        self._spool, self._margin = spool, round(margin_seconds * network.sample_rate)
        self.stretches: list[tuple[StretchEnergies, SeparatedStretch]] = []
        self.swaps, self.network_samples = 0, 0

    def separate(self, pieces: Sequence[Piece], num_samples: int, progress: Progress) -> Asking[None]:
        """Separate pieces of a recording of ``num_samples`` and put their overlaps aside.

        Those of one length share passes.
        """
        edges = [self._edges(piece, num_samples) for piece in pieces]
        batches = of_one_length(edges, lambda _: self._network.batch_size)
        size = self._network.passes_at_once
        done = 0
        for several in (batches[first : first + size] for first in range(0, len(batches), size)):
            mixtures = [[self._store.read(*edges[index]) for index in together] for together in several]
            starts = [
                [edges[index][0] for index, mixture in zip(*each, strict=True) for _ in mixture]
                for each in zip(several, mixtures, strict=True)
            ]
            estimates = yield from self._network.estimate(list(map(np.concatenate, mixtures)), starts)
            for together, mixed, estimate in zip(several, mixtures, estimates, strict=True):
                of_pieces = np.split(estimate, len(together))  # [K, C, n] each
                for index, mixture, of_piece in zip(together, mixed, of_pieces, strict=True):
                    self._take(pieces[index], edges[index], mixture, of_piece.swapaxes(0, 1))
                done += len(together)
            progress(done / len(pieces))
        self.stretches.sort(key=lambda stretch: stretch[0].frames)

    def _edges(self, piece: Piece, num_samples: int) -> Frames:
        """The samples of a piece."""
        return self._hearing.sample(piece.first), min(self._hearing.sample(piece.last), num_samples)

    def _take(self, piece: Piece, edges: Frames, mixture: Samples, estimates: Samples) -> None:
        """Put the overlaps of a piece ``[K, n]`` aside, as its estimates ``[C, K, n]`` give them."""
        begin, end = edges
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
            self.stretches.append((self._energies((first, last), begin, estimates, voices), stretch))
        self.swaps += swapped

    def _energies(
        self, frames: Frames, begin: int, estimates: Samples, voices: tuple[tuple[int, ...], ...]
    ) -> StretchEnergies:
        """Who is how loud in an overlap, by estimates ``[C, K, n]`` and the voice of each."""
        first, last = frames
        cuts = [self._hearing.sample(frame) - begin for frame in range(first, last + 1)]
        inner = estimates[..., cuts[0] : cuts[-1]]
        sums = np.zeros((*inner.shape[:-1], inner.shape[-1] + 1))
        np.cumsum(np.square(inner, dtype=np.float64), -1, out=sums[..., 1:])
        edges = np.minimum(np.array(cuts) - cuts[0], inner.shape[-1])
        energies = np.diff(sums[..., edges])  # [C, K, L]
        present = tuple(sorted({voice for order in voices for voice in order}))
        held = (np.array(present)[:, None, None] == np.array(voices).T)[..., None] * energies  # [V, C, K, L]
        return StretchEnergies(frames, present, held.sum((1, 2)))

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
        heard = self._hearing.embed(self._cut(outputs, begin, [overlap]))
        return assign_outputs(correlations, seconds, (heard @ self._voices.centroids.T).astype(np.float64))

    def _cut(self, rows: Samples, begin: int, runs: list[Frames]) -> Samples:
        """The samples of runs of frames, joined, from rows that begin at a sample."""
        sample = self._hearing.sample
        return np.concatenate(
            [rows[:, sample(first) - begin : sample(last) - begin] for first, last in runs], 1
        )


def separate_gated(
    network: RecordingNetwork,
    hearing: Hearing,
    heard: Heard,
    channels: Channels,
    spool: Spool,
    *,
    gain: float,
    num_speakers: tuple[int, int],
    longest_seconds: float,
    config: GateConfig,
    known: KnownVoices | None,
    progress: Progress,
) -> Asking[Rendering]:
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
        known: Voices that are looked for; None for none.
        progress: Called with the share that is done.
    """
    voices = list_voices(hearing, heard, num_speakers, config, lambda share: progress(0.4 * share), known)
    overlap = _to_separate(heard, voices, config)
    voices = replace(voices, who=np.where(overlap, NOBODY, voices.who))
    separation = OverlapSeparation(network, hearing, heard.store, voices, spool, 2 * config.fade_seconds)
    pieces = _plan(overlap, voices, network.num_sources, heard.regions.hop_seconds, longest_seconds, config)
    yield from separation.separate(pieces, heard.num_samples, lambda share: progress(0.4 + 0.6 * share))
    progress(1.0)
    turns = _turns(heard, voices, separation, overlap)
    tracks = _tracks(turns, separation)
    names = source_names(max(network.num_sources, len(tracks)))
    timeline = replace(
        _timeline(heard, turns, names, tracks, separation),
        network_seconds=separation.network_samples / network.sample_rate,
        asked=num_speakers,
    )
    return ComposedTracks(
        heard.store.recording,
        channels,
        len(names),
        _passed(heard, voices, overlap, tracks, config.bridge_seconds),
        [
            replace(each, tracks=tuple(tuple(tracks[voice] for voice in order) for order in each.tracks))
            for _, each in separation.stretches
        ],
        spool,
        rate=network.sample_rate,
        gain=1 / gain,
        fade_seconds=config.fade_seconds,
        found=timeline,
    )


def _to_separate(heard: Heard, voices: Voices, config: GateConfig) -> Mask:
    """Frames in which several may talk ``[L]``; none, of one voice."""
    regions = heard.regions
    if len(voices.centroids) < 2:
        return np.zeros_like(regions.overlap)
    several = heard.probabilities[:, 2] >= config.regions.overlap_off
    reach = round(config.change_seconds / regions.hop_seconds)
    return regions.unsure | find_changes(voices.who, regions.wide_speech, several, reach)


def _plan(
    overlap: Mask,
    voices: Voices,
    num_sources: int,
    hop_seconds: float,
    longest_seconds: float,
    config: GateConfig,
) -> list[Piece]:
    """The pieces for the network."""
    return plan_pieces(
        overlap,
        voices.who,
        context=round(config.context_seconds / hop_seconds),
        longest=max(1, round(longest_seconds / hop_seconds)),
        most_voices=num_sources,
    )


def _tracks(turns: Timeline, separation: OverlapSeparation) -> dict[int, int]:
    """The track of each voice: in the order in which they are heard, then those on outputs alone."""
    on_outputs = [voice for _, each in separation.stretches for order in each.tracks for voice in order]
    heard_first = dict.fromkeys([*map(int, list_speakers(turns)), *on_outputs])
    return {voice: track for track, voice in enumerate(heard_first)}


def _passed(
    heard: Heard, voices: Voices, overlap: Mask, tracks: dict[int, int], bridge_seconds: float
) -> list[PassedStretch]:
    """What goes onto tracks untouched: everything, of one voice."""
    hop = heard.regions.hop_seconds
    if len(voices.centroids) < 2:
        return [PassedStretch(0.0, heard.seconds, 0)] if tracks else []
    return [
        PassedStretch(first * hop, last * hop, tracks[voice])
        for first, last, voice in passed_through(voices.who, overlap, round(bridge_seconds / hop))
        if voice in tracks
    ]


def _timeline(
    heard: Heard,
    turns: Timeline,
    names: Sequence[str],
    tracks: dict[int, int],
    separation: OverlapSeparation,
) -> SpeakerTimeline:
    """Who speaks when, by the names of the tracks."""
    seconds = heard.seconds
    named = tuple(
        replace(turn, speaker=names[tracks[int(turn.speaker)]], end=min(turn.end, seconds)) for turn in turns
    )
    return SpeakerTimeline(
        named,
        duration_seconds=seconds,
        whole=False,
        overlaps=tuple(list_overlaps(named)),
        separated=tuple((each.start, min(each.end, seconds)) for _, each in separation.stretches),
        swaps_repaired=separation.swaps,
        voices_found=len(tracks),
    )


def _turns(heard: Heard, voices: Voices, separation: OverlapSeparation, overlap: Mask) -> Timeline:
    """The turns of all voices, which are named by their numbers."""
    return find_turns(
        heard.regions.speech,
        heard.regions.overlap & overlap,
        voices.who,
        [energies for energies, _ in separation.stretches],
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
