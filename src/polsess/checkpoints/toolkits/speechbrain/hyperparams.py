"""Resolving ``hyperparams.yaml`` as data: which class each module would be, and with which arguments.

HyperPyYAML builds what the tags name; here ``!new:package.Class`` is only looked up in a table of our own.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polsess.checkpoints.unpickling import CheckpointError
from polsess.yaml_files import Tagged

MAX_REFERENCES = 10_000
MAX_CHARACTERS = 1 << 20
_WHOLE = re.compile(r"<([^<>]+)>")
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Instance:
    """A class that the file names, never built.

    Attributes:
        class_path: The dotted path as written.
        arguments: Its resolved keyword arguments.
    """

    class_path: str
    arguments: dict[str, Any]

    @property
    def class_name(self) -> str:
        """The last part of the path."""
        return self.class_path.rpartition(".")[2]


class Hyperparams:
    """The mapping of a file, whose values are resolved when asked for.

    Args:
        data: The tagged mapping of ``read_tagged_yaml``.
        where: The file, for messages.

    Raises:
        CheckpointError: If the file does not hold a mapping.
    """

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise CheckpointError(f"{where}: expected a mapping, got {type(data).__name__}.")
        self._data = data
        self._where = where
        self._budget = MAX_REFERENCES
        self._characters = MAX_CHARACTERS

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __getitem__(self, key: str) -> Any:
        """The resolved value of a top-level key.

        Raises:
            CheckpointError: If the key is missing or a reference leads nowhere or in a circle.
        """
        return self._resolve(Tagged("!ref", f"<{key}>"), ())

    def _resolve(self, value: Any, trail: tuple[str, ...]) -> Any:
        self._budget -= 1
        if self._budget < 0:
            raise CheckpointError(f"{self._where}: more than {MAX_REFERENCES} references.")
        if isinstance(value, Mapping):
            return {key: self._resolve(child, trail) for key, child in value.items()}
        if isinstance(value, list):
            return [self._resolve(child, trail) for child in value]
        if not isinstance(value, Tagged):
            return value
        if value.tag in ("!ref", "!copy"):
            return self._reference(str(value.value), trail)
        kind, _, class_path = value.tag.partition(":")
        if kind in ("!new", "!name") and class_path:
            return Instance(class_path, self._arguments(value, class_path, trail))
        if value.tag == "!tuple" and isinstance(value.value, list):
            return tuple(self._resolve(value.value, trail))
        if value.tag == "!tuple":
            return self._tuple(str(value.value))
        raise CheckpointError(f"{self._where}: the tag '{value.tag}' is not read; nothing in a file is run.")

    def _arguments(self, value: Tagged, class_path: str, trail: tuple[str, ...]) -> dict[str, Any]:
        if value.value is None:
            return {}
        if not isinstance(value.value, Mapping):
            raise CheckpointError(f"{self._where}: {class_path}: arguments must have names.")
        return self._resolve(value.value, trail)

    def _tuple(self, text: str) -> tuple[Any, ...]:
        """The numbers of a tuple in brackets, ``(3, 3)``."""
        words = [word.strip() for word in text.strip().removeprefix("(").removesuffix(")").split(",")]
        try:
            return tuple(float(word) if "." in word else int(word) for word in words if word)
        except ValueError:
            raise CheckpointError(f"{self._where}: '!tuple {text[:60]}' is not a tuple of numbers.") from None

    def _reference(self, text: str, trail: tuple[str, ...]) -> Any:
        """The value of ``<key>``, ``<key[inner]>``, or text or arithmetic with such references."""
        parts = _WHOLE.findall(text)
        if len(parts) == 1 and text.strip() == f"<{parts[0]}>":
            return self._look_up(parts[0], trail)
        values = {f"<{part}>": self._look_up(part, trail) for part in parts}
        words = {part: str(value) for part, value in values.items()}
        self._characters -= len(text) + sum(len(words[f"<{part}>"]) for part in parts)
        if self._characters < 0:
            raise CheckpointError(
                f"{self._where}: references expand to more than {MAX_CHARACTERS} characters."
            )
        filled = _WHOLE.sub(lambda match: words[match.group()], text)
        if values and all(isinstance(value, int | float) for value in values.values()):
            return _calculate(filled, f"{self._where}: {text}")
        return filled

    def _look_up(self, path: str, trail: tuple[str, ...]) -> Any:
        if path in trail:
            raise CheckpointError(f"{self._where}: <{path}> refers to itself.")
        keys = [key for key in re.split(r"[\[\].]+", path) if key]
        value: Any = self._data
        for key in keys:
            if isinstance(value, Tagged):
                value = self._resolve(value, (*trail, path))
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise CheckpointError(f"{self._where}: '{path}' is missing.")
        return self._resolve(value, (*trail, path))


def _calculate(text: str, where: str) -> Any:
    """The value of an arithmetic expression of numbers; any other text stays text."""
    if len(text) > 200:
        raise CheckpointError(f"{where}: too long an expression.")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, KeyError, TypeError, RecursionError):
        return text
    except (ArithmeticError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}.") from None


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise TypeError("not arithmetic")
