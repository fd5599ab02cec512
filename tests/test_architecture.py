"""Imports run downwards only: each floor may use the floors below, siblings do not know each other."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType

import polsess

PACKAGE = Path(polsess.__file__).parent
FLOORS = [
    {"schema", "registry", "tasks", "audio", "dependencies", "files", "yaml_files", "dotted_keys", "journal"}
    | {"folder_lock", "lazy_names"}
    | {"signal_ratios", "permutation", "allocator", "machine", "devices", "pictures", "text_tables"}
    | {"processes", "measurement", "workers"},
    {"data", "models", "losses", "metrics"},
    {"checkpoints", "costs"},
    {"config"},
    {"training", "inference", "overview"},
    {"evaluation", "benchmark", "demo", "doctor"},
    {"report", "listening"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [f"polsess.{alias.name}" for alias in node.names]
                if node.module == "polsess"
                else [node.module]
            )
            found += [(node.lineno, name) for name in names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
    return [(line, name) for line, name in found if name.startswith("polsess.")]


def test_imports_run_downwards_only() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        room = parts[0]
        if room == "__init__":
            continue
        assert room in FLOOR_OF, f"{room} has no floor: give it one in {Path(__file__).name}"
        for line, module in imports(path):
            other = room_of(module)
            sibling_on_the_ground = FLOOR_OF[room] == 0 and FLOOR_OF.get(other) == 0
            if other != room and not sibling_on_the_ground and FLOOR_OF[other] >= FLOOR_OF[room]:
                wrong.append(f"{path}:{line}: {room} imports {module}")
    assert not wrong, "\n".join(wrong)


def modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(polsess.__path__, "polsess."):
        if not info.name.endswith("__main__"):
            with suppress(ModuleNotFoundError):  # an optional package is not installed
                yield importlib.import_module(info.name)


def test_every_public_method_or_the_one_that_it_overrides_has_a_docstring() -> None:
    kinds = FunctionType | property | classmethod | staticmethod
    methods = [
        (owner, name)
        for module in modules()
        for owner in vars(module).values()
        if inspect.isclass(owner) and owner.__module__ == module.__name__ and owner.__name__[0] != "_"
        for name, value in vars(owner).items()
        if isinstance(value, kinds) and name[0] != "_"
    ]
    assert len(methods) > 100
    silent = [each for each in methods if not inspect.getdoc(getattr(*each))]
    assert not [f"{owner.__module__}.{owner.__name__}.{name}" for owner, name in silent]
