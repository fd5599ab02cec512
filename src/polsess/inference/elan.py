"""Timelines as documents of the annotation program ELAN."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as Xml

from polsess.timelines import Timeline, plain_text, written_names

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_TIER_TYPE = "default-lt"


def format_elan(
    timeline: Timeline, speakers: Sequence[str], target: Path, recording: Path | None = None
) -> str:
    """An ELAN document: a tier per speaker, with an empty annotation per turn that waits for its words.

    Valid against EAF 3.0, https://www.mpi.nl/tools/elan/EAFv3.0.xsd.

    Args:
        timeline: Turns of the speakers.
        speakers: A tier for each, also for those who never talk.
        target: Where the document will be; ELAN looks for the recording from there too.
        recording: The sound; None if there is no such file.
    """
    document = Xml.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _INSTANCE,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = Xml.SubElement(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if recording is not None:
        Xml.SubElement(header, "MEDIA_DESCRIPTOR", _media(recording, target))
    order = Xml.SubElement(document, "TIME_ORDER")
    edges = [_milliseconds(turn.start, turn.end) for turn in timeline]
    slots = _time_slots(order, edges)
    tiers = {
        speaker: Xml.SubElement(document, "TIER", LINGUISTIC_TYPE_REF=_TIER_TYPE, TIER_ID=name)
        for speaker, name in written_names(speakers).items()
    }
    for number, (turn, (first, last)) in enumerate(zip(timeline, slots, strict=True), start=1):
        annotation = Xml.SubElement(Xml.SubElement(tiers[turn.speaker], "ANNOTATION"), "ALIGNABLE_ANNOTATION")
        annotation.set("ANNOTATION_ID", f"a{number}")
        annotation.set("TIME_SLOT_REF1", first)
        annotation.set("TIME_SLOT_REF2", last)
        Xml.SubElement(annotation, "ANNOTATION_VALUE").text = ""
    Xml.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(len(timeline))
    Xml.SubElement(
        document,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID=_TIER_TYPE,
        TIME_ALIGNABLE="true",
    )
    Xml.indent(document, "    ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Xml.tostring(document, encoding="unicode")}\n'


def _media(recording: Path, target: Path) -> dict[str, str]:
    """Where the sound is; ELAN expects plain paths, whose spaces are not replaced."""
    place = recording.absolute()
    attributes = {
        "MEDIA_URL": "file://"
        + plain_text(place.as_posix() if place.as_posix()[0] == "/" else f"/{place.as_posix()}"),
        "MIME_TYPE": "audio/x-wav" if recording.suffix.lower() == ".wav" else "audio/*",
    }
    try:
        beside = os.path.relpath(place, target.absolute().parent)
    except ValueError:  # on another drive of Windows
        return attributes
    return attributes | {"RELATIVE_MEDIA_URL": "./" + plain_text(Path(beside).as_posix())}


def _milliseconds(start: float, end: float) -> tuple[int, int]:
    first = round(1000 * start)
    return first, max(first + 1, round(1000 * end))


def _time_slots(order: Xml.Element, edges: Sequence[tuple[int, int]]) -> list[tuple[str, str]]:
    """Two slots for each turn, in the order of time; turns share none, so that editing one moves no other."""
    flat = [time for pair in edges for time in pair]
    names = [""] * len(flat)
    for number, index in enumerate(sorted(range(len(flat)), key=flat.__getitem__), start=1):
        names[index] = f"ts{number}"
        Xml.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=names[index], TIME_VALUE=str(flat[index]))
    return list(zip(names[::2], names[1::2], strict=True))
