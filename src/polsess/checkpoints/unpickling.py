"""Reading torch files as hostile input: the archive is inspected, then only tensors and plain data built.

No code of a file runs: ``weights_only=True`` always, with the few extra names that published files hold.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

MAX_BYTES = 8 << 30
MAX_ENTRIES = 100_000
MAX_PICKLE_BYTES = 64 << 20
_OLD_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""A protocol-2 pickle of torch's magic number, the start of files from before torch 1.6."""

# numpy.float64 scores (named differently before numpy 2) and the version that torch >= 1.10 stores.
_SAFE_GLOBALS: list[Any] = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
    np.dtype,
    np.dtypes.Float64DType,
    TorchVersion,
]


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
    if start.startswith(b"PK"):
        _inspect_archive(path, size)
    elif start != _OLD_START:
        raise CheckpointError(f"{path}: not a file of torch.save (it starts with {start[:8]!r}).")
    return _load(path)


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged input
        raise CheckpointError(f"{path}: {_reason(error)}") from None
    _check_tensors(content, path)
    return content


def _inspect_archive(path: Path, size: int) -> None:
    """Refuse an archive that torch did not write: compressed, nested, overlapping or escaping entries."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: a damaged zip archive ({error}).") from None
    reason = _archive_fault(entries, size)
    if reason:
        raise CheckpointError(f"{path}: refused, {reason}.")


def _archive_fault(entries: list[zipfile.ZipInfo], size: int) -> str | None:
    if len(entries) > MAX_ENTRIES:
        return f"it has {len(entries)} entries"
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        return "two entries have one name"
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if ".." in parts or entry.filename.startswith("/") or "\\" in entry.filename or ":" in parts[0]:
            return f"the entry name {entry.filename[:80]!r} leads out of the archive"
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            return f"the entry {entry.filename[:80]!r} is compressed or encrypted, torch.save stores plainly"
    roots = {PurePosixPath(name).parts[0] for name in names}
    if len(roots) != 1 or f"{next(iter(roots))}/data.pkl" not in names:
        return "it is not laid out as torch.save does (one folder with data.pkl)"
    if any(PurePosixPath(name).parts[1:2] == ("code",) for name in names):
        return "it is a TorchScript program, not weights"
    if sum(entry.file_size for entry in entries) > size:
        return "its entries claim more bytes than the file has"
    if next(e.file_size for e in entries if e.filename.endswith("/data.pkl")) > MAX_PICKLE_BYTES:
        return "its structure is too large"
    return None


def _check_tensors(content: Any, path: Path) -> None:
    """Refuse views that claim more elements than are stored: copying one would exhaust the memory."""
    stack, seen = [content], 0
    while stack:
        value = stack.pop()
        seen += 1
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.is_quantized:
                raise CheckpointError(
                    f"{path}: holds a sparse or quantised tensor; only dense ones are read."
                )
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise CheckpointError(f"{path}: a tensor claims {list(value.shape)}, more than is stored.")
        elif isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list | tuple | set):
            stack += value
        if seen > 10 * MAX_ENTRIES:
            raise CheckpointError(f"{path}: refused, its structure is too large.")


def _reason(error: Exception) -> str:
    """One line about what ``torch.load`` refused."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)|(?:Unsupported global|class) ([\w.]+)", text):
        name = found.group(1) or found.group(2)
        return f"refused, it asks to run or build '{name}'; only tensors and plain data are read."
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return f"damaged or refused ({first[:160]})."
