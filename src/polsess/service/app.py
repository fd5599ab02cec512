"""The application: API and page behind one border, and the server that runs it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, MutableMapping
from importlib.metadata import version
from importlib.resources import files
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polsess.folder_lock import locked
from polsess.service.errors import refusal
from polsess.service.logs import log
from polsess.service.routes import explain_invalid, router
from polsess.service.service import Service
from polsess.service.settings import ServiceConfig
from polsess.service.streams import router as streams

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_UPLOADS = ("/v1/jobs", "/v1/separate")
_SMALL_BYTES = 2**16
"""Largest request without files."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Those that metrics tell apart; a client may make up any number of others."""
_FORM_BYTES = 2**16
"""What the form around files may take."""
_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "static/page.css": ("page.css", "text/css; charset=utf-8"),
    "static/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "static/players.js": ("players.js", "text/javascript; charset=utf-8"),
    "static/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


class Border:
    """What every request passes: its size and origin are checked, its time measured, its answer sealed.

    Args:
        app: What is behind it.
        service: The service.
        local: Whether only programs of this machine are meant to reach it.
    """

    def __init__(self, app: ASGIApp, service: Service, *, local: bool) -> None:
        self._app, self._service, self._local = app, service, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["type"] == "websocket":
            if self._foreign(scope, headers):
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0
        limit = _SMALL_BYTES
        if scope["path"] in _UPLOADS:
            limit = self._service.config.limits.max_bytes + _FORM_BYTES

        async def send_sealed(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in _HEADERS.items()),
                    *([] if b"cache-control" in given else [(b"cache-control", b"no-store")]),
                ]
            await send(message)

        try:
            if reason := self._foreign(scope, headers):
                await JSONResponse({"detail": reason}, 403)(scope, receive, send_sealed)
            elif not headers.get("content-length", "0").isdecimal():
                await JSONResponse({"detail": "Content-Length: expected a number."}, 400)(
                    scope, receive, send_sealed
                )
            elif int(headers.get("content-length", "0")) > limit:
                await JSONResponse({"detail": _too_large(limit)}, 413)(scope, receive, send_sealed)
            else:
                await self._app(scope, _counted(receive, limit), send_sealed)
        finally:
            self._record(scope, status, time.perf_counter() - begin)

    def _foreign(self, scope: Scope, headers: dict[str, str]) -> str | None:
        """Why a request is not let in: other pages in a user's browser may not use the service."""
        host, origin = headers.get("host", ""), headers.get("origin", "")
        try:
            name, page = urlsplit(f"//{host}").hostname, urlsplit(origin).netloc
        except ValueError:
            return "Host or Origin: expected an address."
        if self._local and name not in LOOPBACK:
            return f"this service answers to {LOOPBACK[0]} and localhost only."
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if origin and not reads and page != host:
            return "requests from pages of other sites are refused."
        return None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._service.metrics.requests.labels(method, route, status).observe(seconds)
        if route not in ("/healthz", "/readyz", "/metrics"):
            log(
                "request",
                method=scope["method"][:10],
                path=scope["path"][:200],
                status=status,
                seconds=round(seconds, 4),
                job=scope.get("path_params", {}).get("job"),
            )


def _too_large(limit: int) -> str:
    return f"the request is larger than {limit} bytes, the most that is taken."


def _counted(receive: Receive, limit: int) -> Receive:
    """The messages of a request, of which no more than a number of bytes is read."""
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise refusal(413, _too_large(limit))
        return message

    return counted


def create_app(service: Service, *, local: bool = True) -> ASGIApp:
    """Put a service behind its API and its page.

    Args:
        service: The service; it is started and closed with the application.
        local: Whether requests that name another host than this machine are refused.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="polsess",
        description="Separates recordings into their speakers; see docs/serving.md.",
        version=version("polsess-separation"),
        lifespan=lifespan,
        docs_url=None,  # they load scripts of other sites
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(router)
    app.include_router(streams)

    @app.get("/{name:path}", include_in_schema=False)
    async def show_page(name: str) -> Response:
        if name not in _PAGE:
            raise refusal(404, "there is nothing here.")
        file, kind = _PAGE[name]
        content = (files("polsess.service") / "assets" / file).read_bytes()
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> JSONResponse:
        return explain_invalid([*error.errors()])

    @app.exception_handler(ClientDisconnect)
    async def forget(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(Exception)
    async def admit(request: Request, error: Exception) -> JSONResponse:
        log("bug", level="error", path=request.url.path, reason=f"{type(error).__name__}: {error}")
        return JSONResponse({"detail": "an error of the service; its log says more."}, 500)

    return Border(app, service, local=local)


class _Server(uvicorn.Server):
    """Uvicorn, which tells the service at once that it is to stop."""

    service: Service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        threading.Thread(target=self.service.stop, daemon=True).start()
        super().handle_exit(sig, frame)


def run(config: ServiceConfig, host: str, port: int) -> None:
    """Serve until a signal comes.

    Args:
        config: The service.
        host: Address to listen at.
        port: Its port.

    Raises:
        FolderInUseError: If another service uses the folder.
        OSError: If the address is taken or the folder cannot be written.
    """
    with locked(config.folder, "polsess serve"):
        service = Service(config)
        server = _Server(
            uvicorn.Config(
                create_app(service, local=host in LOOPBACK and not service.keys.required),
                host=host,
                port=port,
                access_log=False,
                ws_max_size=_SMALL_BYTES * 16,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=round(config.grace_seconds) + 10,
            )
        )
        server.service = service
        log("serving", address=f"http://{host}:{port}", folder=str(config.folder))
        try:
            server.run()  # hands the signal on when it has stopped
        finally:
            log("stopped")
