"""What becomes of each stretch of a conversation: passed through onto a track, or separated with context.

Shapes: S voices, V voices of a stretch, L frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polsess.diarization.clustering import Labels
from polsess.diarization.regions import Frames, Mask, list_runs
from polsess.timelines import JOIN_SECONDS, Timeline, Turn, sorted_timeline

NOBODY = -1
_LEVEL_SECONDS = 0.18
"""Levels of voices are compared over so long around a frame."""
_NEAREST_DB = 12.0
"""By so much another must be louder than who talks alone nearest to a frame of one voice."""
_SILENT_DB = 24.0
"""Who is softer than the loudest by more than this does not talk, even where several seem to."""


@dataclass(frozen=True)
class StretchEnergies:
    """How loud the estimates of the voices are in a stretch that was separated."""

    frames: Frames
    voices: tuple[int, ...]
    """Of whom there are estimates, V; ascending."""
    energies: NDArray[np.float64]
    """Sums of squares of the estimates, frame by frame ``[V, L]``."""


@dataclass(frozen=True)
class Piece:
    """A stretch for the network: overlaps and the talk around them."""

    first: int
    """First frame, with context."""
    last: int
    """Behind the last frame, with context."""
    overlaps: tuple[Frames, ...]
    """The stretches whose estimates are used."""


def label_frames(pieces: Sequence[Frames], labels: Labels, num_frames: int) -> Labels:
    """The voice of every frame ``[L]``, ``NOBODY`` outside the pieces."""
    who = np.full(num_frames, NOBODY, np.int64)
    for (first, last), label in zip(pieces, labels, strict=True):
        who[first:last] = label
    return who


def find_changes(who: Labels, speech: Mask, several: Mask, reach: int) -> Mask:
    """Frames of speech around places where another voice takes over without a longer pause.

    Where exactly it begins is not known.

    Args:
        who: The voice of frames of one voice ``[L]``, ``NOBODY`` elsewhere.
        speech: Where anybody talks ``[L]``.
        several: Where several may talk ``[L]``; changes without such a frame are left out.
        reach: Frames on either side, and of the longest pause.
    """
    known = np.flatnonzero(who != NOBODY)
    changes = np.zeros(len(who), np.bool_)
    for end, begin in itertools.pairwise(known.tolist()):
        if who[end] != who[begin] and begin - end <= reach:
            around = slice(max(0, end + 1 - reach), begin + reach)
            changes[around] |= several[around].any()
    return changes & speech


def passed_through(who: Labels, overlap: Mask, longest_pause: int) -> list[tuple[int, int, int]]:
    """Stretches of one voice as first frame, behind-the-last frame and voice.

    Pauses within one voice's talk pass through with it if they are short, so that its room stays around it.
    """
    stretches: list[tuple[int, int, int]] = []
    for voice in np.unique(who[who != NOBODY]):
        runs = list_runs(who == voice)
        joined = [runs[0]]
        for first, last in runs[1:]:
            before, end = joined[-1]
            between = slice(end, first)
            free = (who[between] == NOBODY).all() and not overlap[between].any()
            if first - end <= longest_pause and free:
                joined[-1] = (before, last)
            else:
                joined.append((first, last))
        stretches += [(first, last, int(voice)) for first, last in joined]
    return sorted(stretches)


def plan_pieces(overlap: Mask, who: Labels, *, context: int, longest: int, most_voices: int) -> list[Piece]:
    """Put overlaps into pieces for the network, each with context on both sides.

    Overlaps whose contexts meet share a piece, unless it were too long or held too many voices; an overlap
    that is too long for one piece is cut.

    Args:
        overlap: Where several talk ``[L]``.
        who: The voice of frames of one voice ``[L]``, ``NOBODY`` elsewhere.
        context: Frames on both sides, fewer where a further voice begins to talk there.
        longest: Frames of the longest piece.
        most_voices: As many as the network can tell apart.
    """
    room = max(1, longest - 2 * context)
    pieces: list[tuple[Piece, set[int]]] = []
    for first, last in list_runs(overlap):
        count = -(-(last - first) // room)
        edges = np.linspace(first, last, count + 1).round().astype(int).tolist()
        for run in itertools.pairwise(edges):
            piece, voices = _with_context(run, who, context, most_voices)
            if pieces:
                before, heard = pieces[-1]
                fits = piece.last - before.first <= longest and len(heard | voices) <= most_voices
                if piece.first <= before.last and fits:
                    joined = Piece(before.first, piece.last, (*before.overlaps, *piece.overlaps))
                    pieces[-1] = joined, heard | voices
                    continue
            pieces.append((piece, voices))
    return [piece for piece, _ in pieces]


def _with_context(run: Frames, who: Labels, context: int, most_voices: int) -> tuple[Piece, set[int]]:
    """A stretch with context, and the voices that talk alone in it."""
    first, last = run
    voices: set[int] = set()
    going = [True, True]
    for _ in range(context):  # to both sides by turns, so that the nearest voices come first
        for side, frame in enumerate((first - 1, last)):
            voice = int(who[frame]) if 0 <= frame < len(who) else NOBODY
            going[side] &= 0 <= frame < len(who) and len(voices | ({voice} - {NOBODY})) <= most_voices
            if going[side]:
                voices |= {voice} - {NOBODY}
                first, last = (first - 1, last) if side == 0 else (first, last + 1)
    return Piece(first, last, (run,)), voices


def find_turns(
    speech: Mask,
    overlap: Mask,
    who: Labels,
    separated: Sequence[StretchEnergies],
    confidence: NDArray[np.float32],
    names: Sequence[str],
    hop_seconds: float,
) -> Timeline:
    """The turns of all voices.

    Args:
        speech: Where anybody talks.
        overlap: Where several do.
        who: The voice of frames of one voice, ``NOBODY`` elsewhere; others that hold speech of one voice get
            that of the nearest frame, or in separated stretches that of the loudest estimate, unless it is
            hardly louder than that of the nearest.
        separated: Stretches in which several may talk. Where they do, those estimates are active that are not
            much softer than the loudest.
        confidence: How sure each frame is, ``[L]``.
        names: Of the S voices.
        hop_seconds: From one frame to the next.
    """
    active = np.zeros((len(names), len(speech)), np.bool_)
    known = np.flatnonzero(who != NOBODY)
    alone = np.flatnonzero(speech & ~overlap)
    if len(known):
        after = np.searchsorted(known, alone).clip(0, len(known) - 1)
        before = (after - 1).clip(0)
        nearer = np.where(np.abs(known[before] - alone) <= np.abs(known[after] - alone), before, after)
        active[who[known[nearer]], alone] = True
    width = round(_LEVEL_SECONDS / hop_seconds / 2)
    for each in separated:
        inner = slice(*each.frames)
        levels = _levels(each.energies, width)
        loudest = (levels + _NEAREST_DB * active[list(each.voices), inner]).argmax(0)
        alone_there = (np.arange(len(levels))[:, None] == loudest) & speech[inner]
        several = levels >= levels.max(0) - _SILENT_DB
        active[:, inner] = False
        active[list(each.voices), inner] = np.where(overlap[inner], several, alone_there)
    turns = [
        Turn(first * hop_seconds, last * hop_seconds, name, round(float(confidence[first:last].mean()), 3))
        for name, row in zip(names, active, strict=True)
        for first, last in list_runs(row)
    ]
    return sorted_timeline(turns, join_seconds=JOIN_SECONDS)


def _levels(energies: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Levels ``[V, L]`` in dB over so many frames on either side, as far as there are any."""
    sums = np.concatenate([np.zeros((len(energies), 1)), energies.cumsum(1)], 1)
    frames = np.arange(energies.shape[1])
    around = sums[:, np.minimum(frames + reach + 1, len(frames))] - sums[:, np.maximum(frames - reach, 0)]
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(around, 1e-12))
    return levels
