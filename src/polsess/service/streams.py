"""Sound that is separated while it comes in, over a WebSocket; the engine is that of `polsess stream`.

Binary messages are samples ``[n]``, little-endian; the answers hold the estimates ``[C, n]`` sample by
sample, as the channels of a WAV do. Text messages are commands, ``flush`` and ``reset``, and what the service
says.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from polsess.audio import Samples
from polsess.service.logs import log
from polsess.service.routes import Client, TheService
from polsess.service.service import Service

if TYPE_CHECKING:
    from torch import Tensor

    from polsess.inference import StreamingSeparator

_REFUSED, _LATER = 1008, 1013
_MOST_RATE = 192_000
_FULL_SCALE = 2**15
Form = Literal["s16", "f32"]

router = APIRouter()


class Refusal(ValueError):
    """A stream ends; ``code`` is that of the WebSocket."""

    def __init__(self, reason: str, code: int = _REFUSED) -> None:
        super().__init__(reason)
        self.code = code


@router.websocket("/v1/stream")
async def stream(
    socket: WebSocket,
    service: TheService,
    client: Client,
    model: str = "",
    form: Annotated[Form, Query(alias="format")] = "s16",
    rate: Annotated[int | None, Query(ge=1000, le=_MOST_RATE)] = None,
) -> None:
    """Separate one channel of sound while it comes in."""
    await socket.accept()
    streams = service.streams
    try:
        separator = _open(service, model, rate)
        streams.num_open += 1
        try:
            log("stream opened", client=client, rate=separator.sample_rate)
            await _serve(socket, separator, form, service.config.limits.patience_seconds)
        finally:
            streams.num_open -= 1
            log("stream closed", client=client)
    except WebSocketDisconnect:
        return
    except (ValueError, TimeoutError) as error:
        reason = str(error) or "nothing came for too long."
        await socket.send_json({"error": reason})
        await socket.close(getattr(error, "code", _REFUSED))


def _open(service: Service, model: str, rate: int | None) -> StreamingSeparator:
    names, most = service.streams.names, service.config.limits.max_streams
    if not names:
        raise Refusal("this service has no causal network; its operator names some with `streams`.")
    if model and model not in names:
        raise Refusal(f"model: expected one of {', '.join(names)}, got {model[:40]!r}.")
    if service.streams.num_open >= most or service.stopping.is_set():
        raise Refusal(f"{service.streams.num_open} streams are open, of at most {most}; try later.", _LATER)
    return service.streams.open(model or names[0], rate)


async def _serve(socket: WebSocket, separator: StreamingSeparator, form: Form, patience: float) -> None:
    latency = separator.latency_samples / separator.model.sample_rate
    facts = {"sample_rate": separator.sample_rate, "sources": separator.num_sources}
    await socket.send_json({**facts, "latency_seconds": round(latency, 6), "format": form})
    while True:
        async with asyncio.timeout(patience):
            message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if (content := message.get("bytes")) is not None:
            await _send(socket, await run_in_threadpool(separator.push, _samples(content, form)), form)
        elif (command := message.get("text")) == "flush":
            await _send(socket, await run_in_threadpool(separator.flush), form)
            await socket.send_json({"done": "flush"})
        elif command == "reset":
            separator.reset()
            await socket.send_json({"done": "reset"})
        else:
            raise Refusal(f"expected samples, or flush or reset, got {str(command)[:40]!r}.")


def _samples(content: bytes, form: Form) -> Samples:
    kind = np.dtype("<i2" if form == "s16" else "<f4")
    if len(content) % kind.itemsize:
        raise Refusal(f"{form}: expected whole samples of {kind.itemsize} bytes, got {len(content)} bytes.")
    samples: Samples = np.frombuffer(content, kind).astype(np.float32)
    if form == "s16":
        samples *= np.float32(1 / _FULL_SCALE)
    return samples


async def _send(socket: WebSocket, estimates: Tensor, form: Form) -> None:
    if estimates.shape[-1]:
        frames = estimates.numpy().T
        if form == "s16":
            frames = np.clip(np.rint(frames * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
        await socket.send_bytes(frames.astype("<i2" if form == "s16" else "<f4").tobytes())
