"""YAML as data: nothing is constructed from a tag, and a hostile file ends in one clear error.

``read_yaml`` reads plain files. ``read_tagged_yaml`` also reads files of toolkits that treat YAML as a
program: their tags become ``Tagged`` values, which nothing executes.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polsess.schema import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 20_000
MAX_DIGITS = 100
"""Of a number: reading one in YAML's base 60 takes time that grows with their square."""


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class YamlError(ConfigError):
    """A YAML file is broken, too large or asks for what is not data."""


@dataclass(frozen=True)
class Tagged:
    """A value with a tag, e.g. ``!new:package.Class`` with its arguments.

    Attributes:
        tag: The tag with its exclamation mark.
        value: The mapping, sequence or text behind it; None if there is none.
    """

    tag: str
    value: Any


class _Loader(yaml.SafeLoader):
    """The safe loader with limits, without duplicate keys, and with 1e-3 read as a number."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0
        self.num_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.num_nodes += 1
        if self.depth > MAX_DEPTH or self.num_nodes > MAX_NODES:
            raise YamlError(f"more than {MAX_DEPTH} levels or {MAX_NODES} nodes")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            raise YamlError(
                f"line {node.start_mark.line + 1}: expected a number of at most {MAX_DIGITS} characters,"
                f" got {len(node.value)}"
            )
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the pairs of merge keys into the node, counted beforehand: merges of merges multiply."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(part, yaml.MappingNode):
                        self.flatten_mapping(part)
                        self.num_nodes += len(part.value)
                    if self.num_nodes > 2 * MAX_NODES:
                        raise YamlError(f"merge keys expand to more than {MAX_NODES} nodes")
        super().flatten_mapping(node)

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise YamlError(f"line {node.start_mark.line + 1}: expected a mapping")
        seen: set[Any] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(f"line {line}: a key must be text or a number")
            if key_node.value in seen:
                raise YamlError(f"line {line}: the key '{key_node.value}' comes twice")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _TaggedLoader(_Loader):
    """As above; unknown tags with one exclamation mark become data."""


def _construct_tagged(loader: _TaggedLoader, suffix: str, node: yaml.Node) -> Tagged:
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        text = loader.construct_scalar(node)  # type: ignore[arg-type]
        value = text or None
    return Tagged(f"!{suffix}", value)


_FLOAT = re.compile(r"^[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_TaggedLoader.add_multi_constructor("!", _construct_tagged)


def read_yaml(path: Path) -> Any:
    """Read a plain YAML file.

    Raises:
        YamlError: If the file is too large or deep, is not YAML, repeats a key or holds a tag.
        OSError: If it cannot be read.
    """
    return _parse(_text(path), _Loader, str(path))


def read_tagged_yaml(path: Path) -> Any:
    """Read a YAML file whose local tags (``!name``) become ``Tagged`` values; global tags are refused.

    Raises:
        YamlError: If the file is too large or deep, is not YAML, or repeats a key.
        OSError: If it cannot be read.
    """
    return _parse(_text(path), _TaggedLoader, str(path))


def read_section(path: Path, key: str) -> dict[str, Any]:
    """One mapping of a plain YAML file.

    Raises:
        YamlError: If the file is not plain YAML or has no such mapping.
        OSError: If it cannot be read.
    """
    data = read_yaml(path)
    section = data.get(key) if isinstance(data, dict) else None
    if not isinstance(section, dict):
        raise YamlError(f"{path}: expected a section '{key}'.")
    return section


def parse_yaml(text: str, where: str = "YAML") -> Any:
    """As ``read_yaml``, from text; ``where`` starts the error messages."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"{where}: larger than {MAX_BYTES} characters.")
    return _parse(text, _Loader, where)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise YamlError(f"{path}: larger than {MAX_BYTES} bytes; a configuration is not.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None


def _parse(text: str, loader_class: type[_Loader], where: str) -> Any:
    try:
        loader = loader_class(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
        _check_expanded_size(data)
    except (yaml.YAMLError, YamlError) as error:
        raise YamlError(f"{where}: {_one_line(error)}.") from None
    except (RecursionError, ValueError) as error:  # e.g. a date of month 13
        raise YamlError(f"{where}: {_one_line(error)}.") from None
    return data


def _check_expanded_size(data: Any) -> None:
    """Refuse aliases that multiply: the tree, counted as if every alias were a copy, stays small."""
    stack, count = [(data, 0)], 0
    while stack:
        value, depth = stack.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise YamlError(f"aliases expand to more than {MAX_NODES} nodes or {MAX_DEPTH} levels")
        if isinstance(value, Tagged):
            value = value.value
        if isinstance(value, dict):
            stack += [(child, depth + 1) for pair in value.items() for child in pair]
        elif isinstance(value, list):
            stack += [(child, depth + 1) for child in value]


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split()) or type(error).__name__
