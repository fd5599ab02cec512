"""EchoSet's folders: found wherever the archive was unpacked, cut to the shortest file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polsess.audio import read_audio, write_audio
from polsess.data.base import Split
from polsess.data.corpora.echoset import EchoSet, EchoSetConfig
from polsess.tasks import Task

NAMES = ("mix", "spk1_reverb", "spk2_reverb")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The archive, unpacked below its folders."""
    random = np.random.default_rng(0)
    for split, utterances in (("train", 2), ("val", 1), ("test", 3)):
        for number in range(utterances):
            folder = tmp_path / f"gpfs/home/EchoSet/{split}/17DRP5sb8fy/room{number % 2}/1089_{number}"
            folder.mkdir(parents=True)
            for place, name in enumerate(NAMES):
                samples = torch.from_numpy(0.1 * random.standard_normal((1, 16000 + 10 * place)))
                write_audio(folder / f"{name}.wav", samples.float(), 16000)
    return tmp_path


@pytest.mark.parametrize("below", ["", "gpfs/home/EchoSet"])
def test_every_mixture_is_found_with_its_scene_and_room(root: Path, below: str) -> None:
    corpus = EchoSet(EchoSetConfig(root=root / below), Split.TEST, Task.SB)
    assert [each.identifier for each in corpus.mixtures] == [
        "17DRP5sb8fy-room0-1089_0",
        "17DRP5sb8fy-room0-1089_2",
        "17DRP5sb8fy-room1-1089_1",
    ]
    assert corpus.mixtures[2].metadata == {"scene": "17DRP5sb8fy", "room": "room1", "speakers": "1089-1"}


def test_files_end_with_the_shortest(root: Path) -> None:
    corpus = EchoSet(EchoSetConfig(root=root), Split.VAL, Task.SB)
    example = corpus.example(0, 0)
    assert example.mixture.shape == (16000,)
    written, _ = read_audio(corpus.mixtures[0].sources[1])
    torch.testing.assert_close(example.references[1], written[0, :16000])


def test_training_takes_segments_that_all_files_have(root: Path) -> None:
    corpus = EchoSet(EchoSetConfig(root=root, segment_seconds=0.5), Split.TRAIN, Task.EB)
    assert len(corpus) == 2
    assert corpus.example(0, 0).references.shape == (1, 8000)


def test_a_folder_without_the_split_and_two_copies_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.corpus.root: no folder test/<scene>"):
        EchoSet(EchoSetConfig(root=root / "gpfs/home/EchoSet/train"), Split.TEST, Task.SB)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        EchoSet(EchoSetConfig(root=tmp_path / "missing"), Split.TEST, Task.SB)

    with pytest.raises(ValueError, match="do not fit task ES"):
        EchoSet(EchoSetConfig(root=root), Split.TEST, Task.ES)
    second = root / "second/test/scene/room/utt"
    second.mkdir(parents=True)
    for name in NAMES:
        write_audio(second / f"{name}.wav", torch.zeros(1, 16000), 16000)
    with pytest.raises(FileNotFoundError, match="more than one folder test"):
        EchoSet(EchoSetConfig(root=root), Split.TEST, Task.SB)
