"""Timelines in the formats of annotation programs, with names that those formats cannot hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import torch
from torch import Tensor

from polsess.audio import AudioError, write_audio
from polsess.diarization import SpeakerTimeline
from polsess.inference import Separation
from polsess.inference.elan import format_elan
from polsess.inference.timeline_files import TimelineFiles, format_audacity, parse_formats
from polsess.timelines import Turn, read_rttm
from tests.inference.scripted import RATE, splitter
from tests.inference.test_gated import CONVERSATION, gated

HOSTILE = 'a\t"<b>&\n\x01'
TALK = (Turn(0.0, 2.0, HOSTILE), Turn(1.5, 3.0, "żółw\udcff"), Turn(3.0, 3.0001, HOSTILE))


def read(text: str) -> Xml.Element:
    return Xml.fromstring(text.encode("utf-8"))


def test_an_elan_document_has_the_order_that_its_schema_wants(tmp_path: Path) -> None:
    text = format_elan(TALK, [HOSTILE, "żółw\udcff", "silent"], tmp_path / "talk.eaf", tmp_path / "a & b.wav")
    document = read(text)
    children = [child.tag for child in document]
    assert children == ["HEADER", "TIME_ORDER", "TIER", "TIER", "TIER", "LINGUISTIC_TYPE"]
    assert set(document.attrib) >= {"AUTHOR", "DATE", "VERSION"}
    media = document.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert media.attrib == {
        "MEDIA_URL": f"file://{tmp_path}/a & b.wav",
        "MIME_TYPE": "audio/x-wav",
        "RELATIVE_MEDIA_URL": "./a & b.wav",
    }
    types = {each.get("LINGUISTIC_TYPE_ID") for each in document.iter("LINGUISTIC_TYPE")}
    assert {tier.get("LINGUISTIC_TYPE_REF") for tier in document.iter("TIER")} == types


def test_every_turn_is_an_annotation_between_slots_of_its_own() -> None:
    document = read(format_elan(TALK, [HOSTILE, "żółw\udcff", "silent"], Path("talk.eaf")))
    times = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE", "")) for slot in document.iter("TIME_SLOT")}
    assert list(times.values()) == sorted(times.values())
    found = {
        tier.get("TIER_ID"): [
            (times.pop(each.get("TIME_SLOT_REF1")), times.pop(each.get("TIME_SLOT_REF2")))
            for each in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        for tier in document.iter("TIER")
    }
    assert times == {}, "every slot is used once"
    assert found == {'a "<b>& �': [(0, 2000), (3000, 3001)], "żółw�": [(1500, 3000)], "silent": []}
    identifiers = [each.get("ANNOTATION_ID") for each in document.iter("ALIGNABLE_ANNOTATION")]
    assert len(set(identifiers)) == 3
    last = document.find("HEADER/PROPERTY")
    assert last is not None
    assert (last.get("NAME"), last.text) == ("lastUsedAnnotationId", "3")


def test_nobody_talks() -> None:
    document = read(format_elan((), [], Path("talk.eaf")))
    assert [child.tag for child in document] == ["HEADER", "TIME_ORDER", "LINGUISTIC_TYPE"]
    assert format_audacity(()) == ""


@pytest.mark.parametrize(("name", "kind"), [("a.WAV", "audio/x-wav"), ("a.flac", "audio/*")])
def test_the_recording_may_lie_elsewhere(tmp_path: Path, name: str, kind: str) -> None:
    document = read(format_elan((), [], tmp_path / "out" / "talk.eaf", tmp_path / "in" / name))
    media = document.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert (media.get("RELATIVE_MEDIA_URL"), media.get("MIME_TYPE")) == (f"./../in/{name}", kind)


def test_audacity_labels_hold_one_line_per_turn() -> None:
    lines = [line.split("\t") for line in format_audacity(TALK).splitlines()]
    assert [line[:2] for line in lines] == [
        ["0.000000", "2.000000"],
        ["1.500000", "3.000000"],
        ["3.000000", "3.000100"],
    ]
    assert [line[2] for line in lines] == ['a "<b>& �', "żółw�", 'a "<b>& �']


TALKED = SpeakerTimeline(
    turns=(Turn(0.0, 2.0, "speaker1", 0.91234), Turn(1.5, 3.0, "speaker2"), Turn(4.0, 5.0, "speaker1", 1.0)),
    duration_seconds=5.0,
    whole=False,
    overlaps=((1.5, 2.0),),
    separated=((1.4, 2.1),),
    network_seconds=2.5,
    swaps_repaired=1,
    settings={"model": "default", "overlap_on": 0.6},
)


def separation(timeline: SpeakerTimeline | None = TALKED) -> Separation[Tensor]:
    sources = 0.1 * torch.randn(2, 40_000)
    return Separation(sources, 8000, ("speaker1", "speaker2"), 1.0, "my talk", timeline)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_timeline_appears_with_the_tracks(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    paths = separation().save(out, timeline=("picture", "elan", "audacity"))
    files = ["my talk.eaf", "my talk.json", "my talk.rttm", "my talk.txt"]
    tracks = ["my talk_speaker1.wav", "my talk_speaker2.wav", "my talk_timeline.png"]
    assert names(out) == files + tracks
    assert [path.name for path in paths] == tracks[:2]
    assert read_rttm(out / "my talk.rttm") == {"my_talk": TALKED.turns}
    assert "speaker1 0.912 <NA>" in (out / "my talk.rttm").read_text()
    assert (out / "my talk_timeline.png").read_bytes()[:4] == b"\x89PNG"


def test_the_document_says_what_was_separated_and_what_passed_through(tmp_path: Path) -> None:
    separation().save(tmp_path)
    document = json.loads((tmp_path / "my talk.json").read_text())
    assert document["speakers"] == [
        {"name": "speaker1", "file": "my talk_speaker1.wav", "talks_seconds": 3.0},
        {"name": "speaker2", "file": "my talk_speaker2.wav", "talks_seconds": 1.5},
    ]
    assert document["turns"][:2] == [
        {"speaker": "speaker1", "start": 0.0, "end": 2.0, "confidence": 0.912},
        {"speaker": "speaker2", "start": 1.5, "end": 3.0, "confidence": None},
    ]
    assert document["overlaps"] == [{"start": 1.5, "end": 2.0}]
    assert document["separated"] == [{"start": 1.4, "end": 2.1}]
    assert document["passed_through"] == [
        {"start": 0.0, "end": 1.4},
        {"start": 2.1, "end": 3.0},
        {"start": 4.0, "end": 5.0},
    ]
    assert (document["saved_share"], document["swaps_repaired"]) == (0.5, 1)
    assert (document["voices_found"], document["note"]) == (2, TALKED.note())
    assert document["settings"] == {"model": "default", "overlap_on": 0.6}
    separation(replace(TALKED, whole=True)).save(tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "my talk.json").read_text())["passed_through"] == []


def test_separated_stretches_may_end_beyond_the_turns(tmp_path: Path) -> None:
    timeline = replace(TALKED, separated=((0.5, 0.6), (2.5, 4.5), (4.9, 6.0)))
    separation(timeline).save(tmp_path)
    passed = json.loads((tmp_path / "my talk.json").read_text())["passed_through"]
    expected = [(0.0, 0.5), (0.6, 2.5), (4.5, 4.9)]
    assert [(each["start"], each["end"]) for each in passed] == expected


def test_nothing_appears_where_one_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "my talk.rttm").write_text("mine")
    with pytest.raises(AudioError, match=r"my talk\.rttm: exists already"):
        separation().save(tmp_path)
    assert names(tmp_path) == ["my talk.rttm"]
    assert (tmp_path / "my talk.rttm").read_text() == "mine"
    separation().save(tmp_path, overwrite=True)
    assert read_rttm(tmp_path / "my talk.rttm") == {"my_talk": TALKED.turns}


def test_nothing_appears_where_one_file_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polsess.inference.timeline_files.format_elan", fail)
    with pytest.raises(OSError, match="No space left"):
        separation().save(tmp_path, timeline=["elan"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        ("{track}_{speaker}.{ext}", ""),
        ("{speaker}/{track}.{ext}", ""),
        ("{track}/{speaker}.{ext}", "my talk/"),
    ],
)
def test_the_files_lie_in_the_folder_that_holds_all_tracks(tmp_path: Path, pattern: str, place: str) -> None:
    separation().save(tmp_path, pattern=pattern)
    assert {f"{place}my talk.json", f"{place}my talk.rttm"} < set(names(tmp_path))
    first, _ = json.loads((tmp_path / f"{place}my talk.json").read_text())["speakers"]
    assert (tmp_path / place / first["file"]).is_file()


def test_no_timeline_no_files(tmp_path: Path) -> None:
    separation(None).save(tmp_path)
    assert names(tmp_path) == ["my talk_speaker1.wav", "my talk_speaker2.wav"]


def test_formats_are_named() -> None:
    assert parse_formats("audacity, elan,elan") == ("elan", "audacity")
    assert parse_formats("") == ()
    with pytest.raises(ValueError, match="expected some of elan, audacity, picture, got 'praat'"):
        parse_formats("elan,praat")


def test_a_file_of_a_conversation_has_its_timeline_beside_it(tmp_path: Path) -> None:
    conversation = CONVERSATION.sum(0)[: 14 * RATE]
    source = tmp_path / "talk.wav"
    write_audio(source, conversation, RATE)
    files = TimelineFiles(tmp_path / "out" / "talk", ("elan", "audacity"))
    targets = [tmp_path / "out" / f"{name}.wav" for name in "ab"]
    result = gated(splitter()).separate_file(source, targets, timeline_files=files)
    assert result.timeline is not None
    assert sorted(result.timeline_paths) == sorted(files.paths.values())
    (read,) = read_rttm(tmp_path / "out" / "talk.rttm").values()
    expected = [(turn.start, turn.end, turn.speaker) for turn in result.timeline.turns]
    for turn, (start, end, speaker) in zip(read, expected, strict=True):
        assert (turn.start, turn.end) == pytest.approx((start, end), abs=0.002)
        assert turn.speaker == speaker
    document = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert [each["file"] for each in document["speakers"]] == ["a.wav", "b.wav"]
    assert len(document["overlaps"]) == len(result.timeline.overlaps) > 0
    assert document["settings"]["model"] == "function"
    assert "../talk.wav" in (tmp_path / "out" / "talk.eaf").read_text()
