"""Requests with files, received part by part to disk: nothing is held in memory or spooled elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from polsess.service.errors import refusal
from polsess.service.places import safe_name
from polsess.service.settings import Limits

_MAX_FIELDS, _MAX_FIELD_BYTES, _MAX_HEADER_BYTES = 32, 1024, 8192
_MAX_NAME = 200
_LEAST_SPEED = 1024.0
"""Bytes a second of an upload, without which it would hold its place for ever."""
logging.getLogger("python_multipart").disabled = True  # damage is an answer, no line of the log


@dataclass(frozen=True)
class Received:
    """One file of a request."""

    name: str
    """As the client calls it, without control characters."""
    path: Path


@dataclass
class Form:
    """A form as it arrives.

    Args:
        folder: Where its files go: one folder each, by their number.
        max_files: Most files.
    """

    folder: Path
    max_files: int
    files: list[Received] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: str = ""
    _value: bytearray = field(default_factory=bytearray)
    _file: BinaryIO | None = None

    def begin(self) -> None:
        """A part begins."""
        self._headers = {}
        self._value.clear()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._extend(self._header[0], data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._extend(self._header[1], data[start:end])

    @staticmethod
    def _extend(buffer: bytearray, data: bytes) -> None:
        if len(buffer) + len(data) > _MAX_HEADER_BYTES:
            raise refusal(400, "form: the header of a part is too long.")
        buffer += data

    def header_end(self) -> None:
        """A header is whole."""
        if len(self._headers) >= _MAX_FIELDS:
            raise refusal(400, "form: a part has too many headers.")
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header[0].clear()
        self._header[1].clear()

    def headers_finished(self) -> None:
        """What follows is content."""
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")[:_MAX_NAME]
        if b"filename" not in options:
            if len(self.fields) >= _MAX_FIELDS:
                raise refusal(400, "form: too many fields.")
            return
        if self._name != "file":
            raise refusal(422, f"{self._name[:40]!r}: expected recordings in the field 'file'.")
        if len(self.files) >= self.max_files:
            raise refusal(413, f"form: more than {self.max_files} files; send several jobs.")
        given = options[b"filename"].decode("utf-8", "replace")
        name = "".join(letter for letter in given if letter.isprintable())[-_MAX_NAME:]
        folder = self.folder / str(len(self.files))
        folder.mkdir(parents=True)
        received = Received(name or "recording", folder / safe_name(given))
        self.files.append(received)
        self._file = received.path.open("xb")

    def content(self, data: bytes, start: int, end: int) -> None:
        """A piece of content."""
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise refusal(422, f"{self._name[:40]!r}: longer than {_MAX_FIELD_BYTES} bytes.")

    def end(self) -> None:
        """A part is whole."""
        if self._file is not None:
            self.close()
            return
        if self._name in self.fields:
            raise refusal(422, f"{self._name[:40]!r}: is given twice.")
        try:
            self.fields[self._name] = self._value.decode()
        except UnicodeDecodeError:
            raise refusal(422, f"{self._name[:40]!r}: is not UTF-8.") from None

    def finish(self) -> None:
        """The form is whole."""
        self.ended = True

    def close(self) -> None:
        """Close the file that is open, if one is."""
        if self._file is not None:
            self._file.close()
            self._file = None


async def receive_form(
    request: Request, folder: Path, limits: Limits, check_disk: Callable[[int], None]
) -> Form:
    """Receive a form with files into a folder, which the caller removes where this fails.

    Args:
        request: With the form.
        folder: Where its files go.
        limits: Of the service.
        check_disk: Fails where so many bytes more are not to be written.

    Raises:
        HTTPException: 400 if it is no form, 408 if the client falls silent or is too slow, 413 if there are
            too many files, 415 if it is of another type, 422 if a field is wrong.
        ClientDisconnect: If the client is gone.
        OSError: If the disk is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or request.headers.get("content-encoding", "identity") != "identity":
        raise refusal(
            415, "expected multipart/form-data, not compressed, with recordings in the field 'file'."
        )
    if not (boundary := options.get(b"boundary")) or len(boundary) > 70:
        raise refusal(400, "form: Content-Type names no boundary, or one of more than 70 letters.")
    form = Form(folder, limits.files_of_job)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.begin,
            "on_part_data": form.content,
            "on_part_end": form.end,
            "on_header_field": form.header_name,
            "on_header_value": form.header_value,
            "on_header_end": form.header_end,
            "on_headers_finished": form.headers_finished,
            "on_end": form.finish,
        },
    )

    def write(chunk: bytes) -> None:
        check_disk(len(chunk))
        parser.write(chunk)

    chunks, clock, size = request.stream(), asyncio.get_running_loop().time, 0
    begin = clock()
    try:
        while True:
            latest = min(clock(), begin + size / _LEAST_SPEED) + limits.patience_seconds
            async with asyncio.timeout_at(latest):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            size += len(chunk)
            await run_in_threadpool(write, chunk)
    except FormParserError:  # its message shows bytes as Python writes them
        raise refusal(
            400, "form: is damaged; expected parts with headers, between the boundaries of its Content-Type."
        ) from None
    except TimeoutError:
        raise refusal(
            408,
            f"nothing came for {limits.patience_seconds:.0f} s,"
            f" or less than {_LEAST_SPEED:.0f} bytes a second; send it again.",
        ) from None
    finally:
        form.close()
    if not form.ended:
        raise refusal(400, "form: is cut off before its last boundary.")
    return form


__all__ = ["ClientDisconnect", "Form", "Received", "receive_form"]
