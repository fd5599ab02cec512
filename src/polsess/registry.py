"""Classes by name: only registered classes can be built from a configuration."""

from __future__ import annotations

from typing import Generic, TypeVar

from polsess.schema import ConfigError, suggest

T = TypeVar("T")


class Registry(dict[str, type[T]], Generic[T]):
    """A dictionary from names to classes that refuses a second owner and explains an unknown name.

    Args:
        kind: Kind of the classes, for messages, e.g. ``"model"``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, member: type[T]) -> None:
        """Register a class.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self:
            raise ValueError(f"The {self.kind} name '{name}' is taken by {self[name].__name__}.")
        self[name] = member

    def find(self, name: str) -> type[T]:
        """The class of a name.

        Raises:
            ConfigError: If there is none; the message names the nearest and all.
        """
        if name not in self:
            raise ConfigError(f"Unknown {self.kind} '{name}'." + suggest(name, list(self), "Available"))
        return self[name]
