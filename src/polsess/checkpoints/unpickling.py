"""Reading torch files as hostile input: the archive is inspected, then only tensors and plain data built.

No code of a file runs: ``weights_only=True`` always, with the few extra names that published files hold. Nor
may a small file take much memory: what could build more than the file's own size is refused beforehand.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from polsess.files import show_bytes

MAX_BYTES = 8 << 30
MAX_ENTRIES = 100_000
MAX_PICKLE_BYTES = 16 << 20
MAX_COPIED = 1 << 28
"""Letters or elements that the calls of a pickle may copy of what it holds once."""
_OLD_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""A protocol-2 pickle of torch's magic number, the start of files from before torch 1.6."""


class CheckpointError(ValueError):
    """Weights cannot be used; the message says which file, what was expected and what came."""


def _float64(name: Any, *_: Any) -> np.dtype[Any]:
    """The dtype of a stored score. Any other might describe a scalar of gigabytes."""
    if name != "f8":
        raise UnpicklingError("only scores of 64 bits are read")
    return np.dtype("f8")


def _score(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype != np.float64 or not isinstance(data, bytes):
        raise UnpicklingError("only scores of 64 bits are read")
    return np.frombuffer(data, np.float64, 1)[0]


# numpy.float64 scores (named differently before numpy 2) and the version that torch >= 1.10 stores.
_SAFE_GLOBALS: list[Any] = [
    (_score, "numpy.core.multiarray.scalar"),
    (_score, "numpy._core.multiarray.scalar"),
    (_float64, "numpy.dtype"),
    np.dtypes.Float64DType,
    TorchVersion,
]
_BYTE_CODECS = {
    *(
        "base64",
        "base_64",
        "bz2",
        "hex",
        "quopri",
        "quotedprintable",
        "quoted_printable",
        "uu",
        "zip",
        "zlib",
    ),
    *("rot13", "rot_13"),
}
"""Codecs that make longer bytes of bytes, or the name of such a codec of another word; torch lets a pickle
encode with any codec, as often as it likes."""
_END, _LONG_END, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
"""The last records of an archive: that of every one, and those of large ones before it."""
_PLAIN = (str, bytes, int, float, complex, torch.dtype, torch.device, torch.Size, np.float64, type(None))


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
    if start.startswith(b"PK"):
        _inspect_archive(path, size)
    elif start == _OLD_START:
        with path.open("rb") as file:
            for _ in range(5):  # magic number, protocol, machine, content, keys of the storages
                _inspect_pickle(file, path)
    else:
        raise CheckpointError(f"{path}: not a file of torch.save (it starts with {show_bytes(start[:8])}).")
    return _load(path, size)


def _load(path: Path, size: int) -> Any:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged input
        raise CheckpointError(f"{path}: {_reason(error)}") from None
    _check_content(content, path, size)
    return content


def _inspect_archive(path: Path, size: int) -> None:
    """Refuse an archive that torch did not write: compressed, nested, overlapping or escaping entries."""
    try:
        with zipfile.ZipFile(path) as archive:
            reason = _archive_fault(archive.infolist(), size)
            if reason or not _has_one_directory(path, archive.start_dir):
                raise CheckpointError(f"{path}: refused, {reason or 'it may have two directories'}.")
            _check_sums(archive)
            root = PurePosixPath(archive.namelist()[0]).parts[0]
            _inspect_pickle(io.BytesIO(archive.read(f"{root}/data.pkl")), path)  # the one that torch reads
    except CheckpointError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(
            f"{path}: a damaged zip archive ({error}); copy or download it again."
        ) from None


def _has_one_directory(path: Path, start: int) -> bool:
    """Whether all readers of an archive find the directory that begins at ``start``.

    Python takes the one before the end record, torch the one that this record, or that of archives of more
    than 4 GB, says: it must be the same, with nothing behind it but these records.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _END.size - _LOCATOR.size - _LONG_END.size))
        tail = file.read()
    if len(tail) < _END.size:
        return False
    mark, *_, length, offset, comment = _END.unpack(tail[-_END.size :])
    end = size - _END.size
    locator = tail[-_END.size - _LOCATOR.size : -_END.size]
    if locator.startswith(b"PK\x06\x07"):
        end -= _LOCATOR.size + _LONG_END.size
        long_mark, *_, length, offset = _LONG_END.unpack(tail[: _LONG_END.size])
        if long_mark != b"PK\x06\x06" or _LOCATOR.unpack(locator)[2] != end:
            return False
    return (mark, comment, length, offset) == (b"PK\x05\x06", 0, end - start, start)


def _check_sums(archive: zipfile.ZipFile) -> None:
    """Compare every entry with its checksum, which ``torch.load`` does not look at.

    Raises:
        BadZipFile: If one differs.
    """
    for entry in archive.infolist():
        if entry.CRC == 0:  # torch.save can be told to leave the checksums out
            del entry.CRC
        with archive.open(entry) as file:
            while file.read(1 << 20):
                pass


def _inspect_pickle(file: IO[bytes], path: Path) -> None:
    """Refuse what torch allows although it builds more bytes than it is written with."""
    words: set[str] = set()
    start, too_large, operations, calls, longest = file.tell(), False, 0, 0, 0
    try:
        for operation, argument, position in pickletools.genops(file):
            too_large = (position or 0) - start > MAX_PICKLE_BYTES
            if too_large:
                break
            operations, calls = operations + 1, calls + (operation.name == "REDUCE")
            if isinstance(argument, str):
                longest = max(longest, len(argument))
                if len(argument) < 40:
                    words |= {argument, *argument.split(" ")}
    except Exception as error:  # the bytes are arbitrary
        raise CheckpointError(f"{path}: damaged ({' '.join(str(error).split())[:160]}).") from None
    copied = longest if "encode" in words else 0  # at most, by each call
    copied = max(copied, operations if {"set", "frozenset", "Size"} & words else 0)
    if too_large or calls * copied > MAX_COPIED:
        raise CheckpointError(f"{path}: refused, its structure is too large.")
    multiplying = {"bytearray"} | (_BYTE_CODECS if "encode" in words else set())
    if found := multiplying & {word.lower().replace("-", "_").removesuffix("_codec") for word in words}:
        name = min(found)
        raise CheckpointError(
            f"{path}: refused, it asks to build '{name}'; only tensors and plain data are read."
        )


def _archive_fault(entries: list[zipfile.ZipInfo], size: int) -> str | None:
    if len(entries) > MAX_ENTRIES:
        return f"it has {len(entries)} entries"
    names = [entry.filename for entry in entries]
    if len({name.lower() for name in names}) != len(names):  # torch looks names up in any case
        return "two entries have one name"
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if ".." in parts or entry.filename.startswith("/") or "\\" in entry.filename or ":" in parts[0]:
            return f"the entry name {entry.filename[:80]!r} leads out of the archive"
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            return f"the entry {entry.filename[:80]!r} is compressed or encrypted, torch.save stores plainly"
    roots = {PurePosixPath(name).parts[0] for name in names}
    structures = [entry for entry in entries if entry.filename in {f"{root}/data.pkl" for root in roots}]
    if len(roots) != 1 or len(structures) != 1:
        return "it is not laid out as torch.save does (one folder with data.pkl)"
    if any(PurePosixPath(name).parts[1:2] == ("code",) for name in names):
        return "it is a TorchScript program, not weights"
    if sum(entry.file_size for entry in entries) > size:
        return "its entries claim more bytes than the file has"
    if structures[0].file_size > MAX_PICKLE_BYTES:
        return "its structure is too large"
    return None


def _check_content(content: Any, path: Path, size: int) -> None:
    """Refuse other things than dense tensors and plain data, and tensors that claim more than is stored."""
    stack, seen, storages = [content], 0, {}
    while stack:
        value = stack.pop()
        seen += 1
        if isinstance(value, Tensor):
            _check_tensor(value, path)
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, dict):
            stack += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            stack += value
        elif not isinstance(value, _PLAIN):
            raise CheckpointError(f"{path}: holds a {type(value).__name__}; only plain data is read.")
        if seen > 10 * MAX_ENTRIES:
            raise CheckpointError(f"{path}: refused, its structure is too large.")
    if sum(storages.values()) > size:
        raise CheckpointError(f"{path}: its tensors claim more bytes than the file has.")


def _check_tensor(value: Tensor, path: Path) -> None:
    dense = value.layout is torch.strided and not value.is_quantized and not value.is_nested
    if not dense or value.device.type != "cpu" or type(value) not in (Tensor, torch.nn.Parameter):
        raise CheckpointError(f"{path}: holds a sparse or quantised tensor; only dense ones are read.")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: a tensor claims {list(value.shape)}, more than is stored.")


def _reason(error: Exception) -> str:
    """One line about what ``torch.load`` refused."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)|(?:Unsupported global|class) ([\w.]+)", text):
        name = found.group(1) or found.group(2)
        return f"refused, it asks to run or build '{name}'; only tensors and plain data are read."
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return f"damaged or refused ({first[:160]})."
