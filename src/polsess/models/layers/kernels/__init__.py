"""Optional native CPU kernels: plain C++ beside this file, compiled on first use where a compiler exists.

A kernel is one ``<name>.cpp`` with functions of C linkage that take pointers; no header of PyTorch is
included, so that a build takes seconds. ``load_kernel("<name>")`` compiles it with PyTorch's extension tools,
keeps the library in the user's cache and returns it, or returns None: without a compiler, after a failed
build (said once), or when ``POLSESS_KERNELS=off``. Callers then take their PyTorch path, so a kernel is never
required. Calls release the interpreter lock and share the work out among torch's threads.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import tempfile
import threading
import warnings
from pathlib import Path

_FOLDER = Path(__file__).parent
_FLAGS = ["-O3", "-std=c++17", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
_loading = threading.Lock()
"""PyTorch's extension tools give a second build of one name in a process another name."""
_logger = logging.getLogger(__name__)


def load_kernel(name: str) -> ctypes.CDLL | None:
    """The compiled library of a kernel source in this folder, or None when the slower path must do.

    Args:
        name: The source's name without ``.cpp``; a constant of the calling code, never data.
    """
    if os.environ.get("POLSESS_KERNELS", "").lower() in {"off", "0", "no", "false"}:
        return None
    with _loading:
        return _load_once(name)


def built_kernel(name: str) -> ctypes.CDLL:
    """The library of a kernel that is known to be available.

    Args:
        name: As of ``load_kernel``.

    Raises:
        RuntimeError: If it is not built.
    """
    library = load_kernel(name)
    if library is None:
        raise RuntimeError(f"{name}.cpp is not built; ask is_available first.")
    return library


def multiplies_in_tiles(name: str) -> bool:
    """Whether a kernel can be built, and this processor multiplies tiles of bfloat16 (AMX).

    Args:
        name: As of ``load_kernel``, of a kernel that includes ``tiles.h``.
    """
    return load_kernel(name) is not None and _ask_for_tiles(name)


@functools.cache
def _ask_for_tiles(name: str) -> bool:
    ask = built_kernel(name).allow_tiles
    ask.restype = ctypes.c_int64
    return bool(ask())


@functools.cache
def _load_once(name: str) -> ctypes.CDLL | None:
    source = _FOLDER / f"{name}.cpp"
    try:
        library = _cache_folder() / f"{name}-{_fingerprint(source)}.so"
        if not library.exists():
            if shutil.which(os.environ.get("CXX", "c++")) is None:
                _logger.info("No C++ compiler: '%s' runs in PyTorch, slower.", name)
                return None
            _build(source, library)
        return ctypes.CDLL(str(library))
    except Exception as error:  # whatever a foreign compiler, a full disk or a locked-down home may raise
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        _logger.warning(
            "The native kernel '%s' cannot be built (%s): using PyTorch, slower.", name, reason[0]
        )
        return None


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "polsess" / "kernels"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _fingerprint(source: Path) -> str:
    """Source, headers, flags, processor: a library for another machine's instructions is never loaded."""
    digest = hashlib.sha256()
    for path in (source, *sorted(_FOLDER.glob("*.h"))):
        digest.update(path.read_bytes())
    digest.update(" ".join([*_FLAGS, platform.machine(), platform.system(), _processor()]).encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    if not cpu_info.exists():
        return platform.processor()
    lines = cpu_info.read_text().splitlines()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def _build(source: Path, library: Path) -> None:
    """Compile in a folder of this process alone, then move: a killed build leaves no lock behind."""
    from torch.utils import cpp_extension

    name = library.stem.replace("-", "_")
    with tempfile.TemporaryDirectory(dir=library.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cpp_extension.load(
            name=name,
            sources=[str(source)],
            extra_cflags=_FLAGS,
            build_directory=folder,
            is_python_module=False,
        )
        os.replace(Path(folder) / f"{name}.so", library)  # noqa: PTH105
