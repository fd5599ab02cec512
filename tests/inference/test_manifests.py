"""Lists of recordings: what they name is found, cut out and named, or refused in one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polsess.audio import read_audio, write_audio
from polsess.inference.excerpts import sound_of
from polsess.inference.jobs import find_jobs
from polsess.inference.manifests import Excerpt, Listed, read_manifest
from polsess.object_storage import is_remote, shown


def counting(path: Path, channels: int = 1, seconds: int = 2) -> Path:
    """Sound whose samples tell where they were: channel k rises from k/4."""
    ramp = np.linspace(0, 0.2, 8000 * seconds, dtype=np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.stack([k / 4 + ramp for k in range(channels)]), 8000, bits="32f")
    return path


def cut(**changes: Any) -> dict[str, Any]:
    """A cut as lhotse writes it."""
    recording = {
        "id": "rec",
        "sources": [{"type": "file", "channels": [0, 1], "source": "sounds/rec.wav"}],
        "sampling_rate": 8000,
        "num_samples": 16000,
        "duration": 2.0,
        "channel_ids": [0, 1],
    }
    whole = {"id": "rec-0", "start": 0.5, "duration": 1.0, "channel": 1, "recording": recording}
    return {**whole, "supervisions": [], "type": "MonoCut", **changes}


def lines(path: Path, *items: object) -> Path:
    text = "".join(item if isinstance(item, str) else json.dumps(item) + "\n" for item in items)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_cuts_of_lhotse_are_cut_out(tmp_path: Path) -> None:
    counting(tmp_path / "sounds/rec.wav", channels=2)
    both = cut(id="both", channel=[0, 1], start=0, duration=2.0, type="MultiCut")
    recording = cut()["recording"]
    found = read_manifest(lines(tmp_path / "cuts.jsonl.gz", cut(), both, recording))
    place = tmp_path / "sounds/rec.wav"
    assert found == [
        Listed(place, "rec-0", Excerpt(0.5, 1.0, (1,)), 1.0),
        Listed(place, "both", None, 2.0),
        Listed(place, "rec", None, 2.0),
    ]
    with sound_of(found[0].source, found[0].excerpt) as part:
        samples, rate = read_audio(part)
    assert rate == 8000
    expected = read_audio(place)[0][1:, 4000:12000]
    np.testing.assert_array_equal(samples, expected)


def test_ours_as_csv_and_as_lines(tmp_path: Path) -> None:
    place = counting(tmp_path / "rec.wav")
    table = tmp_path / "set.csv"
    table.write_text(
        "mixture,identifier,start_seconds,seconds,split\nrec.wav,a/b,0.5,0.25,test\nrec.wav,,,,\n"
    )
    item = {"mixture": "rec.wav", "identifier": "a/b", "start_seconds": 0.5, "seconds": 0.25}
    listed = [Listed(place, "a/b", Excerpt(0.5, 0.25), 0.25), Listed(place, "rec")]
    assert read_manifest(table) == listed
    assert read_manifest(lines(tmp_path / "set.jsonl", item, "\n", {"mixture": str(place)})) == listed
    jobs, problems = find_jobs([table, tmp_path / "set.jsonl", place], tmp_path / "out")
    assert [(job.name, job.track) for job in jobs] == [(f"{place}#t=0.5,0.75", "a/b"), (str(place), "rec")]
    assert not problems
    again, _ = find_jobs([place, table], tmp_path / "out", known={jobs[0].name: "a/b", jobs[1].name: "rec_2"})
    assert [job.track for job in again] == ["rec_2", "a/b"], "earlier names are kept"


def test_objects_keep_their_names() -> None:
    path = Path("s3://bucket/day/a.wav")
    assert is_remote(path)
    assert shown(path) == "s3://bucket/day/a.wav"
    assert shown(path.parent / "b") == "s3://bucket/day/b"
    assert not is_remote(Path("s3/bucket"))


def damaged(**source: Any) -> dict[str, Any]:
    recording = cut()["recording"]
    return cut(recording={**recording, "sources": [{**recording["sources"][0], **source}]})


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (cut(id="../../etc/x"), "cannot be the name of an output"),
        (cut(id="/x"), "cannot be the name of an output"),
        ({"mixture": "rec.wav", "start_seconds": 10**400}, "start_seconds: expected a number of seconds"),
        (cut(id="a\nb"), "cannot be the name of an output"),
        (cut(id=7), "cannot be the name of an output"),
        (cut(start=-1), "start: expected a number of seconds, got -1"),
        (cut(duration=True and "nan"), "duration: expected a number of seconds"),
        (cut(channel=5), "not those of one file"),
        (cut(channel="0"), "channel: expected numbers"),
        (damaged(type="command", source="rm -rf /"), "sources of type 'command' are not read"),
        (damaged(source="http://x/y.wav"), "only s3:// is read"),
        (damaged(source=None), "expected a path, got None"),
        (cut(recording={**cut()["recording"], "transforms": [{"name": "Speed"}]}), "transforms"),
        ({"id": "m", "type": "MixedCut", "tracks": []}, "got a 'MixedCut'"),
        ({"mixture": "", "identifier": "x"}, "mixture: expected a path"),
        ({"mixture": "a.wav", "seconds": 0}, "seconds: expected a number of seconds, got 0"),
        ("{", "not readable as JSON"),
        ("[1]\n", "expected an object"),
    ],
)
def test_what_cannot_be_met_is_refused_with_its_line(tmp_path: Path, item: object, reason: str) -> None:
    path = lines(tmp_path / "cuts.jsonl", {"mixture": "good.wav"}, item)
    with pytest.raises(ValueError, match=reason) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}, line 2")
    assert "\n" not in str(caught.value)


def test_damaged_and_empty_lists(tmp_path: Path) -> None:
    path = lines(tmp_path / "cuts.jsonl.gz", *[cut()] * 500)
    path.write_bytes(path.read_bytes()[:-20])
    for broken in (path, lines(tmp_path / "empty.jsonl")):
        with pytest.raises(ValueError, match=str(broken)):
            read_manifest(broken)


@pytest.mark.parametrize(
    ("part", "reason"),
    [(Excerpt(1.5, 1.0), "asked for the part t=1.5,2.5"), (Excerpt(0, 1.0, (1,)), "asked for channel 1")],
)
def test_a_part_that_is_not_there(tmp_path: Path, part: Excerpt, reason: str) -> None:
    place = counting(tmp_path / "rec.wav")
    with pytest.raises(ValueError, match=reason) as caught, sound_of(place, part):
        pass
    assert str(caught.value).startswith(str(place))
    with sound_of(place, Excerpt(1.0, 1.005)) as rounded:
        assert read_audio(rounded)[0].shape == (1, 8000)
