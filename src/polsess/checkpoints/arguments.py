"""Foreign constructor arguments: every one is read or refused, none is passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from polsess.checkpoints.formats import CheckpointError

T = TypeVar("T")


class Arguments:
    """The arguments of one foreign class, each taken once.

    Args:
        values: As the file gives them.
        where: The class, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self._where = where

    def take(self, *names: str, default: Any = ...) -> Any:
        """The value of the first of these names that is there; another era's name comes second.

        Args:
            *names: Names of the argument.
            default: What the class takes when the argument is absent; without it the argument must be there.

        Raises:
            CheckpointError: If it is absent and has no default.
        """
        for name in names:
            if name in self._values:
                return self._values.pop(name)
        if default is ...:
            raise CheckpointError(f"{self._where}: the argument '{names[0]}' is missing.")
        return default

    def choose(self, name: str, choices: Mapping[Any, T], default: Any = ...) -> T:
        """Our word for the value of an argument.

        Args:
            name: The argument.
            choices: Our word for each value that is read.
            default: The value when the argument is absent.

        Raises:
            CheckpointError: If the value is another.
        """
        value = self.take(name, default=default)
        try:
            return choices[value]
        except (KeyError, TypeError):
            known = ", ".join(str(choice) for choice in choices)
            raise CheckpointError(f"{self._where}: {name}={value!r} is not read, only {known}.") from None

    def expect(self, name: str, value: Any) -> None:
        """An argument that must have this value, or be absent.

        Raises:
            CheckpointError: If it has another.
        """
        self.choose(name, {value: value}, default=value)

    def ignore(self, *names: str) -> None:
        """Drop arguments that change nothing in the network."""
        for name in names:
            self._values.pop(name, None)

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises:
            CheckpointError: If an argument is left over.
        """
        if self._values:
            left = ", ".join(f"{key}={value!r}"[:60] for key, value in self._values.items())
            raise CheckpointError(f"{self._where}: arguments that are not read: {left}.")
