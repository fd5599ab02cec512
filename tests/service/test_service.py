"""A running service: what it takes, what it gives back, and what it refuses."""

from __future__ import annotations

import io
import json
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from polsess.audio import read_audio
from polsess.client import Client, ServiceError
from polsess.inference import Separator
from tests.service.running import Running, form, running, tone

LIMITS = {"max_bytes": 200_000, "max_seconds": 5.0, "max_channels": 2, "direct_seconds": 2.0}
LIMITS |= {"patience_seconds": 1.0, "max_files": 3, "min_free_bytes": 0}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), limits=LIMITS) as started:
        yield started


@pytest.fixture
def sound(tmp_path: Path) -> bytes:
    return tone(tmp_path / "sound.wav").read_bytes()


def test_a_short_recording_is_separated_at_once_as_the_command_does(
    service: Running, sound: bytes, tmp_path: Path
) -> None:
    answer = service.post("/v1/separate", ("talk.wav", sound), gate="never", bits="32f")
    assert answer.status == 200, answer.body
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["talk_speaker1.wav", "talk_speaker2.wav", "talk_separation.json"]
        archive.extractall(tmp_path)
    told = json.loads((tmp_path / "talk_separation.json").read_text())
    assert told["recording"] == "talk.wav"
    assert {each["precision"] for each in told["results"]} == {Separator.from_pretrained().precision}
    (tmp_path / "talk.wav").write_bytes(sound)
    expected = Separator.from_pretrained(gate="never").separate(tmp_path / "talk.wav")
    for number, source in enumerate(expected, start=1):
        found, rate = read_audio(tmp_path / f"talk_speaker{number}.wav")
        assert rate == expected.sample_rate
        torch.testing.assert_close(found[0], source, rtol=1e-3, atol=1e-5)


