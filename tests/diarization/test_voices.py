"""Clustering, decoding and assignment on synthetic embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from polsess.diarization.assignment import assign_outputs, compare_steps, decode_voices
from polsess.diarization.clustering import Pieces, find_centroids, find_voices, list_partitions
from polsess.diarization.known_voices import KnownVoices, cut_by_known


def pieces_of(
    labels: list[int], spread: float = 0.25, alike: float = 0.0, seed: int = 0
) -> NDArray[np.float32]:
    """Unit vectors ``[N, 32]`` around one centre per voice; ``alike`` is the cosine of the centres."""
    random = np.random.default_rng(seed)
    common = np.zeros(32)
    common[31] = 1.0
    centres = np.sqrt(alike) * common + np.sqrt(1 - alike) * np.eye(32)[: max(labels) + 1]
    vectors = centres[labels] + spread * random.standard_normal((len(labels), 32)) / np.sqrt(8)
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def find(embeddings: NDArray[np.float32], seconds: float | NDArray[np.float64] = 2.0, **options: Any) -> Any:
    """Labels and centroids of pieces with pauses between them, in which probably one talks."""
    count = len(embeddings)
    options = {"sure_overlap": 0.0, "same_voice": 1.0, "same_voice_asked": 0.9} | options
    evidence = [np.full(count - 1, 0.5), np.zeros(count)]
    for place, key in enumerate(("pauses", "several")):
        evidence[place] = options.pop(key, evidence[place])
    return find_voices(Pieces(embeddings, np.broadcast_to(seconds, count), *evidence), **options)


@pytest.mark.parametrize("voices", [1, 2, 3, 5])
def test_the_number_of_voices_is_found(voices: int) -> None:
    truth = [index % voices for index in range(60)]
    labels, centroids = find(pieces_of(truth))
    assert len(centroids) == voices
    assert len(set(zip(truth, labels.tolist(), strict=True))) == voices
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)


def test_the_best_partition_is_found_where_voices_talk_for_unlike_times() -> None:
    truth, seconds = [0] * 40 + [1] * 12 + [2] * 5 + [3] * 5, np.full(62, 2.0)
    embeddings = pieces_of(truth, spread=0.5)
    *_, centroids = list_partitions(embeddings, seconds, 4)
    labels = (embeddings @ centroids.T).argmax(1)
    assert len(set(zip(truth, labels.tolist(), strict=True))) == 4
    np.testing.assert_allclose(centroids, find_centroids(embeddings, seconds, labels), atol=1e-6)


def test_who_talks_little_is_told_apart_before_who_talks_much_is_cut_in_two() -> None:
    """The long voice sounds two ways, and k-means alone would rather have these for two voices."""
    much = pieces_of([0] * 20 + [1] * 20, spread=0.2, alike=0.8)
    little = pieces_of([2] * 4 + [3] * 4, spread=0.2, alike=0.3)
    embeddings, truth = np.concatenate([much, little]), [0] * 40 + [1] * 4 + [2] * 4
    *_, centroids = list_partitions(embeddings, np.full(48, 2.0), 3)
    labels = (embeddings @ centroids.T).argmax(1)
    assert len(set(zip(truth, labels.tolist(), strict=True))) == 3


def test_a_voice_that_goes_on_without_a_pause_is_not_cut_in_two() -> None:
    """One voice sounds two ways without a pause, and two others are as unlike as these ways."""
    one = pieces_of([0, 1] * 12, spread=0.1, alike=0.6)
    two = pieces_of([2, 3] * 3, spread=0.1, alike=0.62)
    embeddings, seconds = np.concatenate([one, two]), np.full(30, 2.0)
    pauses = np.concatenate([np.zeros(24), np.ones(5)])
    found = []
    for each in (None, pauses):
        _, _, centroids = list_partitions(embeddings, seconds, 3, each)
        labels = (embeddings @ centroids.T).argmax(1)
        found.append((len(set(labels[:24].tolist())), len(set(labels[24:].tolist()))))
    assert found == [(2, 1), (1, 2)]


def test_a_number_is_a_wish_that_does_not_cut_a_voice_in_two() -> None:
    alike = pieces_of([0, 1] * 20, alike=0.5)
    options = {"same_voice": 0.6, "same_voice_asked": 0.7}
    assert len(find(alike, **options)[1]) == 1
    assert len(find(alike, num_speakers=(2, 2), **options)[1]) == 2
    assert len(find(pieces_of([0] * 40), num_speakers=(2, 2), **options)[1]) == 1
    assert len(find(pieces_of([0, 1, 2, 3] * 10), num_speakers=(1, 2))[1]) == 2


def test_voices_that_are_found_unasked_are_found_when_asked_for() -> None:
    alike = pieces_of([0, 1] * 20, alike=0.5)
    options = {"same_voice": 1.25, "same_voice_asked": 0.3}
    assert len(find(alike, **options)[1]) == 2
    assert len(find(alike, num_speakers=(2, 2), **options)[1]) == 2


def test_each_of_many_voices_needs_as_much_evidence_as_each_of_two() -> None:
    """Of eight each talks for an eighth of the time, which is no sign that two of them are one."""
    labels, _ = find(pieces_of([index % 8 for index in range(160)], alike=0.5), same_voice=1.25)
    assert len(set(labels)) == 8


def test_what_else_speaks_for_one_voice_or_for_two() -> None:
    alike = pieces_of([0, 1] * 20, alike=0.55)
    at_once, doubtful = np.zeros(39), np.full(40, 0.3)

    def number(**options: Any) -> int:
        return len(find(alike, same_voice=1.25, **options)[1])

    assert number() == 2
    assert number(pauses=at_once) == 1  # they take turns without a pause
    assert number(several=doubtful) == 1  # there are several in the pieces
    assert number(several=doubtful / 2, sure_overlap=0.0) == 1
    assert number(several=doubtful / 2, sure_overlap=0.1) == 2  # there are overlaps
    unlike_times = pieces_of([0, 0, 0, 0, 0, 0, 0, 0, 0, 1] * 4, alike=0.55)
    assert len(find(unlike_times, same_voice=1.25)[1]) == 1  # one talks little


def test_an_enrolment_tells_two_apart_who_sound_alike() -> None:
    embeddings, seconds = pieces_of([0, 1] * 12, spread=0.2, alike=0.6), np.full(24, 2.0)
    labels = np.zeros(24, np.int64)
    first, middle = (
        find_centroids(embeddings[chosen], seconds[chosen], 0 * labels[chosen])
        for chosen in (slice(0, None, 2), slice(None))
    )
    cut = cut_by_known(embeddings, seconds, labels, KnownVoices(first, 0.55), most=8)
    assert (cut == cut[:2].tolist() * 12).all()
    assert len(set(cut)) == 2
    for known, most in (
        (KnownVoices(first, 0.55), 1),
        (KnownVoices(np.eye(1, 32, 9, dtype=np.float32), 0.55), 8),
        (KnownVoices(middle, 0.55), 8),
    ):
        assert (cut_by_known(embeddings, seconds, labels, known, most=most) == labels).all()
    one = pieces_of([0] * 24)
    assert not cut_by_known(one, seconds, labels, KnownVoices(one[:1], 0.55), most=8).any()


def test_three_like_voices_are_found_where_their_halves_are_too_alike() -> None:
    embeddings = pieces_of([0, 1, 2] * 20, spread=0.05, alike=0.5)
    assert len(find(embeddings, num_speakers=(1, 2), same_voice=1.1)[1]) == 1
    assert len(find(embeddings, same_voice=1.1)[1]) == 3


def test_what_is_said_for_a_moment_is_no_voice() -> None:
    embeddings = np.concatenate([pieces_of([0, 1] * 10), pieces_of(list(range(2, 12)), seed=1)])
    labels, centroids = find(embeddings, np.concatenate([np.full(20, 2.0), np.full(10, 0.3)]))
    assert len(centroids) == 2
    assert len(labels) == 30


def test_one_piece_and_very_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(find(pieces_of([0]), 1.0)[1]) == 1
    monkeypatch.setattr("polsess.diarization.clustering._MOST_PIECES", 50)
    truth = [index // 20 % 3 for index in range(600)]
    labels, centroids = find(pieces_of(truth))
    assert len(centroids) == 3
    assert len(set(zip(truth, labels.tolist(), strict=True))) == 3


def test_a_short_doubtful_piece_follows_its_neighbour() -> None:
    similarities = np.array([[0.8, 0.1], [0.4, 0.45], [0.8, 0.1], [0.1, 0.8]])
    pieces = [(0, 100), (102, 112), (114, 200), (260, 300)]
    assert decode_voices(similarities, pieces, 0.02).tolist() == [0, 0, 0, 1]
    apart = [(0, 100), (400, 480), (900, 1000), (1100, 1200)]
    assert decode_voices(similarities, apart, 0.02).tolist() == [0, 1, 0, 1]
    assert decode_voices(np.zeros((0, 2)), [], 0.02).tolist() == []


def test_steps_between_two_of_one_voice_need_no_hearing() -> None:
    """Three runs: the voice changes within the first, the second is unsure, the third is one step."""
    truth = np.array([[0.8, 0.1]] * 9 + [[0.1, 0.8]] * 12 + [[0.5, 0.45]] * 5 + [[0.2, 0.7]])
    starts = [10 * step + 5 * (step > 20) + 5 * (step > 25) for step in range(len(truth))]
    steps = [(start, start + 10) for start in starts]
    heard: list[int] = []

    def compare(places: list[int]) -> NDArray[np.float64]:
        heard.extend(places)
        return truth[places]

    found = compare_steps(steps, 2, compare)
    assert (found.argmax(1) == truth.argmax(1)).all()
    assert sorted(heard) == [0, 4, 8, 9, 10, 12, 16, 20, *range(21, 27)]
    np.testing.assert_allclose(found[[2, 5, 14, 24]], truth[[2, 5, 14, 24]])
    heard.clear()
    assert (compare_steps(steps, 1, compare) == 1).all()
    assert not heard
    assert compare_steps(steps[:1], 2, compare).tolist() == [[0.8, 0.1]]
    sloping = compare_steps(steps[:5], 2, lambda places: np.array([[0.9 - 0.05 * i, 0.1] for i in places]))
    np.testing.assert_allclose(sloping[:, 0], [0.9, 0.85, 0.8, 0.75, 0.7])


def test_two_outputs_are_two_people_and_neighbours_decide_before_embeddings() -> None:
    nothing = np.zeros((2, 3))
    heard = np.array([[0.1, 0.95, 0.0], [0.9, 0.05, 0.0]])
    voices = np.array([[0.6, 0.5, 0.0], [0.5, 0.6, 0.0]])
    assert assign_outputs(heard, np.array([2.0, 2.0, 0.0]), voices).tolist() == [1, 0]
    assert assign_outputs(nothing, np.zeros(3), voices).tolist() == [0, 1]
    both_alike = np.array([[0.7, 0.1, 0.3], [0.6, 0.1, 0.0]])
    assert len(set(assign_outputs(nothing, np.zeros(3), both_alike).tolist())) == 2


def test_more_outputs_than_voices_lose_nothing() -> None:
    labels = assign_outputs(np.zeros((3, 2)), np.zeros(2), np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.6]]))
    assert labels.tolist() == [0, 1, 1]
