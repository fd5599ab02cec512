"""Recordings whose corpus knows who talks when: what is scored, and the turns that a system found.

Shapes: C references, S speakers who talk, K tracks, T samples, L frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.data import Example
from polsess.evaluation.systems import Estimate, names_of_tracks
from polsess.evaluation.timeline_table import Timelines, store_turns
from polsess.metrics import Conversation, Scores
from polsess.timelines import JOIN_SECONDS, Timeline, sorted_timeline, turns_of

_FRAME_SECONDS = 0.01
_BELOW_LOUD_DB = 35.0
_BELOW_LOUDEST_DB = 12.0
_SHORTEST_SECONDS = 0.1


@dataclass(frozen=True)
class ScoredRecording:
    """The signals of one recording to score, and what is known of its turns."""

    estimates: Samples
    """``[K, T]``, K at least S."""
    references: Samples
    """``[S, T]``: where the corpus knows who talks when, of those who talk; else all."""
    conversation: Conversation | None
    """None where the corpus does not know who talks when."""


def scored_recording(
    example: Example, estimate: Estimate, sample_rate: int, collar_seconds: float = 0.0
) -> ScoredRecording:
    """What is scored of one recording.

    Where the corpus knows who talks when, references of speakers who never talk are left out (a track for
    them is one without a reference), and silent tracks are added where there are fewer than speakers.
    """
    tracks, references = np.atleast_2d(estimate.tracks), heard_references(example)
    if not example.speakers:
        return ScoredRecording(tracks, references, None)
    missing = max(0, len(references) - len(tracks))
    tracks = np.pad(tracks, ((0, missing), (0, 0)))
    names = names_of_tracks(len(tracks), estimate.names)
    known = estimate.timeline
    turns = track_timeline(tracks, sample_rate, names) if known is None else known.turns
    conversation = Conversation(
        example.timeline,
        tuple(name for name in example.speakers if name),
        turns,
        collar_seconds,
        estimate.saved_share,
    )
    return ScoredRecording(tracks, references, conversation)


def heard_references(example: Example) -> Samples:
    """The references ``[S, T]`` of those who talk, where the corpus knows that; else all."""
    references: Samples = example.references.numpy()
    if not example.speakers:
        return references
    return references[[bool(name) for name in example.speakers]]


def track_timeline(tracks: Samples, sample_rate: int, names: tuple[str, ...]) -> Timeline:
    """Turns from the levels of tracks, for systems that do not say who talks when.

    A track is active in a frame of 10 ms if its level is at most 35 dB below the loud frames of all tracks
    (their 95th percentile) and at most 12 dB below the loudest track of the frame. Then pauses of up to 0.2 s
    are closed and turns of less than 0.1 s dropped.

    Args:
        tracks: ``[K, T]``.
        sample_rate: In Hz.
        names: K names.
    """
    hop = max(1, round(_FRAME_SECONDS * sample_rate))
    levels = _levels_db(tracks, hop)
    loudest = levels.max(0)
    audible = loudest[np.isfinite(loudest)]
    if not len(audible):
        return ()
    floor = np.quantile(audible, 0.95) - _BELOW_LOUD_DB
    active = (levels >= floor) & (levels >= loudest - _BELOW_LOUDEST_DB)
    turns = turns_of(active, names, hop / sample_rate)
    joined = sorted_timeline(turns, join_seconds=JOIN_SECONDS)
    return tuple(turn for turn in joined if turn.duration >= _SHORTEST_SECONDS)


def timelines_of(
    identifier: str, estimate: Estimate, recording: ScoredRecording, scores: Scores, sample_rate: int
) -> Timelines | None:
    """The turns of one recording to store beside its scores; None where the truth is not known."""
    known, found = recording.conversation, estimate.timeline
    if known is None:
        return None
    names = names_of_tracks(len(recording.estimates), estimate.names)
    return Timelines(
        identifier=identifier,
        seconds=recording.estimates.shape[-1] / sample_rate,
        speakers=known.speakers,
        tracks=tuple(names[index] for index in scores.permutation),
        reference=store_turns(known.reference),
        estimate=store_turns(known.estimate),
        source="activity" if found is None else "system",
        separated=() if found is None else found.separated,
        swaps_repaired=0 if found is None else found.swaps_repaired,
    )


def _levels_db(tracks: Samples, hop: int) -> NDArray[np.float64]:
    """Level of every frame, ``[K, L]``; minus infinity for digital silence."""
    count = -(-tracks.shape[-1] // hop)
    padded = np.pad(tracks, ((0, 0), (0, count * hop - tracks.shape[-1])))
    energies = np.square(padded, dtype=np.float64).reshape(len(tracks), count, hop).mean(-1)
    with np.errstate(divide="ignore"):
        levels: NDArray[np.float64] = 10 * np.log10(energies)
    return levels
