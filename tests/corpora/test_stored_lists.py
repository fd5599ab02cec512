"""Lists and manifests of recordings: which can be read, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polsess.tasks import Task
from tests.corpora.stored_layouts import (
    NAMES,
    libri_lists,
    look2hear,
    manifest,
    opened,
)


def test_a_subset_by_list(tmp_path: Path) -> None:
    values = libri_lists(tmp_path)
    path = tmp_path / "Libri2Mix/wav8k/min/metadata/mixture_test_mix_both.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]))
    corpus = opened(values)
    assert [one.identifier for one in corpus.mixtures] == [NAMES[1]]
    path.write_text("\n".join([lines[0], lines[2].replace(",900", ",901")]))
    with pytest.raises(ValueError, match="its list says 901"):
        opened(values)
    path.write_text("\n".join([lines[0], lines[2].replace(",900", ",many")]))
    with pytest.raises(ValueError, match="row 2, length"):
        opened(values)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s1.json", "[", "not readable as JSON"),
        ("s1.json", "{}", "expected a list"),
        ("s1.json", '[["a.wav", "900"]]', "entry 0"),
        ("s1.json", '[["audio/s1/a.wav", 900]]', "differ in length"),
        ("s1.json", None, "no such file"),
    ],
)
def test_lists_that_cannot_be_used_are_named(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    values = look2hear(tmp_path)
    path = tmp_path / "test" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        opened(values)


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    values = look2hear(tmp_path)
    (tmp_path / "tt").mkdir()
    with pytest.raises(FileNotFoundError, match=r"one folder of split 'test' in .*, got: test, tt"):
        opened(values)


def test_the_manifest_keeps_conditions(tmp_path: Path) -> None:
    example = opened(manifest(tmp_path)).example(0, 0)
    assert example.metadata == {"room": "hall", "snr_db": 3.5}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",", ";", "separator must be a comma"),
        ("mixture", "mix", r"missing column\(s\) mixture"),
        ("source_2", "source_3", "without a gap"),
        (",hall,3.5", ",hall", r"row 2: expected 7 cells"),
        (",hall,3.5", ",hall,3.5,4", r"row 2: expected 7 cells"),
        (f"audio/s1/{NAMES[0]}.wav", "", r"row 8, source_1: is empty"),
        (",test,", ",tests,", "'tests' is not one of train, val, test"),
        (",test,", ",val,", "identifier: .* is there before|no row has split 'test'"),
        (f"{NAMES[1]},", f"{NAMES[0]},", "is there before"),
        (f"audio/s2/{NAMES[0]}.wav", "audio/none.wav", "audio/none.wav"),
    ],
)
def test_manifests_that_cannot_be_used_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    path.write_text(path.read_text(encoding="utf-8-sig").replace(old, new))
    with pytest.raises(ValueError, match=message):
        opened(values)


def test_a_manifest_of_single_speakers_is_for_enhancement(tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    path.write_text(path.read_text(encoding="utf-8-sig").replace("source_2", "other"))
    assert opened(values, task=Task.ES).num_sources == 1
    with pytest.raises(ValueError, match="task SB"):
        opened(values)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    for content in (b"\xff\xfe\x00mixtures", b"mixture,source_1,split\na.wav,b\xb3.wav,test\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"row [12]: not a CSV file in UTF-8 \(byte"):
            opened({"corpus_type": "manifest", "manifest": str(path)})


def test_a_table_in_utf_16_and_padded_cells_are_read(tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    text = path.read_text(encoding="utf-8-sig").replace(",", " , ")
    path.write_bytes(text.encode("utf-16"))
    assert len(opened(values)) == len(NAMES)
    assert opened(values).example(0, 0).metadata == {"room": "hall", "snr_db": 3.5}


@pytest.mark.parametrize("folder", ["D:\\data\\set\\audio", ".\\audio", "audio", "/of/another/machine/audio"])
def test_lists_of_other_machines_are_found_beside_their_files(folder: str, tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    separator = "\\" if "\\" in folder else "/"
    text = path.read_text(encoding="utf-8-sig").replace("audio/", "audio/")
    lines = [
        ",".join(
            cell.replace("audio/", f"{folder}/").replace("/", separator) if "audio/" in cell else cell
            for cell in line.split(",")
        )
        for line in text.splitlines()
    ]
    path.write_text("\n".join(lines))
    assert len(opened(values)) == len(NAMES)
    lists = look2hear(tmp_path / "lists")
    for name in ("mix", "s1", "s2"):
        file = tmp_path / "lists" / "test" / f"{name}.json"
        entries = json.loads(file.read_text())
        moved = [[one.replace("audio/", f"{folder}/").replace("/", separator), f] for one, f in entries]
        file.write_text(json.dumps([[one, float(count)] for one, count in moved]))
    assert len(opened(lists)) == len(NAMES)


def test_lengths_with_a_point_are_whole_numbers(tmp_path: Path) -> None:
    values = libri_lists(tmp_path)
    path = tmp_path / "Libri2Mix/wav8k/min/metadata/mixture_test_mix_both.csv"
    path.write_text(path.read_text().replace(",900", ",900.0"))
    assert len(opened(values)) == len(NAMES)
    path.write_text(path.read_text().replace(",900.0", ",900.5"))
    with pytest.raises(ValueError, match=r"row 2, length: expected a number of samples, got '900\.5'"):
        opened(values)


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    values = libri_lists(tmp_path)
    path = tmp_path / "Libri2Mix/wav8k/min/metadata/mixture_test_mix_both.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(ValueError, match="names 2 mixtures; names must differ"):
        opened(values)


def test_a_mixture_in_two_splits_is_refused(tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    path.write_text(path.read_text(encoding="utf-8-sig").replace("audio/val/", "audio/train/"))
    with pytest.raises(ValueError, match=r"row 5, mixture: .* is in split val, and in train in row 2"):
        opened(values)
