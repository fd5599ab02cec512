"""The files of one checkpoint: the named one and its neighbours, each read once and safely."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from polsess.checkpoints.unpickling import CheckpointError, read_torch_file
from polsess.files import parse_json, read_json
from polsess.schema import ConfigError
from polsess.yaml_files import read_tagged_yaml

T = TypeVar("T")
MAX_HEADER_BYTES = 16 << 20
_WEIGHT_NAMES = ("*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin", "*.tar")
_WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")
"""Prefixes that compiled and data-parallel networks put before every name, in either order."""


class WeightFiles:
    """A folder, or one file with its neighbours.

    Args:
        path: The folder or file that the user named, which exists.

    Attributes:
        path: The same.
        folder: The folder of the files.
        main: The name of the file that the user named; None for a folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self.main = None if path.is_dir() else path.name
        self._cache: dict[str, Any] = {}

    def has(self, *names: str) -> bool:
        """Whether all of these files are there, beside the named one too."""
        return all((self.folder / name).is_file() for name in names)

    def candidates(self, *patterns: str) -> list[str]:
        """Names to look into: the named file, if it matches; in a folder, all that match."""
        names = [self.main] if self.main else sorted(p.name for p in self.folder.iterdir() if p.is_file())
        return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]

    def torch_file(self, name: str) -> Any:
        """The content of a ``torch.save`` file: tensors and plain data.

        Raises:
            CheckpointError: If it is damaged or refused.
        """
        return self._once(name, read_torch_file)

    def torch_dict(self, name: str) -> dict[str, Any]:
        """As ``torch_file``, for files that must hold a dictionary by text."""
        content = self.torch_file(name)
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise CheckpointError(
                f"{self.folder / name}: expected a dictionary, got {type(content).__name__}."
            )
        return content

    def only_torch_dict(self, names: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """The one file of a format that keeps everything in it: its path, for messages, and its dictionary.

        Args:
            names: The files that have this format, at least one.

        Raises:
            CheckpointError: If there are several, so that the user must name one.
        """
        if len(names) > 1:
            raise CheckpointError(f"{self.path}: name one of {', '.join(names)}.")
        return str(self.folder / names[0]), self.torch_dict(names[0])

    def safetensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a safetensors file.

        Raises:
            CheckpointError: If it is damaged.
        """
        return self._once(name, _read_safetensors)

    def json(self, name: str) -> Any:
        """The content of a JSON file.

        Raises:
            CheckpointError: If it is damaged or too large.
        """
        return self._once(name, _read_json)

    def yaml(self, name: str) -> Any:
        """The content of a YAML file; its tags are data.

        Raises:
            CheckpointError: If it is damaged or too large.
        """
        return self._once(name, _read_yaml)

    def tensor_names(self) -> dict[str, set[str]]:
        """The names of the tensors in each file that can be read, without the prefixes of wrappers."""
        found: dict[str, set[str]] = {}
        for name in self.candidates(*_WEIGHT_NAMES):
            with contextlib.suppress(CheckpointError):
                safe = name.endswith(".safetensors")
                found[name] = _names_within(self.safetensors(name) if safe else self.torch_file(name))
        return found

    @property
    def opened(self) -> tuple[Path, ...]:
        """The files that were read so far."""
        return tuple(self.folder / name for name in sorted(self._cache))

    def _once(self, name: str, read: Any) -> Any:
        if name not in self._cache:
            self._cache[name] = read(self.folder / name)
        return self._cache[name]


def _names_within(content: Any) -> set[str]:
    """Names of tensors in an unpickled file, of whichever of its dictionaries has any."""
    if not isinstance(content, Mapping):
        return set()
    inner = [content, *(value for value in content.values() if isinstance(value, Mapping))]
    tensors = ({str(key): None for key, value in each.items() if isinstance(value, Tensor)} for each in inner)
    return {key for names in tensors for key in unwrapped(names)}


def state_of(content: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """A state dictionary, checked to be one; a wrapper's prefix of all names is left out.

    Raises:
        CheckpointError: If a value is not a tensor.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where}: expected tensors by name, got {type(content).__name__}.")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: expected tensors by name, got {key!r}: {type(value).__name__}.")
    return unwrapped(content)


def unwrapped(state: Mapping[str, T]) -> dict[str, T]:
    """The entries without the prefixes that compiled and data-parallel networks put before every name."""
    names = dict(state)
    for prefix in _WRAPPERS:
        if all(key.startswith(prefix) for key in names):
            names = {key.removeprefix(prefix): value for key, value in names.items()}
    return names


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    _check_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}).") from None


def _check_header(path: Path) -> None:
    """Refuse a header that gives a name twice: of its two tensors, each library takes another."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > MAX_HEADER_BYTES:
                raise CheckpointError(f"{path}: not a whole safetensors file (a header of {size} bytes).")
            parse_json(file.read(size), f"{path}, header")
    except (ConfigError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}).") from None


def _as_checkpoint_error(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A reader of configurations whose refusals are those of a checkpoint."""

    def reading(path: Path) -> Any:
        try:
            return read(path)
        except (ConfigError, OSError) as error:
            raise CheckpointError(str(error)) from None

    return reading


_read_json = _as_checkpoint_error(read_json)
_read_yaml = _as_checkpoint_error(read_tagged_yaml)
