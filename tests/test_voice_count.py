"""The benchmark that counts voices in validation recordings, on synthetic embeddings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import voice_count
from benchmarks.voice_count import (
    KINDS,
    Found,
    Heard,
    Kind,
    Networks,
    cross_validate,
    draw_table,
    find,
    hear_all,
    mean_over_kinds,
    other_kinds,
    regress,
)
from polsess.diarization.clustering import Pieces

ONE, TWO = Kind("one", "alone", 1), Kind("two", "together", 2)
OTHER = Kind("other", "others", 2, fitted=False)


def heard(kind: Kind, *, alike: float = 0.0, seed: int = 0) -> Heard:
    """Thirty pieces of voices whose centres have this cosine, each of one voice in turn."""
    random, voice = np.random.default_rng(seed), np.arange(30) % kind.voices
    centres = np.sqrt(alike) * np.eye(32)[31] + np.sqrt(1 - alike) * np.eye(32)[: kind.voices]
    vectors = centres[voice] + 0.1 * random.standard_normal((30, 32))
    embeddings = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    pieces = Pieces(embeddings, np.full(30, 2.0), np.full(29, 0.5), np.zeros(30))
    return Heard(kind, pieces, 0.004, 2.0 * np.eye(kind.voices)[voice])


def test_the_share_with_another_voice_is_of_the_best_assignment() -> None:
    recording = heard(TWO)
    assert find(recording) == Found(TWO, 0, 0.0, 0.0)
    recording.talk[:3] = recording.talk[:3, ::-1]
    assert find(recording) == pytest.approx(Found(TWO, 0, 0.1, 0.1))
    everything_is_one = np.array([1.0, 0, 0, 0, 0]), -1.0
    found = find(recording, everything_is_one)
    assert found.difference == -1
    assert found.wrong == pytest.approx(14 / 30)
    assert found.given == pytest.approx(0.1)


def test_what_was_heard_is_read_as_it_was_written(tmp_path: Path) -> None:
    recording = heard(TWO)
    recording.save(tmp_path / "kind" / "000.npz")
    again = Heard.load(tmp_path / "kind" / "000.npz", TWO)
    np.testing.assert_array_equal(again.pieces.embeddings, recording.pieces.embeddings)
    np.testing.assert_array_equal(again.talk, recording.talk)
    assert find(again) == find(recording)


def test_recordings_are_heard_once_by_the_same_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened: list[int] = []

    def listen(_hearing: object, index: int, kind: Kind) -> Heard:
        listened.append(index)
        return heard(kind, seed=index)

    corpus = SimpleNamespace(example=lambda _epoch, index: index)
    for name in ("open_listeners", "Hearing", "parse_corpus_config"):
        monkeypatch.setattr(voice_count, name, lambda *_, **__: None)
    monkeypatch.setattr(voice_count, "create_corpus", lambda *_: corpus)
    monkeypatch.setattr(voice_count, "listen", listen)
    network: Any = torch.nn.Linear(2, 2)
    corpora: list[tuple[Kind, dict[str, Any]]] = [(TWO, {"metadata": "clips.csv"})]

    def run(most: int) -> list[Heard]:
        return hear_all(corpora, most, tmp_path, Networks(network, network, network))

    assert len(run(1)) == 1
    assert len(run(3)) == 3
    assert listened == [0, 1, 2]
    torch.nn.init.ones_(network.weight)
    run(2)
    assert listened == [0, 1, 2, 0, 1]


def test_a_regression_finds_the_weights_that_made_its_data() -> None:
    random, truth = np.random.default_rng(0), np.array([-8.0, 3.0])
    evidence = random.standard_normal((4000, 2)) * (0.5, 2.0)
    apart = random.random(4000) < 1 / (1 + np.exp(-(evidence @ truth + 1.0)))
    apart[3000:] = random.random(1000) < 0.5  # which count for nothing
    slopes, bias = regress(evidence, apart.astype(np.float64), (np.arange(4000) < 3000).astype(np.float64))
    np.testing.assert_allclose(slopes / slopes[0], truth / truth[0], atol=0.05)
    assert bias / slopes[0] == pytest.approx(-1 / 8, abs=0.05)


def test_rules_are_fitted_to_other_recordings_than_they_part() -> None:
    recordings = [heard(kind, alike=0.6, seed=seed) for seed in range(12) for kind in (ONE, TWO)]
    rules, rule = cross_validate(recordings)
    assert len({id(each[0]) for each in rules}) == voice_count.FOLDS
    assert rule[0][0] == 1.0
    for recording, own in zip(recordings, rules, strict=True):
        assert find(recording, own).difference == 0
    assert find(heard(OTHER, alike=0.6, seed=99), rule).difference == 0


def test_the_table_counts_recordings_by_row_and_the_mean_by_kind() -> None:
    found = [
        Found(ONE, 1, 0.3, 0.0),
        Found(ONE, 0, 0.1, 0.0),
        Found(TWO, -1, 0.4, 0.2),
        Found(OTHER, 0, 0.5, 0.5),
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in draw_table(found).splitlines()[2:]]
    assert rows[0] == ["alone", "2", "0", "1", "20.0", "0.0"]
    assert rows[1] == ["together", "1", "1", "0", "40.0", "20.0"]
    said = mean_over_kinds(found)
    assert "30.00 % (10.00 % given) over 2 kinds" in said
    assert "50.00 % (50.00 % given) over 1 kinds" in said


def test_kinds_have_names_and_surroundings_of_their_own() -> None:
    kinds = [*KINDS, *other_kinds("theirs")]
    assert len({kind.name for kind in kinds}) == len(kinds)
    known = voice_count.list_surroundings(Path("noise"), Path("rooms"))
    assert {kind.surroundings for kind in kinds} <= set(known)
