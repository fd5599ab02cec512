"""The state of a corpus, which stored results carry: any file of an example that is touched changes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from polsess.data import Corpus, Split, create_corpus, parse_corpus_config
from polsess.files import version_of
from polsess.tasks import Task
from tests.corpora.stored_layouts import noise, opened, wham, write

MINI = Path(__file__).parents[1] / "data" / "polsess_mini"


def touch(path: Path) -> None:
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))


def polsess(root: Path) -> Corpus:
    return create_corpus(
        parse_corpus_config({"corpus_type": "polsess", "root": str(root)}), Split.TEST, Task.SB
    )


@pytest.mark.parametrize("name", ["mix.wav", "s2.wav", "mix.rttm", "mix.stm"])
def test_every_file_of_an_item_counts(tmp_path: Path, name: str) -> None:
    for index, stem in enumerate(("mix", "s1", "s2")):
        write(tmp_path / "item" / f"{stem}.wav", noise(index))
    for suffix in ("rttm", "stm"):
        (tmp_path / "item" / f"mix.{suffix}").write_text("")
    values = {"corpus_type": "folder", "folder": str(tmp_path)}
    before, fingerprint = opened(values).state(), opened(values).fingerprint()
    assert opened(values).state() == before
    touch(tmp_path / "item" / name)
    assert opened(values).state() != before
    assert opened(values).fingerprint() == fingerprint  # a run goes on with data that was copied


def test_a_touched_file_of_another_split_does_not_count(tmp_path: Path) -> None:
    values = wham(tmp_path)
    before = opened(values).state()
    touch(next((tmp_path / "wav8k/min/tr/s1").iterdir()))
    assert opened(values).state() == before
    touch(next((tmp_path / "wav8k/min/tt/s1").iterdir()))
    assert opened(values).state() != before


@pytest.mark.parametrize("layer", ["mix", "clean", "scene", "event", "sp1_reverb", "ev_reverb"])
def test_every_layer_counts(tmp_path: Path, layer: str) -> None:
    shutil.copytree(MINI, tmp_path / "mini")
    before = polsess(tmp_path / "mini").state()
    for path in (tmp_path / "mini" / "test" / layer).iterdir():
        touch(path)
    assert polsess(tmp_path / "mini").state() != before


def test_words_and_conditions_of_a_list_count(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"test/{number}.wav", noise(number, 16000))
    states = []
    for text, sex in (("one", "f"), ("two", "f"), ("one", "m")):
        lines = [f"{number}.wav,{number},test,{text},{sex}" for number in range(2)]
        (tmp_path / "test" / "clips.csv").write_text(
            "\n".join(["path,speaker,split,text,sex", *lines]) + "\n"
        )
        values = {"corpus_type": "speech_clips", "metadata": str(tmp_path / "test" / "clips.csv")}
        states.append(create_corpus(parse_corpus_config(values), Split.TEST, Task.SB).state())
    assert len(set(states)) == 3


def test_a_file_that_is_not_there_has_no_version(tmp_path: Path) -> None:
    assert version_of(tmp_path / "none.wav") == ""
