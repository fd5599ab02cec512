"""Pieces of one speaker each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.audio import write_audio
from polsess.data import Split, collate, create_corpus, parse_corpus_config
from polsess.data.base import Corpus
from polsess.schema import ConfigError
from polsess.tasks import Task

RATE = 8000


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """Two speakers in training, three in validation: each a tone; one clip is shorter than a piece."""
    lines = ["path,speaker,sex,split"]
    for number, (split, seconds) in enumerate(
        [("train", 4.0), ("train", 0.3), ("val", 3.0), ("val", 3.0), ("val", 3.0)]
    ):
        time = torch.arange(round(seconds * RATE)) / RATE
        write_audio(tmp_path / f"{number}.wav", 0.3 * torch.sin(6.2832 * 200 * (number + 1) * time), RATE)
        lines.append(f"{number}.wav,voice{number},F,{split}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    return {
        "corpus_type": "single_speakers",
        "metadata": tmp_path / "metadata.csv",
        "segment_seconds": 1.5,
        "evaluation_seconds": 1.0,
        "speeds": [1.0, 0.8, 1.25],
        "evaluation_examples": 6,
    }


def opened(values: dict[str, Any], split: Split, seed: int = 0) -> Corpus:
    return create_corpus(parse_corpus_config(values), split, Task.SV, seed)


def pitch(sound: torch.Tensor) -> float:
    return float(torch.fft.rfft(sound).abs().argmax()) * RATE / len(sound)


def test_training_pieces_are_of_one_class_each(values: dict[str, Any]) -> None:
    corpus = opened(values, Split.TRAIN)
    assert corpus.classes == [f"voice{n} at {speed}" for n in (0, 1) for speed in ("1", "0.8", "1.25")]
    drawn = [corpus.example(0, index) for index in range(40)]
    assert {example.metadata["class"] for example in drawn} == set(corpus.classes)
    for example in drawn:
        assert example.mixture.shape == (12_000,)
        assert example.references.shape == (0, 12_000)
        name, _, speed = str(example.metadata["class"]).partition(" at ")
        assert example.metadata["speakers"] == name
        assert pitch(example.mixture) == pytest.approx(200 * (int(name[-1]) + 1) * float(speed), rel=0.02)
    again = opened(values, Split.TRAIN)
    assert torch.equal(again.example(0, 7).mixture, drawn[7].mixture)
    assert not torch.equal(again.example(1, 7).mixture, drawn[7].mixture)


def test_validation_takes_every_speaker_in_turn(values: dict[str, Any]) -> None:
    corpus = opened(values, Split.VAL)
    drawn = [corpus.example(0, index) for index in range(len(corpus))]
    assert [example.metadata["speakers"] for example in drawn] == ["voice2", "voice3", "voice4"] * 2
    assert all(example.mixture.shape == (RATE,) for example in drawn)
    assert torch.equal(opened(values, Split.VAL, seed=5).example(3, 1).mixture, drawn[1].mixture)


def test_batches_without_references_are_collated_and_cut(values: dict[str, Any]) -> None:
    corpus = opened(values, Split.TRAIN)
    batch = collate([((0, index), corpus.example(0, index)) for index in range(3)])
    assert batch.references.shape == (3, 0, 12_000)
    part = batch.rows(1, 3)
    assert torch.equal(part.mixture, batch.mixture[1:3])
    assert part.keys == [(0, 1), (0, 2)]
    assert part.metadata == batch.metadata[1:3]


def test_validation_without_pairs_of_one_speaker_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="3 pieces of the 3 speakers of split 'val' hold no two of one"):
        opened({**values, "evaluation_examples": 3}, Split.VAL)
    assert len(opened({**values, "evaluation_examples": 3}, Split.TRAIN)) == 2000


def test_other_tasks_and_wrong_sizes_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="single_speakers has no references for task SB; it knows SV"):
        create_corpus(parse_corpus_config(values), Split.TRAIN, Task.SB)
    for key, value in (("segment_seconds", None), ("speeds", []), ("speeds", [3.0]), ("num_speakers", 2)):
        with pytest.raises(ConfigError, match=f"data.corpus.{key}"):
            parse_corpus_config({**values, key: value})
