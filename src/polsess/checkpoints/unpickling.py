"""Reading torch files as hostile input: the archive is inspected, then only tensors and plain data built.

``torch.load`` takes no part: what it would read of a file need not be what was inspected, and what it allows
may take far more memory than the file. No code of a file runs; see ``pickles.py``.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from polsess.checkpoints.pickles import MAX_BYTES as MAX_PICKLE_BYTES
from polsess.checkpoints.pickles import STORAGES, PickleError, Storage, Word, read_pickle
from polsess.files import show_bytes

MAX_BYTES = 8 << 30
MAX_ENTRIES = 100_000
_BLOCK = 1 << 20
_OLD_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""A protocol-2 pickle of torch's magic number, the start of files from before torch 1.6."""
_OLD_PROTOCOL = 1001
_PLAIN = (str, bytes, int, float, complex, torch.dtype, torch.device, torch.Size, np.float64, type(None))


class CheckpointError(ValueError):
    """Weights cannot be used; the message says which file, what was expected and what came."""


def read_torch_file(path: Path) -> Any:
    """Read a file of ``torch.save``, new or old, on the CPU.

    Raises:
        CheckpointError: If the file is not one, is damaged, or holds more than tensors and plain data.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(_OLD_START))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from None
    if size > MAX_BYTES:
        raise CheckpointError(f"{path}: {size} bytes; at most {MAX_BYTES} are read.")
    if not start.startswith(b"PK") and start != _OLD_START:
        raise CheckpointError(f"{path}: not a file of torch.save (it starts with {show_bytes(start[:8])}).")
    try:
        content = _read_archive(path, size) if start.startswith(b"PK") else _read_old(path, size)
    except PickleError as error:
        raise CheckpointError(f"{path}: {error}.") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        kind = "a damaged zip archive" if start.startswith(b"PK") else "damaged"
        raise CheckpointError(f"{path}: {kind} ({error}); copy or download it again.") from None
    _check_content(content, path)
    return content


class _Storages:
    """The storages of a file by their keys, as its pickle names them.

    Args:
        room: Bytes that all of them together may take.
        fill: Reads one; None to leave them empty for now.
    """

    def __init__(self, room: int, fill: Callable[[str, Tensor], None] | None) -> None:
        self._room, self._fill = room, fill
        self.found: dict[str, tuple[torch.dtype, Tensor]] = {}

    def find(self, named: tuple[Any, ...]) -> Storage:
        """The storage of a persistent id ``("storage", class, key, device, elements)``.

        Raises:
            PickleError: If it is none, or claims more than is stored.
        """
        kind, word, key, _, elements, *views = named
        dtype = STORAGES.get(word.name) if isinstance(word, Word) else None
        if kind != "storage" or dtype is None or not isinstance(key, str) or any(views):
            raise PickleError("refused, it refers to something that is no storage of a dense tensor")
        size = elements * dtype.itemsize
        if key not in self.found:
            self._room -= size
            if size < 0 or self._room < 0:
                raise PickleError("refused, its tensors claim more bytes than the file has")
            content = torch.empty(size, dtype=torch.uint8)
            if self._fill:
                self._fill(key, content)
            self.found[key] = dtype, content
        content = self.found[key][1]
        if content.nbytes != size:
            raise PickleError(f"damaged (the storage {key[:40]!r} has two sizes)")
        return Storage(dtype, content.untyped_storage())


def _read_archive(path: Path, size: int) -> Any:
    """Read an archive after refusing what torch did not write: compressed, nested or escaping entries."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if reason := _archive_fault(entries, size):
            raise PickleError(f"refused, {reason}")
        for entry in entries:
            if entry.CRC == 0:  # torch.save can be told to leave the checksums out
                del entry.CRC
        root = PurePosixPath(entries[0].filename).parts[0]

        def fill(key: str, content: Tensor) -> None:
            _fill(archive, f"{root}/data/{key}", content)

        storages = _Storages(size, fill)
        found = read_pickle(io.BytesIO(archive.read(f"{root}/data.pkl")), storages.find)
        if f"{root}/byteorder" in archive.namelist():
            order = archive.read(f"{root}/byteorder").decode("ascii", "replace")
        else:
            order = "little"
    _swap(storages, order)
    return found


