"""The parts of a service one by one: store, keys, names, forms, shared passes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as some
from starlette.exceptions import HTTPException
from starlette.requests import Request

from polsess.audio import Samples
from polsess.schema import ConfigError
from polsess.service.app import create_app
from polsess.service.batching import SharedEstimator
from polsess.service.keys import create_key
from polsess.service.places import Places, new_id, safe_name
from polsess.service.service import Service
from polsess.service.settings import Limits, ServiceConfig
from polsess.service.store import MAX_ATTEMPTS, FullError, NewFile, Store
from polsess.service.uploads import receive_form
from tests.service.running import form

FILE = NewFile("talk.wav", "talk.wav", 8000, 1, 4.0)
TWO_FILES = Limits(max_files=2)
ROOM: dict[str, Any] = {"max_queued": 10, "max_jobs": 10}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "jobs.sqlite3")
    yield opened
    opened.close()


def test_who_lost_a_claim_ends_nothing(store: Store) -> None:
    store.add("job", "client", {}, [FILE], **ROOM)
    claimed = store.claim("first")
    assert claimed is not None
    number = claimed[0].number
    assert store.claim("second") is None
    assert store.release("first") == ["job"]
    assert not store.report(number, "first", "separating", 0.5)
    assert not store.finish(number, "first", [], None)
    again = store.claim("second")
    assert again is not None
    assert again[0].attempts == 2
    assert store.finish(number, "second", [{"name": "a"}], None)
    assert not store.finish(number, "second", [], "twice")
    found = store.find("job")
    assert found is not None
    assert (found.status, found.files[0].results) == ("done", [{"name": "a"}])


def test_what_ends_its_process_again_and_again_fails(store: Store) -> None:
    store.add("job", "client", {}, [FILE], **ROOM)
    for attempt in range(MAX_ATTEMPTS):
        assert store.claim(f"worker{attempt}") is not None
        store.release(f"worker{attempt}")
    assert store.claim("last") is None
    found = store.find("job")
    assert found is not None
    assert (found.status, found.finished is None) == ("failed", False)
    assert "was ended 3 times" in str(found.files[0].error)


def test_clients_take_turns_and_the_queue_has_an_end(store: Store) -> None:
    store.add("long", "greedy", {}, [FILE] * 8, **ROOM)
    store.add("short", "modest", {}, [FILE], **ROOM)
    order = [claim[0].job for claim in (store.claim("worker") for _ in range(3)) if claim]
    assert order == ["long", "short", "long"]
    with pytest.raises(FullError, match="6 recordings wait already, of at most 10"):
        store.add("more", "modest", {}, [FILE] * 5, **ROOM)
    with pytest.raises(FullError, match="1 of your jobs are unfinished") as refused:
        store.add("more", "modest", {}, [FILE], max_queued=10, max_jobs=1)
    assert refused.value.client
    assert store.find("more") is None
    assert store.delete("long")
    assert (store.count("queued"), store.count("running")) == (0, 1)


@given(some.text(max_size=300))
@settings(deadline=None)
def test_a_safe_name_is_a_short_name_in_its_folder(name: str) -> None:
    made = safe_name(name)
    assert made == Path(made).name
    assert made.isprintable()
    assert 0 < len(made.encode()) < 100
    assert made[0] not in ". "
    assert not set(made) & set('/\\:<>"|?*&;$`\n')


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Service, TestClient, str, str]]:
    """A service with two clients, whose workers do not run."""
    keys = tmp_path / "keys.txt"
    first, second = create_key(keys, "first"), create_key(keys, "second")
    service = Service(ServiceConfig(folder=tmp_path / "data", keys=keys))
    yield service, TestClient(create_app(service), base_url="http://localhost"), first, second
    service.store.close()


def test_keys_divide_the_clients(opened: tuple[Service, TestClient, str, str]) -> None:
    service, web, first, second = opened
    path = service.config.keys
    assert path is not None
    assert first not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="second has a key"):
        create_key(path, "second")
    job = new_id()
    service.store.add(job, "first", {}, [FILE], **ROOM)

    def status(key: str | None, method: str = "GET") -> int:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return web.request(method, f"/v1/jobs/{job}", headers=headers).status_code

    assert status(first) == 200
    assert status(second) == status(second, "DELETE") == 404
    assert {status(None), status("wrong"), status(first[:-1]), status("")} == {401}
    session = web.post("/v1/session", headers={"Authorization": f"Bearer {first}"})
    assert "HttpOnly" in session.headers["set-cookie"]
    assert "SameSite=strict" in session.headers["set-cookie"]
    assert status(None) == 200  # by the cookie
    web.cookies.clear()
    lines = path.read_text().splitlines()
    path.write_text(f"{lines[1]}\nthis line is damaged\n")
    assert {status(first), status(second)} == {401}, "nobody knows who else was removed"
    path.unlink()
    assert {status(first), status(second)} == {401}
    path.write_text(f"{lines[1]}\n")
    assert (status(first), status(second)) == (401, 404)


def test_a_session_is_kept_by_its_own_cookie(opened: tuple[Service, TestClient, str, str]) -> None:
    _, web, key, _ = opened
    web.post("/v1/session", headers={"Authorization": f"Bearer {key}"})
    assert web.post("/v1/session").status_code == 204
    assert web.get("/v1/service").status_code == 200


def test_what_a_client_makes_up_is_counted_as_other(opened: tuple[Service, TestClient, str, str]) -> None:
    service, web, *_ = opened
    for method in ("PURGE1", "PURGE2", "get"):
        web.request(method, "/healthz")
    text = service.render_metrics().decode()
    assert "PURGE" not in text
    assert 'method="other"' in text


@pytest.mark.parametrize("header", ["Host", "Origin"])
def test_an_address_that_is_none_is_refused(
    header: str, opened: tuple[Service, TestClient, str, str]
) -> None:
    _, web, *_ = opened
    answer = web.post("/v1/jobs", headers={header: "http://[" if header == "Origin" else "["})
    assert (answer.status_code, "expected an address" in answer.text) == (403, True)
    assert "content-security-policy" in answer.headers


def test_uploads_without_an_announced_size_leave_space_free(
    opened: tuple[Service, TestClient, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, web, key, _ = opened
    least, written = service.config.limits.min_free_bytes, list[int]()

    def usage(_: Any) -> Any:
        files = [each for each in service.places.jobs.rglob("*") if each.is_file()]
        written.append(sum(each.stat().st_size for each in files))
        return type("Usage", (), {"free": least + 100_000 - written[-1]})

    monkeypatch.setattr("shutil.disk_usage", usage)
    body, kind = form([("a.wav", b"x" * 300_000)])
    pieces = (body[start : start + 20_000] for start in range(0, len(body), 20_000))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
    full = web.post("/v1/jobs", content=pieces, headers=headers)
    assert (full.status_code, full.json()["detail"]) == (503, "the disk of the service is full.")
    assert max(written) <= 100_000
    assert not [*service.places.jobs.iterdir()]


def upload(service: Service, client: str, pause: float = 3600.0) -> Any:
    """An upload that goes on: a byte after each pause."""

    async def receive() -> Any:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"-", "more_body": True}

    headers = [(b"content-type", b"multipart/form-data; boundary=-")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    return service.accept(Request(scope, receive), client)


def test_uploads_have_places_and_no_client_takes_all(tmp_path: Path) -> None:
    limits = Limits(max_uploads=4, max_jobs_per_client=3, min_free_bytes=0)
    service = Service(ServiceConfig(folder=tmp_path, limits=limits))

    async def send(clients: str, num_refused: int) -> list[int]:
        """What those are told who are refused."""
        uploads = [asyncio.create_task(upload(service, client)) for client in clients]
        while sum(each.done() for each in uploads) < num_refused:
            await asyncio.sleep(0.01)
        refused = [each.exception() for each in uploads if each.done()]
        for each in uploads:
            each.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
        return [error.status_code for error in refused if isinstance(error, HTTPException)]

    assert asyncio.run(send("abcdef", 2)) == [503, 503]
    assert asyncio.run(send("aaaa", 1)) == [429]
    assert not service._receiving
    service.store.close()


def test_an_upload_that_trickles_is_given_up(tmp_path: Path) -> None:
    limits = Limits(patience_seconds=0.2, min_free_bytes=0)
    service = Service(ServiceConfig(folder=tmp_path, limits=limits))
    with pytest.raises(HTTPException) as refused:
        asyncio.run(upload(service, "slow", pause=0.05))
    assert refused.value.status_code in (400, 408)
    service.store.close()


def test_a_service_that_stops_or_has_no_room_says_when_to_come_again(
    opened: tuple[Service, TestClient, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, web, key, _ = opened
    headers = {"Authorization": f"Bearer {key}"}
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    full = web.post("/v1/jobs", files={"file": ("a.wav", b"sound")}, headers=headers)
    assert (full.status_code, full.json()["detail"]) == (503, "the disk of the service is full.")
    assert int(full.headers["retry-after"]) > 0
    service.stop()
    stopped = web.post("/v1/jobs", files={"file": ("a.wav", b"sound")}, headers=headers)
    assert (stopped.status_code, "being stopped" in stopped.json()["detail"]) == (503, True)
    assert web.get("/readyz").status_code == 503


def test_old_jobs_and_files_of_none_are_deleted(tmp_path: Path) -> None:
    service = Service(ServiceConfig(folder=tmp_path, retention_hours=1.0))
    places = Places(tmp_path)
    for job in ("old", "new", "orphan", "waited"):
        places.input(job, 0, "a").parent.mkdir(parents=True)
    for job in ("old", "new"):
        service.store.add(job, "client", {}, [FILE], **ROOM)
    service.store.add("waited", "client", {}, [FILE], **ROOM, direct=True)
    claimed = service.store.claim("worker")
    assert claimed is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 1000.0)
        service.store.finish(claimed[0].number, "worker", [], None)
    service._clean(everything=True)
    assert [folder.name for folder in places.jobs.iterdir()] == ["new"]
    assert service.store.known() == {"new"}
    for job in ("left", "slow"):
        places.input(job, 0, "a").parent.mkdir(parents=True)
        os.utime(places.job(job), (1000.0, 1000.0))
    service._receiving["slow"] = "client"
    service._clean()
    assert {folder.name for folder in places.jobs.iterdir()} == {"new", "slow"}, "uploads may take long"
    service.store.close()


def received(body: bytes, kind: str, folder: Path, chunk: int, limits: Limits = TWO_FILES) -> Any:
    async def receive() -> Any:
        nonlocal body
        piece, body = body[:chunk], body[chunk:]
        return {"type": "http.request", "body": piece, "more_body": bool(body)}

    headers = [(b"content-type", kind.encode("latin-1", "replace"))]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)
    return asyncio.run(receive_form(request, folder, limits, lambda _: None))


@given(
    some.binary(max_size=200),
    some.sampled_from(["", "a.wav", 'x"; filename="y', "\r\n\r\n"]),
    some.integers(3, 300),  # the last end of line is not needed
    some.integers(20, 100),
)
@settings(max_examples=25, deadline=None)
def test_forms_are_received_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str, cut: int, chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("form")
    body, kind = form([(name, content)], {"format": "flac"})
    if name in ("", "a.wav"):
        whole = received(body, kind, folder, chunk)
        assert whole.fields == {"format": "flac"}
        assert whole.files[0].path.read_bytes() == content
    else:
        with contextlib.suppress(HTTPException):  # another name may make another form, or none
            received(body, kind, folder, chunk)
    with pytest.raises(HTTPException) as broken:
        received(body[:-cut], kind, folder / "cut", chunk)
    assert broken.value.status_code in (400, 422)


def test_a_job_that_the_queue_never_holds_is_refused_for_good(tmp_path: Path) -> None:
    body, kind = form([("a.wav", b"x"), ("b.wav", b"x")])
    with pytest.raises(HTTPException, match="more than 1 files; send several jobs") as refused:
        received(body, kind, tmp_path, 1000, Limits(max_files=9, max_queued=1))
    assert refused.value.status_code == 413


class Held:
    """A network that doubles and negates, once it is let go."""

    model_type, sample_rate, output_sources, place = "held", 8000, 2, "cpu"
    precision = "float32"

    def __init__(self) -> None:
        self.gate, self.sizes = threading.Event(), list[int]()

    def estimate(self, mixtures: Samples) -> Samples:
        self.gate.wait()
        self.sizes.append(len(mixtures))
        if (mixtures == 5).any():
            raise RuntimeError("five")
        return np.stack([2 * mixtures, -mixtures], axis=1)


def test_pieces_that_wait_together_share_a_pass_and_nobody_fails_for_another() -> None:
    rows = [np.full((1, length), value, np.float32) for value, length in enumerate((9, 9, 7, 9, 9, 9))]
    held, found = Held(), dict[int, Samples | Exception]()
    shared = SharedEstimator(held, batch_size=3)

    def ask(index: int) -> None:
        try:
            found[index] = shared.estimate(rows[index])
        except RuntimeError as error:
            found[index] = error

    threads = []
    for index in range(len(rows)):
        threads.append(threading.Thread(target=ask, args=(index,)))
        threads[-1].start()
        while shared._queue.qsize() != index:  # the first is at work
            time.sleep(0.001)
    held.gate.set()
    for thread in threads:
        thread.join()
    assert held.sizes == [1, 3, 1, 1, 1]
    assert str(found.pop(5)) == "five"
    for index, estimate in found.items():
        np.testing.assert_array_equal(estimate, np.stack([2 * rows[index], -rows[index]], axis=1))
