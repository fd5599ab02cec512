"""API keys: a file of names and SHA-256 digests, one a line; the keys themselves are stored nowhere.

Keys are 256 random bits, so a fast digest is as safe as a slow one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from polsess.files import atomic_path
from polsess.schema import ConfigError
from polsess.service.logs import log

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):([0-9a-f]{64})")


def create_key(path: Path, name: str) -> str:
    """Make a key for a client and add its digest to the file, which only its owner may read.

    Returns:
        The key, which cannot be shown again.

    Raises:
        ConfigError: If the name is none, or has a key already.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--new-key: expected letters, digits, '.', '_' and '-', got {name!r}.")
    known = read_keys(path) if path.exists() else {}
    if name in known.values():
        raise ConfigError(f"{path}: {name} has a key; remove the line to give out another.")
    key = secrets.token_urlsafe(32)
    lines = [f"{each}:{digest}" for digest, each in {**known, _digest(key): name}.items()]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(0o600)
    return key


def read_keys(path: Path) -> dict[str, str]:
    """The names of clients by the digests of their keys.

    Raises:
        ConfigError: If a line is not ``name:digest``.
        OSError: If the file cannot be read.
    """
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            if not (match := _LINE.fullmatch(line.strip())):
                raise ConfigError(f"{path}: line {number}: expected name:SHA-256, as --new-key writes it.")
            found[match[2]] = match[1]
    return found


class Keys:
    """The keys of a service; a changed file counts from the next request.

    A file that has become damaged or is gone lets nobody in until it can be read again.

    Args:
        path: The file; None for a service without keys.

    Raises:
        ConfigError: If it is damaged.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._stamp = path, (0, 0)
        self._names = read_keys(path) if path else dict[str, str]()

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return self._path is not None

    def client(self, key: str) -> str | None:
        """The client whose key this is; None if it is nobody's."""
        if self._path is not None:
            self._follow(self._path)
        return self._names.get(_digest(key))  # of a digest, no time tells how much of it was right

    def _follow(self, path: Path) -> None:
        try:
            now = path.stat()
            stamp = (now.st_mtime_ns, now.st_size)
            if stamp != self._stamp:
                self._names = read_keys(path)
                self._stamp = stamp
        except (OSError, ValueError) as error:
            if self._names:
                log("keys", level="error", reason=str(error))
            self._names, self._stamp = {}, (0, 0)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
