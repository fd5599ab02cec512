"""Typed configuration: frozen pydantic models whose errors name the key, the mistake and the remedy."""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import json
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from polsess.config_error import ConfigError as ConfigError

SchemaT = TypeVar("SchemaT", bound="Schema")

_MAX_SHOWN = 8


class Schema(BaseModel):
    """A frozen configuration node: unknown keys are refused, numbers are not guessed from text."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The JSON schema, in which the string below an attribute describes it.

        Pydantic's ``use_attribute_docstrings`` reads the source of every class when it is imported.
        """
        document = handler.resolve_ref_schema(handler(core_schema))
        for owner in reversed(cls.__mro__):
            if issubclass(owner, Schema) and owner is not Schema:
                for name, text in _attribute_docstrings(owner).items():
                    document["properties"][name]["description"] = text
        return document


def _attribute_docstrings(owner: type) -> dict[str, str]:
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    except (OSError, TypeError):  # a class that was typed at a prompt has no source
        return {}
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            texts[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return texts


def parse(schema: type[SchemaT], data: Any, where: str = "") -> SchemaT:
    """Validate plain data against a schema.

    Args:
        schema: The configuration class.
        data: Plain data, as YAML or JSON gives it.
        where: Dotted path of ``data`` in the file it came from; starts every error message.

    Raises:
        ConfigError: One line for each of the first mistakes, e.g. ``model.num_filter: unknown key of
            ConvTasNetConfig. Did you mean 'num_filters'? Known keys: ...``.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or schema.__name__}: expected a mapping, got {data!r}.")
    try:
        # Through JSON: strict about types, yet lists become tuples and words become enumerations.
        return schema.model_validate_json(json.dumps(dict(data), default=str))
    except ValidationError as error:
        details = error.errors()
        lines = [_explain(schema, where, dict(detail)) for detail in details[:_MAX_SHOWN]]
        if len(details) > _MAX_SHOWN:
            lines.append(f"... and {len(details) - _MAX_SHOWN} mistakes more.")
        raise ConfigError("\n".join(lines)) from None


def suggest(word: str, known: list[str], kind: str) -> str:
    """The tail of an error about an unknown name: the nearest known one and all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{hint} {kind}: {', '.join(sorted(known)) or 'none'}."


def _explain(schema: type[BaseModel], where: str, detail: dict[str, Any]) -> str:
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):  # from a nested parse: it names its own path
        return str(cause)
    owner, location = _locate(schema, [str(part) for part in detail["loc"]])
    path = ".".join([where, *location] if where else location) or schema.__name__
    if detail["type"].startswith("union_tag"):
        choices = ", ".join(_members(owner.model_fields[location[-1]].annotation))
        return f"{path}.kind: expected one of {choices}, got {dict(detail['input']).get('kind')!r}."
    if detail["type"] == "extra_forbidden":
        known = list(owner.model_fields)
        return f"{path}: unknown key of {owner.__name__}." + suggest(location[-1], known, "Known keys")
    if detail["type"] == "missing":
        return f"{path}: missing; {owner.__name__} needs it."
    message = str(cause) if cause is not None else detail["msg"]
    if cause is not None:
        return f"{path}: {message}"
    return f"{path}: {message}, got {detail['input']!r}."


def _locate(schema: type[BaseModel], location: list[str]) -> tuple[type[BaseModel], list[str]]:
    """The class that holds the last key of a location, and the keys as a file has them.

    Pydantic puts the ``kind`` of a choice among classes into its locations, as if it were a key.
    """
    owner, inner = schema, schema
    keys: list[str] = []
    members: dict[str, type[BaseModel]] = {}
    for part in location:
        if part in members:
            inner, members = members[part], {}
            continue
        keys.append(part)
        owner = inner
        field = owner.model_fields.get(part)
        annotation = field.annotation if field else None
        members = _members(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            inner = annotation
    return owner, keys


def _members(annotation: Any) -> dict[str, type[BaseModel]]:
    """The classes of a choice by their ``kind``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return {str(name): annotation for name in get_args(kind.annotation)} if kind else {}
    return {name: member for part in get_args(annotation) for name, member in _members(part).items()}
