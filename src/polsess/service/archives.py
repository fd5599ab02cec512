"""Zip files that are made while they are sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_BLOCK = 2**18


class _Sink(io.RawIOBase):
    """What has been written and not yet sent; it cannot be sought, as the zip's reader knows."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def zip_blocks(entries: Iterable[tuple[str, Path | bytes]]) -> Iterator[bytes]:
    """The bytes of a zip; sound does not shrink, so it is stored as it is.

    Args:
        entries: Names in the archive, and the files or what they hold.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            with (
                archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target,
                io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file,
            ):
                while block := file.read(_BLOCK):
                    target.write(block)
                    yield sink.take()
    yield sink.take()