def _fill(archive: zipfile.ZipFile, name: str, content: Tensor) -> None:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise PickleError(f"damaged (it has no entry {name[:80]!r})") from None
    if entry.file_size != content.nbytes:
        raise PickleError(
            f"refused, a tensor claims {content.nbytes} bytes, its entry {name[:80]!r} has {entry.file_size}"
        )
    with archive.open(entry) as file:
        _read_into(file, content)


def _read_old(path: Path, size: int) -> Any:
    """Read a file of before torch 1.6: four pickles, one of the keys of its storages, and these."""
    with path.open("rb") as file:
        read_pickle(file)  # the magic number
        if (protocol := read_pickle(file)) != _OLD_PROTOCOL:
            raise PickleError(f"damaged (expected protocol {_OLD_PROTOCOL}, got {str(protocol)[:40]})")
        read_pickle(file)  # the machine that wrote it
        storages = _Storages(size, None)
        found = read_pickle(file, storages.find)
        keys = read_pickle(file)
        if not isinstance(keys, list) or sorted(keys) != sorted(storages.found):
            raise PickleError("damaged (its storages are not those of its tensors)")
        for dtype, content in (storages.found[key] for key in keys):
            elements = int.from_bytes(file.read(8), "little")
            if elements * dtype.itemsize != content.nbytes:
                raise PickleError(f"damaged (a storage has {elements} elements, its tensors another number)")
            _read_into(file, content)
    _swap(storages, "little")
    return found


def _read_into(file: IO[bytes], content: Tensor) -> None:
    rest = memoryview(content.numpy())
    while rest:
        block = file.read(min(len(rest), _BLOCK))
        if not block:
            raise EOFError("it ends too early")
        rest[: len(block)] = block
        rest = rest[len(block) :]


def _swap(storages: _Storages, order: str) -> None:
    """Turn the bytes of numbers round that another kind of machine wrote."""
    if order not in ("little", "big"):
        raise PickleError(f"damaged (expected the byte order little or big, got {order[:20]!r})")
    if order != sys.byteorder:
        for dtype, content in storages.found.values():
            content.untyped_storage().byteswap(dtype)


def _archive_fault(entries: list[zipfile.ZipInfo], size: int) -> str | None:
    if len(entries) > MAX_ENTRIES:
        return f"it has {len(entries)} entries"
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        return "two entries have one name"
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if (
            not parts
            or ".." in parts
            or entry.filename.startswith("/")
            or "\\" in entry.filename
            or ":" in parts[0]
        ):
            return f"the entry name {entry.filename[:80]!r} leads out of the archive"
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            return f"the entry {entry.filename[:80]!r} is compressed or encrypted, torch.save stores plainly"
    roots = {PurePosixPath(name).parts[0] for name in names}
    structure = [entry for entry in entries if entry.filename in {f"{root}/data.pkl" for root in roots}]
    if len(roots) != 1 or not structure:
        return "it is not laid out as torch.save does (one folder with data.pkl)"
    if any(PurePosixPath(name).parts[1:2] == ("code",) for name in names):
        return "it is a TorchScript program, not weights"
    if sum(entry.file_size for entry in entries) > size:
        return "its entries claim more bytes than the file has"
    if structure[0].file_size > MAX_PICKLE_BYTES:
        return "its structure is too large"
    return None


def _check_content(content: Any, path: Path) -> None:
    """Refuse other things than dense tensors and plain data."""
    stack, seen = [content], 0
    while stack:
        value = stack.pop()
        seen += 1
        if isinstance(value, dict):
            stack += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            stack += value
        elif not isinstance(value, (Tensor, *_PLAIN)):
            raise CheckpointError(f"{path}: holds a {type(value).__name__}; only plain data is read.")
        if seen > 10 * MAX_ENTRIES:
            raise CheckpointError(f"{path}: refused, its structure is too large.")
