"""The API: jobs, their results and events; one short recording at once; facts for monitors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from polsess.service.archives import zip_blocks
from polsess.service.errors import refusal
from polsess.service.places import is_id
from polsess.service.service import Service
from polsess.service.settings import JobOptions
from polsess.service.store import File, Job
from polsess.service.views import JobView, Reason, ServiceView, view_job

COOKIE = "polsess_key"
_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
_TYPES |= {".png": "image/png", ".json": "application/json", ".zip": "application/zip"}
_REASONS = {
    401: "The key is missing or wrong.",
    413: "The request is too large.",
    415: "A file is no recording that is read.",
    422: "An option is wrong, or a recording too long, damaged or of too many channels.",
    429: "The client has too many unfinished jobs; see Retry-After.",
    503: "The queue or the disk is full; see Retry-After.",
}
_RECORDING = {"type": "string", "format": "binary"}

router = APIRouter()


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Reason, "description": _REASONS[code]} for code in codes}


def _form(*, several: bool) -> dict[str, Any]:
    """What OpenAPI says of the form of a job, which is received without FastAPI's help."""
    options = JobOptions.model_json_schema()["properties"]
    file = {"type": "array", "items": _RECORDING} if several else _RECORDING
    schema = {"type": "object", "required": ["file"], "properties": {"file": file, **options}}
    example = {"file": "meeting.wav", "speakers": "2-4", "format": "flac"}
    content = {"multipart/form-data": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def service_of(request: HTTPConnection) -> Service:
    """The service that this application belongs to."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(service_of)]


def key_of(request: HTTPConnection) -> str:
    """The key of a request, in its header or its cookie; empty if it has none."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")


def client_of(request: HTTPConnection, service: TheService) -> str:
    """The client: by its key, or where none is needed by its address."""
    if not service.keys.required:
        return f"address {request.client.host if request.client else 'unknown'}"
    if (name := service.keys.client(key_of(request))) is None:
        raise refusal(401, "expected the header 'Authorization: Bearer KEY' with a key of this service.")
    return name


Client = Annotated[str, Depends(client_of)]


def job_of(job: str, service: TheService, client: Client) -> Job:
    """The job of a path, if it is the client's."""
    found = service.store.find(job) if is_id(job) else None
    if found is None or (service.keys.required and found.client != client):
        raise refusal(404, "there is no such job; it may have been deleted.")
    return found


TheJob = Annotated[Job, Depends(job_of)]


def file_of(found: TheJob, place: int) -> File:
    """A recording of a job."""
    if not 0 <= place < len(found.files):
        raise refusal(404, f"the job has {len(found.files)} recordings, counted from 0.")
    return found.files[place]


TheFile = Annotated[File, Depends(file_of)]


@router.get("/v1/service", responses=_refusals(401))
def show_service(service: TheService, client: Client) -> ServiceView:  # noqa: ARG001 - asks for the key
    """What the service offers: models, formats and limits."""
    limits = service.config.limits
    return ServiceView(
        models=[*service.config.models],
        needs_key=service.keys.required,
        formats=["wav", "flac", "ogg", "mp3"],
        max_bytes=limits.max_bytes,
        max_seconds=limits.max_seconds,
        max_channels=limits.max_channels,
        max_files=limits.files_of_job,
        direct_seconds=limits.direct_seconds,
        retention_hours=service.config.retention_hours,
    )


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=JobView,
    responses=_refusals(401, 413, 415, 422, 429, 503),
    openapi_extra=_form(several=True),
)
async def create_job(request: Request, response: Response, service: TheService, client: Client) -> JobView:
    """Send one recording or several; the answer comes once they are checked and wait to be separated."""
    job = await service.accept(request, client)
    response.headers["Location"] = f"/v1/jobs/{job}"
    found = await run_in_threadpool(service.store.find, job)
    assert found is not None
    return view_job(found, service.store)


@router.get("/v1/jobs/{job}", responses=_refusals(401))
def show_job(found: TheJob, service: TheService) -> JobView:
    """How far a job is."""
    return view_job(found, service.store)


@router.delete("/v1/jobs/{job}", status_code=204, responses=_refusals(401))
def delete_job(found: TheJob, service: TheService) -> None:
    """Stop a job if it runs, and delete all that was sent and made."""
    service.delete(found.id)


@router.get("/v1/jobs/{job}/events", response_class=StreamingResponse, responses=_refusals(401))
async def watch_job(found: TheJob, service: TheService) -> StreamingResponse:
    """The job as server-sent events, one whenever it has changed; the last when it has ended."""

    async def events() -> AsyncIterator[str]:
        async for now in service.watch(found.id):
            if now is None:
                yield ": still here\n\n"
            else:
                view = await run_in_threadpool(view_job, now, service.store)
                yield f"data: {view.model_dump_json()}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@router.get("/v1/jobs/{job}/results.zip", response_class=StreamingResponse, responses=_refusals(401))
