"""Scores of conversations, on planted errors whose scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from polsess.metrics.conversations import (
    assign_tracks,
    inactive_level_db,
    overlap_si_snri_db,
    solo_fidelity_db,
    wrong_track_share,
)
from polsess.timelines import Turn, activity

HOP, RATE = 80, 8000
TURNS = (Turn(0.0, 4.0, "a"), Turn(3.0, 6.0, "b"), Turn(6.0, 8.0, "a"), Turn(9.0, 10.0, "b"))


def conversation() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """References ``[2, T]`` of noise within the turns, and their activity ``[2, L]``."""
    active = activity(TURNS, ("a", "b"), 1000, HOP / RATE)
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 1000 * HOP))
    return noise * np.repeat(active, HOP, axis=1), active


def test_a_perfect_separation() -> None:
    references, active = conversation()
    mixture = references.sum(0)
    estimates = references[::-1].copy()
    order = assign_tracks(estimates, references)
    assert order == [1, 0]
    assert wrong_track_share(estimates, active, HOP, order) == 0
    assert solo_fidelity_db(estimates, references, active, HOP, order) == 100
    assert overlap_si_snri_db(estimates, references, mixture, active, HOP, order) > 70
    assert inactive_level_db(estimates, mixture, active, HOP, order) == -100


def test_a_stretch_on_the_wrong_track_is_counted() -> None:
    references, active = conversation()
    estimates = references.copy()
    swapped = slice(6 * RATE, 8 * RATE)
    estimates[:, swapped] = estimates[::-1, swapped]
    order = assign_tracks(estimates, references)
    assert order == [0, 1]
    # Alone: a 3 + 2 s, b 2 + 1 s; the 2 s of a from second 6 are on b's track.
    assert wrong_track_share(estimates, active, HOP, order) == pytest.approx(2 / 8)
    energy = np.square(references).sum(0)
    alone = np.repeat(active.sum(0) == 1, HOP)
    expected = 10 * math.log10(energy[alone].sum() / energy[swapped].sum())
    assert solo_fidelity_db(estimates, references, active, HOP, order) == pytest.approx(expected)


def test_leakage_is_a_level_against_the_mixture() -> None:
    references, active = conversation()
    mixture = references.sum(0)
    leaky = references + 0.1 * references[::-1]
    order = [0, 1]
    assert inactive_level_db(leaky, mixture, active, HOP, order) == pytest.approx(-20, abs=0.01)
    assert solo_fidelity_db(leaky, references, active, HOP, order) == 100  # the own track is not touched
    improvement = overlap_si_snri_db(leaky, references, mixture, active, HOP, order)
    assert improvement == pytest.approx(20, abs=0.7)  # the other is 20 dB quieter than in the mixture
    assert overlap_si_snri_db(np.stack([mixture] * 2), references, mixture, active, HOP, order) == 0


def test_what_does_not_occur_has_no_score() -> None:
    references, active = conversation()
    silent = np.zeros_like(active)
    one_track = references * [[1], [0]]
    assert math.isnan(overlap_si_snri_db(one_track, references, references.sum(0), active, HOP, [0, 1]))
    mixture = references.sum(0)
    order = [0, 1]
    assert math.isnan(wrong_track_share(references, silent, HOP, order))
    assert math.isnan(solo_fidelity_db(references, references, silent, HOP, order))
    assert math.isnan(overlap_si_snri_db(references, references, mixture, silent, HOP, order))
    assert math.isnan(inactive_level_db(references, mixture, silent, HOP, order))
    with pytest.raises(ValueError, match="1 tracks for 2 speakers"):
        assign_tracks(references[:1], references)
