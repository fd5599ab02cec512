"""Results of reading a weight file, and the list of the readers.

A toolkit is a module or package of this folder. Its reader recognises its files and hands the arguments and
the tensors of one network to a converter; foreign key names and argument names live only there.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles
from polsess.models import NetworkConfig
from polsess.schema import ConfigError, suggest


@dataclass(frozen=True)
class Converted:
    """One network with the names of this library.

    Attributes:
        model: The model's configuration as ``parse_model_config`` takes it.
        state: Its tensors by their names here.
        provenance: What the file says of itself: scores, corpus, licence; plain data.
        task: The PolSESS task, where the file names one.
    """

    model: dict[str, Any]
    state: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    task: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a weight file, before a model is built.

    Attributes:
        format: The name of the reader, e.g. ``"asteroid"``.
        config: The model's validated configuration.
        state: Its tensors by their names here.
        provenance: What the file says of itself.
        task: The PolSESS task, where the file names one.
        source: The path or id that was read.
        revision: The commit on the hub, for ids.
        files: The files that were read.
    """

    format: str
    config: NetworkConfig
    state: dict[str, Tensor]
    provenance: dict[str, Any]
    task: str | None
    source: str
    revision: str | None = None
    files: tuple[Path, ...] = ()


class Converter(Protocol):
    """Turns the arguments and the tensors of one foreign architecture into ours."""

    def __call__(self, arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
        """Convert.

        Raises:
            CheckpointError: If an argument has a value that the architecture here does not offer.
        """


class Reader(ABC):
    """One format of weight files."""

    format: ClassVar[str]
    """Its name, for messages and provenance."""
    rank: ClassVar[int] = 1
    """Readers of a lower rank are asked first; ours is 0, so that no pickle is opened beside safetensors."""
    tensors: ClassVar[Mapping[str, str]] = {}
    """Patterns of names that only the tensors of one network have, and what messages say of them where they
    are found in files of another format."""
    refused: ClassVar[Mapping[str, str]] = {}
    """As ``tensors``, of networks that look like those of this format and are none of ours."""

    @abstractmethod
    def recognises(self, files: WeightFiles) -> bool:
        """Whether these files are of this format: by their names and the keys within, nothing else."""

    @abstractmethod
    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """Read and convert.

        Args:
            files: Files that ``recognises`` said yes to.
            config: The model's configuration, for formats that may lack one; refused where the file has one.

        Raises:
            CheckpointError: If a file is broken or incomplete, or its network is not one of ours.
        """

    def near_miss(self, files: WeightFiles) -> str | None:  # noqa: ARG002
        """Message for files that look almost like this format when no reader recognises them; else None."""
        return None


READERS: list[Reader] = []
"""Every reader; the packages of this folder add theirs on import."""


def register_reader(reader_class: type[Reader]) -> type[Reader]:
    """Class decorator: add a reader."""
    READERS.append(reader_class())
    READERS.sort(key=lambda reader: (reader.rank, reader.format))
    return reader_class


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Name the file in the errors of a converter.

    Args:
        where: The file.

    Raises:
        CheckpointError: If the block raises one, misses a key, or meets a value of a wrong kind.
    """
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"{where}: {error.args[0]} is missing.") from None
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{where}: {error}") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{where}: a value is of a wrong kind: {error}.") from None


def given_fields(config: Mapping[str, Any] | None, allowed: Collection[str], where: str) -> dict[str, Any]:
    """The fields of ``config`` for a format whose files hold all others.

    Args:
        config: As the user gave it; ``model_type`` in it is passed over.
        allowed: Fields that it may give.
        where: The file, for messages.

    Raises:
        CheckpointError: If it gives another.
    """
    given = {key: value for key, value in (config or {}).items() if key != "model_type"}
    if wrong := sorted(given.keys() - set(allowed)):
        known = f"only {', '.join(sorted(allowed))}" if allowed else "nothing"
        raise CheckpointError(
            f"{where}: config may give {known}, not {', '.join(wrong)}; the files hold the rest."
        )
    return given


class Converters(dict[str, Converter]):
    """The converters of one toolkit by the class name that its files hold.

    Args:
        toolkit: The toolkit's name, for messages.
    """

    def __init__(self, toolkit: str) -> None:
        super().__init__()
        self.toolkit = toolkit

    def register(self, *names: str) -> Callable[[Converter], Converter]:
        """Function decorator: the converter of these foreign classes."""

        def add(converter: Converter) -> Converter:
            for name in names:
                if name in self:
                    raise ValueError(f"{self.toolkit}: '{name}' has two converters.")
                self[name] = converter
            return converter

        return add

    def find(self, name: str, where: str) -> Converter:
        """The converter of a foreign class.

        Raises:
            CheckpointError: If there is none; nothing is imported or run by a name from a file.
        """
        if name not in self:
            hint = suggest(name, list(self), "Readable")
            raise CheckpointError(f"{where}: the {self.toolkit} class '{name}' is not known here.{hint}")
        return self[name]
