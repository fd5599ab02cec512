"""Clips that do not fit into memory are read when they are drawn, and give the same examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polsess.audio import AudioError, write_audio
from polsess.data import Corpus, Split, clip_store, create_corpus, parse_corpus_config
from polsess.tasks import Task

RATE = 8000
CLIP_BYTES = 4 * RATE * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers of four clips of two seconds in each split; half of the clips are of another rate."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("clips")
    for split in Split:
        for number in range(12):
            rate = RATE if number % 2 else 2 * RATE
            noise = torch.from_numpy(0.1 * random.standard_normal(2 * rate).astype(np.float32))
            write_audio(folder / f"{split}/{split}{number // 4}/{number}.flac", noise, rate)
    return folder


def open_corpus(folder: Path, kind: str, split: Split, **values: Any) -> Any:
    sizes = {"examples_per_epoch": 6, "evaluation_examples": 6}
    config = parse_corpus_config({"corpus_type": kind, "metadata": str(folder), **sizes, **values})
    return create_corpus(config, split, Task.SV if kind == "single_speakers" else Task.SB, seed=1)


def examples(corpus: Corpus) -> list[torch.Tensor]:
    return [corpus.example(1, index).mixture for index in range(6)]


@pytest.mark.parametrize("split", [Split.TRAIN, Split.TEST])
@pytest.mark.parametrize("kind", ["speech_clips", "conversations", "single_speakers"])
def test_the_same_examples_whether_clips_are_held_or_read(
    folder: Path, kind: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"conversation_seconds": 8.0} if kind == "conversations" else {}
    held = open_corpus(folder, kind, split, **values)
    assert held.audio.holds_all
    monkeypatch.setattr(clip_store, "_HELD_BYTES", 12 * CLIP_BYTES - 1)
    monkeypatch.setattr(clip_store, "_KEPT_BYTES", 3 * CLIP_BYTES)
    read = open_corpus(folder, kind, split, **values)
    assert not read.audio.holds_all
    for one, other in zip(examples(held), examples(read), strict=True):
        assert torch.equal(one, other)
    assert read.fingerprint() == held.fingerprint()


def test_no_more_than_the_bound_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_store, "_HELD_BYTES", 0)
    monkeypatch.setattr(clip_store, "_KEPT_BYTES", 3 * CLIP_BYTES)
    done: list[Path] = []
    read_clip = clip_store.read_clip

    def count(path: Path, sample_rate: int) -> Any:
        done.append(path)
        return read_clip(path, sample_rate)

    monkeypatch.setattr(clip_store, "read_clip", count)
    store = open_corpus(folder, "speech_clips", Split.VAL).audio
    assert not done  # only headers were read
    paths = [one.path for one in store.clips]
    for path in [*paths[:3], paths[0], paths[3], paths[0], paths[1]]:
        assert store[path].shape == (2 * RATE,)
        assert sum(each.nbytes for each in store._kept.values()) <= 3 * CLIP_BYTES
    assert done == [*paths[:4], paths[1]]  # the one that was not asked for the longest has gone


def test_a_clip_that_is_damaged_beyond_its_header_is_an_error_when_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for speaker in "ab":
        write_audio(tmp_path / f"test/{speaker}/1.flac", 0.1 * torch.randn(RATE), RATE)
    damaged = tmp_path / "test/b/1.flac"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"1 of 2 recordings cannot be used.*b/1\.flac"):
        open_corpus(tmp_path, "speech_clips", Split.TEST)
    monkeypatch.setattr(clip_store, "_HELD_BYTES", 0)
    corpus = open_corpus(tmp_path, "speech_clips", Split.TEST)
    with pytest.raises(AudioError, match=r"b/1\.flac"):
        corpus.example(0, 0)
