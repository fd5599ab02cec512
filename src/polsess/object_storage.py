"""Objects of a store that speaks S3, under names like ``s3://bucket/folder/a.wav``, beside files.

Such a name is a ``Path`` like every other, in which pathlib has folded the two slashes into one. A key with
an empty part (``a//b``) cannot be named.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polsess.dependencies import require
from polsess.system_errors import check_space

_S3 = "s3:/"


def is_remote(path: Path) -> bool:
    """Whether a path names an object, or a folder of objects."""
    return str(path).startswith(_S3)


def shown(path: Path) -> str:
    """The name as the user wrote it: ``s3://bucket/key``, or that of a file."""
    return f"s3://{str(path).removeprefix(_S3)}" if is_remote(path) else str(path)


def exists(path: Path) -> bool:
    """Whether there is a file, a folder or an object of this name.

    Raises:
        OSError: If the store does not answer.
    """
    if not is_remote(path):
        return path.exists()
    with _errors_of(path):
        return bool(_store().exists(shown(path)))


def is_folder(path: Path) -> bool:
    """Whether a name is that of a folder, or that objects begin with it.

    Raises:
        OSError: If the store does not answer.
    """
    if not is_remote(path):
        return path.is_dir()
    with _errors_of(path):
        return bool(_store().isdir(shown(path)))


def list_objects(folder: Path) -> dict[Path, int]:
    """The objects below a folder in the order of their names, and their sizes in bytes.

    Raises:
        OSError: If the store does not answer.
    """
    with _errors_of(folder):
        found: Mapping[str, Mapping[str, Any]] = _store().find(shown(folder), detail=True)
    return {Path(_S3 + name): int(found[name]["size"]) for name in sorted(found) if not name.endswith("/")}


@contextlib.contextmanager
def fetched(path: Path) -> Iterator[Path]:
    """A copy of an object on this machine for the time of the block; a file itself.

    Raises:
        OSError: If there is no such object, the store does not answer, or the disk is full.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="polsess-") as folder:
        copy = Path(folder) / path.name
        with _errors_of(path):
            check_space(copy.parent, int(_store().info(shown(path))["size"]))
            _store().get_file(shown(path), str(copy))
        yield copy


@contextlib.contextmanager
def folder_for(target: Path) -> Iterator[Path]:
    """A folder to write to: the target, or one on this machine whose files are stored there after the block.

    Nothing is stored where the block ends with an error. Objects appear one by one, each whole.

    Raises:
        OSError: If they cannot be stored.
    """
    if not is_remote(target):
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="polsess-") as name:
        yield Path(name)
        for path in sorted(path for path in Path(name).rglob("*") if path.is_file()):
            place = target / path.relative_to(name)
            with _errors_of(place):
                _store().put_file(str(path), shown(place))


def remove(path: Path) -> None:
    """Remove a file or an object if it is there.

    Raises:
        OSError: If that fails.
    """
    if not is_remote(path):
        path.unlink(missing_ok=True)
        return
    with _errors_of(path), contextlib.suppress(FileNotFoundError):
        _store().rm_file(shown(path))


def _store() -> Any:
    """The store that the usual variables (``AWS_ENDPOINT_URL``, ``AWS_PROFILE`` and so on) name."""
    require("s3fs", "s3://")
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False)


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Name the object in every error; the client has errors of its own for what is the network's."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such object or bucket", shown(path)) from None
    except PermissionError as error:
        message = f"the store refuses it ({error}); check the credentials"
        raise PermissionError(errno.EACCES, message, shown(path)) from None
    except ModuleNotFoundError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise OSError(errno.EIO, f"the store does not answer as it should: {text}", shown(path)) from error
