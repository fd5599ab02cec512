"""Regions, pieces and stretches from scripted scores."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from polsess.diarization.regions import RegionConfig, cut_pieces, cut_steps, find_regions, list_runs
from polsess.diarization.stretches import (
    NOBODY,
    Piece,
    StretchEnergies,
    find_changes,
    find_turns,
    label_frames,
    passed_through,
    plan_pieces,
)

HOP = 0.02


def scores(counts: list[tuple[int, int]], sure: float = 0.98) -> NDArray[np.float32]:
    """Probabilities ``[L, 3]`` of runs of (frames, number of people)."""
    rows = [
        [sure if k == count else (1 - sure) / 2 for k in range(3)]
        for frames, count in counts
        for _ in range(frames)
    ]
    return np.array(rows, np.float32)


def test_short_gaps_close_and_short_stretches_vanish() -> None:
    probabilities = scores(
        [(50, 0), (100, 1), (5, 0), (100, 1), (50, 0), (3, 1), (50, 0), (60, 1), (2, 2), (60, 1)]
    )
    regions = find_regions(probabilities, HOP, RegionConfig(join_seconds=0.2))
    assert list_runs(regions.speech) == [(50, 255), (358, 480)]
    assert list_runs(regions.wide_speech) == [(47, 258), (355, 480)]
    assert not regions.overlap.any()


def test_overlaps_are_widened_within_speech() -> None:
    regions = find_regions(scores([(20, 0), (30, 1), (40, 2), (2, 1), (40, 0)]), HOP, RegionConfig())
    assert list_runs(regions.overlap) == [(50, 90)]
    assert list_runs(regions.wide_overlap) == [(45, 95)]
    assert list_runs(regions.unsure) == [(40, 95)]
    assert list_runs(regions.solo) == [(17, 45)]
    assert regions.overlap_share == regions.sure_overlap == pytest.approx(40 / 72)


def test_overlap_that_is_not_sure_does_not_count() -> None:
    doubtful = scores([(50, 1)])
    doubtful[10:40] = (0.02, 0.5, 0.48)
    assert not find_regions(doubtful, HOP, RegionConfig(overlap_on=0.6, overlap_off=0.4)).unsure.any()
    assert find_regions(doubtful, HOP, RegionConfig(overlap_on=0.45, overlap_off=0.4)).overlap[10:40].all()


def test_what_is_separated_reaches_to_where_overlap_is_improbable() -> None:
    probabilities = scores([(100, 1)])
    probabilities[30:60] = (0.02, 0.68, 0.3)
    probabilities[45:55] = (0.02, 0.08, 0.9)
    regions = find_regions(probabilities, HOP, RegionConfig(overlap_off=0.2, overlap_pad_seconds=0.1))
    assert list_runs(regions.overlap) == [(45, 55)]
    assert list_runs(regions.unsure) == [(20, 70)]
    assert list_runs(regions.wide_overlap) == [(40, 60)]
    regions = find_regions(probabilities, HOP, RegionConfig(overlap_off=0.4, overlap_pad_seconds=0.1))
    assert list_runs(regions.unsure) == [(35, 65)]


def test_changes_of_voice_without_a_pause() -> None:
    who = label_frames([(0, 30), (32, 60), (75, 100), (100, 130)], np.array([0, 1, 0, 0]), 140)
    speech, several = mask(140, (0, 40), (44, 140)), mask(140, (41, 42), (62, 63))
    assert list_runs(find_changes(who, speech, several, 10)) == [(20, 40)]
    assert list_runs(find_changes(who, speech, several, 16)) == [(14, 40), (44, 91)]
    assert list_runs(find_changes(who, speech, mask(140, (62, 63)), 16)) == [(44, 91)]
    assert not find_changes(who, speech, several, 1).any()
    assert not find_changes(np.full(9, NOBODY), np.ones(9, bool), np.ones(9, bool), 5).any()


def test_pieces_end_at_pauses_and_are_no_longer_than_allowed() -> None:
    probabilities = scores([(50, 1), (4, 0), (300, 1)])
    config = RegionConfig()
    pieces = cut_pieces(find_regions(probabilities, HOP, config), probabilities, config)
    assert pieces[0] == (0, 52)
    assert len(pieces) == 1 + 3
    assert max(last - first for first, last in pieces) * HOP <= config.longest_piece_seconds
    assert [first for first, _ in pieces[1:]] == [last for _, last in pieces[:-1]]
    assert not cut_pieces(find_regions(scores([(9, 0)]), HOP, config), scores([(9, 0)]), config)


def test_short_pauses_of_one_voice_pass_through_with_it() -> None:
    who = label_frames([(0, 10), (15, 30), (35, 50), (80, 90)], np.array([0, 0, 1, 1]), 100)
    nothing = np.zeros(100, bool)
    assert passed_through(who, nothing, 10) == [(0, 30, 0), (35, 50, 1), (80, 90, 1)]
    overlap = nothing.copy()
    overlap[11:14] = True
    assert passed_through(who, overlap, 10)[:2] == [(0, 10, 0), (15, 30, 0)]


def mask(size: int, *runs: tuple[int, int]) -> NDArray[np.bool_]:
    active = np.zeros(size, bool)
    for first, last in runs:
        active[first:last] = True
    return active


def test_overlaps_with_context_share_a_piece_where_they_meet() -> None:
    who = np.zeros(1000, np.int64)
    overlap = mask(1000, (10, 20), (300, 320), (450, 460), (800, 990))
    pieces = plan_pieces(overlap, who, context=100, longest=400, most_voices=2)
    assert pieces == [
        Piece(0, 120, ((10, 20),)),
        Piece(200, 560, ((300, 320), (450, 460))),
        Piece(700, 1000, ((800, 990),)),
    ]


def test_context_ends_where_a_further_voice_begins() -> None:
    who = np.concatenate(
        [np.full(100, 2), np.full(100, 0), np.full(20, NOBODY), np.full(100, 1), np.full(100, 2)]
    )
    [piece] = plan_pieces(mask(420, (200, 220)), who, context=150, longest=1000, most_voices=2)
    assert (piece.first, piece.last) == (100, 320)
    [piece] = plan_pieces(mask(420, (200, 220)), who, context=150, longest=1000, most_voices=3)
    assert (piece.first, piece.last) == (50, 370)


def test_a_long_overlap_is_cut_without_a_gap() -> None:
    overlap = mask(3000, (100, 2900))
    pieces = plan_pieces(overlap, np.full(3000, NOBODY), context=100, longest=1200, most_voices=2)
    runs = [run for piece in pieces for run in piece.overlaps]
    assert (runs[0][0], runs[-1][1]) == (100, 2900)
    assert [first for first, _ in runs[1:]] == [last for _, last in runs[:-1]]
    assert all(piece.last - piece.first <= 1200 for piece in pieces)


def test_turns_of_voices_alone_and_together() -> None:
    speech, overlap = mask(300, (10, 200)), mask(300, (80, 100))
    who = label_frames([(8, 75), (105, 205)], np.array([1, 0]), 300)
    confidence = np.full(300, 0.9, np.float32)
    together = StretchEnergies((75, 105), (0, 1), np.ones((2, 30)))
    turns = find_turns(speech, overlap, who, [together], confidence, ("a", "b"), HOP)
    assert [turn.speaker for turn in turns] == ["b", "a"]
    assert [time for turn in turns for time in (turn.start, turn.end)] == pytest.approx([0.2, 2.0, 1.6, 4.0])
    assert turns[0].confidence == pytest.approx(0.9)


def test_estimates_tell_who_talks_in_a_stretch_that_was_separated() -> None:
    speech, overlap, who = mask(300, (0, 300)), mask(300, (130, 170)), np.full(300, NOBODY)
    who[:100], who[200:] = 0, 1
    energies = np.ones((2, 100))
    energies[0, 70:], energies[1, :45] = 1e-3, 1e-3  # both are heard for frames 145 to 170

    def turns(energies: NDArray[np.float64]) -> list[tuple[str, float, float]]:
        each = StretchEnergies((100, 200), (0, 1), energies)
        found = find_turns(speech, overlap, who, [each], np.ones(300, np.float32), ("a", "b"), HOP)
        return [(turn.speaker, turn.start / HOP, turn.end / HOP) for turn in found]

    (first, begin, end), (second, start, last) = turns(energies)
    assert (first, second, begin, last) == ("a", "b", 0, 300)
    assert start == pytest.approx(145, abs=5)  # not where the detector hears two
    assert end == pytest.approx(170, abs=5)
    late = np.ones((2, 100))
    late[1, :90], late[0, 90:] = 1e-3, 1e-3
    assert turns(late) == [("a", 0, pytest.approx(190, abs=5)), ("b", pytest.approx(190, abs=5), 300)]
    hardly = np.ones((2, 100))
    hardly[1, :20] = 4.0  # 6 dB louder than who talks alone before it: too little
    assert [(who, begin) for who, begin, _ in turns(hardly)] == [("a", 0), ("b", 130)]


def test_steps_cover_the_pieces_and_hear_no_further_than_the_talk_reaches() -> None:
    probabilities = scores([(20, 0), (200, 1), (60, 2), (100, 1)])
    config = RegionConfig()
    regions = find_regions(probabilities, HOP, config)
    pieces = cut_pieces(regions, probabilities, config)
    steps, windows = cut_steps(regions, pieces, config)
    assert sum(last - first for first, last in steps) == regions.solo.sum()
    assert all(0.15 <= (last - first) * HOP <= 0.4 for first, last in steps)
    for (first, last), (begin, end) in zip(steps, windows, strict=True):
        assert begin <= first
        assert last <= end
        assert regions.solo[begin:end].all()
