from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polsess.audio import write_audio
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.data.corpora.folder import Folder, find_sound, list_items
from polsess.tasks import Task


def write_item(folder: Path, num_samples: int = 800, num_speakers: int = 2, sample_rate: int = 8000) -> None:
    folder.mkdir(parents=True)
    sources = 0.1 * torch.randn(num_speakers, num_samples)
    write_audio(folder / "mix.wav", sources.sum(0, keepdim=True), sample_rate)
    for number, source in enumerate(sources, start=1):
        write_audio(folder / f"s{number}.flac", source[None], sample_rate)


def open_folder(folder: Path, split: Split = Split.TEST, task: Task = Task.SB, **fields: object) -> Folder:
    data = {"corpus_type": "folder", "folder": str(folder), **fields}
    corpus = create_corpus(parse_corpus_config(data), split, task)
    assert isinstance(corpus, Folder)
    return corpus


def test_items_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("item10", "item2", ".hidden"):
        write_item(tmp_path / name)
    assert list_items(tmp_path) == ["item2", "item10"]
    corpus = open_folder(tmp_path)
    example = corpus.example(5, 1)
    assert example.identifier == "item10"
    assert example.references.shape == (2, 800)
    torch.testing.assert_close(example.mixture, example.references.sum(0), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("task", "num_sources"), [(Task.ES, 1), (Task.EB, 1), (Task.SB, 3)])
def test_tasks(tmp_path: Path, task: Task, num_sources: int) -> None:
    write_item(tmp_path / "a", num_speakers=3)
    corpus = open_folder(tmp_path, task=task)
    assert corpus.num_sources == num_sources
    assert corpus.example(0, 0).references.shape == (num_sources, 800)


def test_parts_are_folders(tmp_path: Path) -> None:
    write_item(tmp_path / "train" / "a", num_samples=9000)
    write_item(tmp_path / "test" / "b")
    training = open_folder(tmp_path, Split.TRAIN, segment_seconds=0.5)
    assert training.example(0, 0).references.shape == (2, 4000)
    assert not torch.equal(training.example(0, 0).mixture, training.example(1, 0).mixture)
    assert [one.identifier for one in open_folder(tmp_path).mixtures] == ["b"]
    with pytest.raises(FileNotFoundError, match="no part 'val'"):
        open_folder(tmp_path, Split.VAL)


def test_other_rates_are_converted(tmp_path: Path) -> None:
    write_item(tmp_path / "a", sample_rate=16000)
    assert open_folder(tmp_path).example(0, 0).mixture.shape == (400,)


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no items in it"):
        open_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="no references in it"):
        open_folder(tmp_path)
    (tmp_path / "a").rmdir()
    write_item(tmp_path / "a")
    write_audio(tmp_path / "a" / "s2.flac", torch.zeros(1, 700), 8000)
    with pytest.raises(ValueError, match=r"s2\.flac: has 700 samples, its mixture has 800"):
        open_folder(tmp_path)
    write_audio(tmp_path / "a" / "s2.flac", torch.zeros(2, 800), 8000)
    with pytest.raises(ValueError, match="2 channels; expected one"):
        open_folder(tmp_path)
    (tmp_path / "a" / "s2.flac").unlink()
    write_item(tmp_path / "b")
    (tmp_path / "b" / "s2.flac").unlink()
    write_audio(tmp_path / "a" / "s2.wav", torch.zeros(1, 800), 8000)
    with pytest.raises(
        ValueError, match=r"1 of 2 recordings cannot be used.*b/s2\.wav: there is no such file"
    ):
        open_folder(tmp_path)
    with pytest.warns(UserWarning, match="1 of 2 recordings"):
        assert len(open_folder(tmp_path, max_bad="50%")) == 1
    write_audio(tmp_path / "a" / "s2.flac", torch.zeros(1, 800), 8000)
    with pytest.raises(ValueError, match=r"which of s2.flac, s2.wav"):
        find_sound(tmp_path / "a", "s2")


def test_items_are_mixed_anew(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_item(tmp_path / "train" / name, num_samples=4000)
    corpus = open_folder(tmp_path, Split.TRAIN, augmentation={"remix": {}})
    examples = [corpus.example(epoch, 0) for epoch in range(4)]
    assert len({float(example.mixture.abs().sum()) for example in examples}) > 1
    for example in examples:
        torch.testing.assert_close(example.mixture, example.references.sum(0), atol=2e-4, rtol=0)


def test_a_source_more_than_the_first_item_has_is_said(tmp_path: Path) -> None:
    write_item(tmp_path / "a")
    write_item(tmp_path / "b", num_speakers=3)
    with pytest.warns(
        UserWarning, match=r"s3 in 1 items, e\.g\. b, is not used: the first item, a, has 2 sources"
    ):
        assert open_folder(tmp_path).num_sources == 2


def test_linked_items_are_read_and_added_folders_are_not(tmp_path: Path) -> None:
    write_item(tmp_path / "elsewhere" / "b")
    write_item(tmp_path / "data" / "a")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (tmp_path / "data" / "__MACOSX").mkdir()
    assert list_items(tmp_path / "data") == ["a", "b"]
    assert len(open_folder(tmp_path / "data")) == 2