def send_archive(found: TheJob, service: TheService) -> StreamingResponse:
    """All results of a job in a zip; of several recordings, each in a folder."""
    entries = _entries(found, service)
    if not entries:
        raise refusal(404, "the job has no results yet.")
    return _zip(entries, Path(found.files[0].stored).stem)


@router.get("/v1/jobs/{job}/files/{place}", response_class=FileResponse, responses=_refusals(401))
def send_source(file: TheFile, service: TheService) -> FileResponse:
    """A recording as it was sent."""
    return _file(service.places.input(file.job, file.place, file.stored))


@router.get("/v1/jobs/{job}/files/{place}/{name}", response_class=FileResponse, responses=_refusals(401))
def send_result(file: TheFile, name: str, service: TheService) -> FileResponse:
    """One file of a result: a track, a timeline, or a picture."""
    if name not in {each["name"] for each in file.results}:
        raise refusal(404, "the recording has no such result.")
    return _file(service.places.output(file.job, file.place) / name)


@router.post(
    "/v1/separate",
    response_class=StreamingResponse,
    responses=_refusals(401, 413, 415, 422, 429, 503),
    openapi_extra=_form(several=False),
)
async def separate(request: Request, service: TheService, client: Client) -> StreamingResponse:
    """Separate one short recording at once; the answer is a zip of its results, and nothing is kept."""
    job = await service.accept(request, client, direct=True)
    try:
        done: Job | None = None
        async for now in service.watch(job):
            done = now or done
            if await request.is_disconnected():
                break
        if done is None or done.finished is None:
            raise refusal(503, "the work was ended before it was done; send it again.", again_seconds=10)
        if (error := done.files[0].error) is not None:
            raise refusal(422, error)
    except BaseException:
        await run_in_threadpool(service.delete, job)
        raise
    answer = _zip(_entries(done, service), Path(done.files[0].stored).stem)
    answer.background = BackgroundTask(service.delete, job)
    return answer


@router.post("/v1/session", status_code=204, responses=_refusals(401))
def open_session(request: Request, response: Response, client: Client) -> None:  # noqa: ARG001
    """Keep the key of this request in a cookie, for pages, whose players send no headers."""
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, key_of(request), httponly=True, samesite="strict", secure=secure)


@router.delete("/v1/session", status_code=204)
def close_session(response: Response) -> None:
    """Forget the cookie."""
    response.delete_cookie(COOKIE)


@router.get("/healthz", response_class=PlainTextResponse)
async def show_health() -> str:
    """Answers as long as the server runs."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse, responses=_refusals(503))
def show_readiness(service: TheService) -> str:
    """Whether work would be taken in and done now."""
    if not service.ready:
        raise refusal(503, "no worker is ready, or the disk is full.", again_seconds=5)
    return "ready\n"


@router.get("/metrics", response_class=PlainTextResponse, responses=_refusals(401))
def show_metrics(service: TheService, client: Client) -> Response:  # noqa: ARG001 - asks for the key
    """Metrics in the text format of Prometheus."""
    return Response(service.render_metrics(), media_type="text/plain; version=0.0.4")


def _entries(found: Job, service: Service) -> list[tuple[str, Path | bytes]]:
    """The results of a job by their names in a zip, and what was made how for each recording."""
    several = len(found.files) > 1
    entries: list[tuple[str, Path | bytes]] = []
    for file in found.files:
        folder, stem = service.places.output(file.job, file.place), Path(file.stored).stem
        inside = f"{file.place + 1}_{stem}/" if several else ""
        results = [each for each in file.results if each["kind"] != "picture"]
        entries += [(inside + each["name"], folder / each["name"]) for each in results]
        if results:
            told = {"recording": file.name, "results": results}
            entries.append((f"{inside}{stem}_separation.json", json.dumps(told, indent=2).encode()))
    return entries


def _zip(entries: list[tuple[str, Path | bytes]], stem: str) -> StreamingResponse:
    headers = {"Content-Disposition": 'attachment; filename="separated.zip"'}
    if stem.isascii():
        headers = {"Content-Disposition": f'attachment; filename="{stem}.zip"'}
    return StreamingResponse(zip_blocks(entries), media_type="application/zip", headers=headers)


def _file(path: Path) -> FileResponse:
    if not path.is_file():
        raise refusal(404, "the file is gone; the job may have been deleted.")
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, filename=path.name)


def explain_invalid(errors: list[Mapping[str, Any]]) -> JSONResponse:
    """FastAPI's list of mistakes as one line."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"detail": f"{where}: {first['msg']}."}, 422)