def test_a_job_of_several_recordings_has_events_results_and_an_end(service: Running, sound: bytes) -> None:
    job = service.submit(("a.wav", sound), ("a.wav", sound), format="flac", timeline="elan", speakers="2")
    events = service.ask("GET", f"/v1/jobs/{job}/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(line[6:]) for line in events.body.decode().splitlines() if line.startswith("data: ")]
    assert told[-1]["status"] == "done"
    found = service.wait(job)
    assert [file["status"] for file in found["files"]] == ["done", "done"]
    assert {each["precision"] for each in found["files"][1]["results"]} == {
        Separator.from_pretrained().precision
    }
    kinds = [(each["kind"], each["name"]) for each in found["files"][1]["results"]]
    assert ("track", "a_speaker2.flac") in kinds
    assert {("timeline", "a.rttm"), ("timeline", "a.json"), ("timeline", "a.eaf")} <= set(kinds)
    for result in found["files"][1]["results"]:
        answer = service.ask("GET", result["url"])
        assert answer.status == 200
        assert len(answer.body) == result["bytes"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert result["kind"] != "picture" or answer.body.startswith(b"\x89PNG")
    part = service.ask("GET", f"/v1/jobs/{job}/files/0", headers={"Range": "bytes=0-3"})
    assert (part.status, part.body) == (206, b"RIFF")
    with zipfile.ZipFile(io.BytesIO(service.ask("GET", found["archive"]).body)) as archive:
        assert {"1_a/a_speaker1.flac", "2_a/a_speaker1.flac"} <= set(archive.namelist())
    assert service.ask("DELETE", f"/v1/jobs/{job}").status == 204
    assert service.ask("GET", f"/v1/jobs/{job}").status == 404
    assert not [*service.log.parent.glob(f"data/jobs/{job}*")]


def test_the_client_of_python_saves_the_tracks_and_tells_why_not(service: Running, tmp_path: Path) -> None:
    client = Client(service.url)
    paths = client.separate([tone(tmp_path / 'a "b".wav')], tmp_path / "out", format="flac")
    assert {path.suffix for path in paths} == {".flac", ".rttm", ".json"}
    assert all(path.is_file() for path in paths)
    (tmp_path / "words.wav").write_text("nothing to hear")
    with pytest.raises(ServiceError, match=r"words.wav: is not a WAV"):
        client.separate([tmp_path / "words.wav"], tmp_path / "out")


def test_the_client_of_python_hears_why_a_large_request_is_not_read(service: Running, tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(30_000_000))
    with pytest.raises(ServiceError, match="the request is larger than") as refused:
        Client(service.url).submit([large])
    assert refused.value.status == 413


REFUSED = [
    (415, "is not a WAV", [("bomb.zip", b"PK\x03\x04" + bytes(100))], {}),
    (422, "is cut off", [("cut.wav", "half")], {}),
    (422, "is empty", [("empty.wav", b"")], {}),
    (422, "6.0 s long; at most 5 s", [("long.wav", 6.0)], {}),
    (422, "has 3 channels; at most 2", [("many.wav", 3)], {}),
    (422, "expected at least one recording", [], {}),
    (422, "speakers: expected a number", [("a.wav", "whole")], {"speakers": "few"}),
    (422, "Did you mean 'format'", [("a.wav", "whole")], {"fromat": "flac"}),
    (422, "model: expected one of default", [("a.wav", "whole")], {"model": "../../etc/passwd"}),
    (422, "bits: flac holds no 32f", [("a.wav", "whole")], {"format": "flac", "bits": "32f"}),
    (413, "more than 3 files", [("a.wav", "whole")] * 4, {}),
    (413, "larger than", [("big.wav", bytes(300_000))], {}),
]


@pytest.mark.parametrize(("status", "reason", "files", "fields"), REFUSED)
def test_what_is_refused_leaves_nothing_and_says_why_in_one_line(
    service: Running,
    sound: bytes,
    tmp_path: Path,
    status: int,
    reason: str,
    files: list[tuple[str, bytes | str | float | int]],
    fields: dict[str, str],
) -> None:
    def content(what: bytes | str | float | int) -> bytes:
        if isinstance(what, bytes):
            return what
        if isinstance(what, str):
            return sound if what == "whole" else sound[: len(sound) // 2]
        seconds, channels = (what, 1) if isinstance(what, float) else (1.0, what)
        return tone(tmp_path / "made.wav", seconds, channels).read_bytes()

    before = {*service.log.parent.glob("data/jobs/*")}
    answer = service.post("/v1/jobs", *((name, content(what)) for name, what in files), **fields)
    assert (answer.status, reason in answer.json["detail"]) == (status, True), answer.body
    assert "\n" not in answer.json["detail"]
    assert str(service.log.parent) not in answer.json["detail"]
    assert {*service.log.parent.glob("data/jobs/*")} == before


def test_a_long_recording_is_sent_to_the_jobs(service: Running, tmp_path: Path) -> None:
    answer = service.post("/v1/separate", ("a.wav", tone(tmp_path / "a.wav", 3.0).read_bytes()))
    assert answer.status == 422
    assert "at most 2 s are taken here; send it to /v1/jobs" in answer.json["detail"]


def test_names_of_files_stay_in_their_folder_and_come_back_as_text(service: Running, sound: bytes) -> None:
    names = [
        "../../../etc/cron.d/x.wav",
        "C:\\temp\\<img src=x onerror=alert(1)>.wav",
        "a\x07\x1bb\u202e.wav",
    ]
    job = service.submit(*((name, sound) for name in names))
    found = service.wait(job)
    assert [file["status"] for file in found["files"]] == ["done"] * 3
    assert found["files"][2]["name"] == "ab.wav"
    for file in found["files"]:
        assert not any(set(result["name"]) & set('/\\<>"\x07') for result in file["results"])
    data = service.log.parent / "data"
    assert {path.parts[len(data.parts)] for path in data.rglob("*")} <= {
        "jobs",
        "jobs.sqlite3",
        "jobs.sqlite3-wal",
        "jobs.sqlite3-shm",
        "lock.json",
    }
    assert service.ask("GET", f"/v1/jobs/{job}/files/0/..%2f..%2fjobs.sqlite3").status == 404


def test_an_upload_that_stalls_or_breaks_off_is_forgotten(service: Running, sound: bytes) -> None:
    body, kind = form([("a.wav", sound)])
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as silent:
        silent.sendall(head.encode() + body[:500])
        assert silent.recv(100).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", service.port)) as gone:
        gone.sendall(head.encode() + body[:500])
    deadline = time.monotonic() + 20
    known = {event["job"] for event in service.events("accepted")}
    while any(path.name not in known for path in service.log.parent.glob("data/jobs/*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_chunked_request_may_not_grow_beyond_the_limit(service: Running) -> None:
    _, kind = form([])
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    boundary = kind.partition("=")[2]
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(part), part))
        for _ in range(10):
            connection.sendall(b"%x\r\n%s\r\n" % (30_000, bytes(30_000)))
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_forms_and_files_that_are_damaged_are_refused_in_words(service: Running) -> None:
    body, kind = form([("a.wav", b"no sound, but a long text that goes on")])
    broken = body.replace(b"\r\n\r\n", b"\r\nx\x00: y\r\n\r\n", 1)
    for content, told in ((broken, "form: is damaged; expected parts"), (b"--" + body, "form: is damaged")):
        answer = service.ask("POST", "/v1/jobs", content, {"Content-Type": kind})
        assert (answer.status, "b'" in answer.body.decode()) == (400, False)
        assert told in answer.body.decode()
    answer = service.ask("POST", "/v1/jobs", body, {"Content-Type": kind})
    assert answer.status == 415
    assert "it starts with 'no sound, bu'" in answer.body.decode()


def test_other_sites_and_other_hosts_are_refused(service: Running) -> None:
    body, kind = form([])
    foreign = {"Content-Type": kind, "Origin": "https://evil.example"}
    assert service.ask("POST", "/v1/jobs", body, foreign).status == 403
    assert service.ask("GET", "/v1/service", headers={"Host": "evil.example"}).status == 403


def test_the_page_runs_nothing_but_its_own_files(service: Running) -> None:
    page = service.ask("GET", "/")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert not [word for word in ("style=", "onclick", "://") if word in text]
    for name in ("page.js", "players.js", "words.js", "page.css"):
        answer = service.ask("GET", f"/static/{name}")
        assert answer.status == 200
        assert b"innerHTML" not in answer.body


def test_monitors_learn_the_queue_and_the_speed(service: Running, sound: bytes) -> None:
    service.post("/v1/separate", ("a.wav", sound))
    metrics = service.ask("GET", "/metrics").body.decode()
    assert 'polsess_files{status="queued"} 0.0' in metrics
    assert "polsess_realtime_factor_bucket" in metrics
    assert 'polsess_request_seconds_count{method="POST",route="/v1/separate",status="200"}' in metrics
    assert service.ask("GET", "/healthz").body == b"ok\n"
    document = service.ask("GET", "/openapi.json").json
    form_of_jobs = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert "speakers" in form_of_jobs["schema"]["properties"]
