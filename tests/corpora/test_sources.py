"""Recordings in folders and lists: whose voice each holds, by the layouts of published corpora; its split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from polsess.data import Split
from polsess.data.corpora.clips import list_clips
from polsess.data.sources import find_sources, keep_long, list_sources, speaker_of, split_sources
from tests.corpora.generated import sound


def speakers(folder: Path, names: Iterable[str]) -> list[str]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return sorted({one.label for one in find_sources(folder, speech=True)})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["anna/1.wav", "jan/1.wav"], ["anna", "jan"]),
        (["train/anna/1.wav", "val/jan/1.wav"], ["anna", "jan"]),
        (["speech/anna/1.wav", "speech/jan/1.wav"], ["anna", "jan"]),
        (["anna/2024-01-02.wav", "jan/10_20_30.wav"], ["anna", "jan"]),
        (["19/198/19-198-0000.flac", "19/227/19-227-0000.flac", "26/495/26-495-0001.flac"], ["19", "26"]),
        (["dev-clean/84/1/84-1-0000.flac", "train-clean-100/19/84/19-84-0000.flac"], ["19", "84"]),
        (["train/19/198/19_198_000001_000000.wav", "test/84/1/84_1_000000_000002.wav"], ["19", "84"]),
        (["train/audio/19/198/19_198_000001.flac", "test/audio/84/1/84_1_000002.flac"], ["19", "84"]),
        (["p225/p225_001_mic1.flac", "p226/p226_001_mic2.flac"], ["p225", "p226"]),
        (["wav48_silence_trimmed/p225/p225_001_mic1.flac", "log/s5/s5_001.wav"], ["p225", "s5"]),
        (["19-198-0000.flac", "19-227-0003.flac", "26_495_000001.flac"], ["19", "26"]),
        (["anna.wav", "jan.wav"], ["anna", "jan"]),
    ],
)
def test_speakers_of_folders(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    assert speakers(tmp_path, names) == expected


def test_two_levels_that_do_not_say_which_is_the_speaker_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"which folder of 'id10001/1zcI/00001\.wav' is the speaker's\?"):
        speakers(tmp_path, ["id10001/1zcI/00001.wav", "id10002/x4dA/00001.wav"])
    labels = {one.label for one in find_sources(tmp_path)}  # of scenes and events the last folder counts
    assert labels == {"1zcI", "x4dA"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["train-clean-100/19/1/19-1-0.flac", "dev-clean/84/1/84-1-0.flac", "test-other/7/2/7-2-0.flac"],
            "19 84 7",
        ),
        (["train_clean_360/19/a.wav", "dev_other/84/a.wav", "eval/7/a.wav"], "19 84 7"),
        (["TRAIN/dr1/a.wav", "Validation/dr2/a.wav", "TEST/dr3/a.wav"], "dr1 dr2 dr3"),
        (["tr/anna/1.wav", "cv/jan/1.wav", "tt/ola/1.wav"], "anna jan ola"),
    ],
)
def test_folders_named_after_splits(tmp_path: Path, names: list[str], expected: str) -> None:
    speakers(tmp_path, names)
    found = [[one.label for one in list_clips(tmp_path, split)] for split in Split]
    assert found == [[name] for name in expected.split()]


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.wav", "rain/1.wav", "dog/1.wav"],  # classes of sounds
        ["test/1.wav", "anna/1.wav", "devon/1.wav"],  # speakers
    ],
)
def test_a_folder_named_after_a_split_among_others_is_a_label(tmp_path: Path, names: list[str]) -> None:
    assert speakers(tmp_path, names) == sorted(name.split("/")[0] for name in names)
    assert {one.split for one in find_sources(tmp_path)} == {None}


@pytest.mark.parametrize(
    ("name", "message"), [("anna/1.wav", "'anna' lies beside test, train"), ("1.wav", "a file lies")]
)
def test_what_is_in_no_split_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        speakers(tmp_path, ["train/jan/1.wav", "test/ola/1.wav", name])


def test_paths_in_lists() -> None:
    assert speaker_of("LibriSpeech/train-clean-100/19/198/19-198-0000.flac") == "19"
    assert speaker_of("LibriTTS/19/198/19_198_000001_000000.wav") == "19"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sound files in it"):
        list_clips(tmp_path, Split.TRAIN)


def test_sources_without_a_split_are_dealt_out_by_speaker(tmp_path: Path) -> None:
    lines = ["path,speaker"]
    for n in range(40):
        sound(tmp_path / f"{n}.wav", 0.6)
        lines.append(f"{n}.wav,voice{n // 2}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    found = list_sources(tmp_path / "list.csv", speech=True)
    parts = [split_sources(found, split, by_label=True, strict=True) for split in (Split.TRAIN, Split.VAL)]
    voices = [{one.label for one in part} for part in parts]
    assert not voices[0] & voices[1]
    with pytest.raises(
        ValueError, match=r"place: none of 40 recordings is longer than 5 s; the longest has 0\.6 s"
    ):
        keep_long(found, 5.0, "place")
    sound(tmp_path / "long.wav", 1.0)
    (tmp_path / "list.csv").write_text("\n".join([*lines, "long.wav,voice0\n"]))
    with pytest.warns(UserWarning, match="place: 40 of 41 recordings are not longer than 0.8 s and left out"):
        assert len(keep_long(list_sources(tmp_path / "list.csv", speech=True), 0.8, "place")) == 1
    (tmp_path / "list.csv").write_text("path,speaker,split\n0.wav,a,extra\n")
    with pytest.raises(ValueError, match="'extra' is not one of"):
        list_sources(tmp_path / "list.csv")
