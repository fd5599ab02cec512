"""Timelines in the formats of annotation programs, with names that those formats cannot hold."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from polsess.inference.timeline_files import format_audacity, format_elan
from polsess.timelines import Turn

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
