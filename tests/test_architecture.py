"""Imports run downwards only: each floor may use the floors below, siblings do not import each other."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import polsess

PACKAGE = Path(polsess.__file__).parent
FLOORS = [
    {"schema", "registry", "tasks", "audio", "dependencies", "files", "yaml_files", "dotted_keys", "journal"}
    | {
        "config_error",
        "folder_lock",
        "interruption",
        "timelines",
        "publication",
        "system_errors",
        "onnx_files",
    }
    | {"signal_ratios", "permutation", "allocator", "machine", "devices", "pictures", "text_tables"}
    | {"processes", "measurement", "pace", "workers", "client", "object_storage", "precision"},
    {"data", "models", "losses", "metrics", "diarization"},
    {"checkpoints", "costs"},
    {"config"},
    {"training", "inference", "overview"},
    {"evaluation", "benchmark", "demo", "doctor", "runtime", "export"},
    {"report", "listening"},
    {"service", "cluster"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and file of everything of the package that a file imports when it runs, inside functions too."""
    tree = ast.parse(path.read_text())
    unused = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in unused:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else node.module for name in submodules]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name in FILES)


def test_imports_run_downwards_only() -> None:
    wrong = []
    for name, path in FILES.items():
        _, _, below = name.partition(".")
        room = below.partition(".")[0]
        if not room:
            continue
        assert room in FLOOR_OF, f"{room} has no floor: give it one in {Path(__file__).name}"
        for line, module in imports(path):
            other = module.partition(".")[2].partition(".")[0] or room  # the face itself imports nothing
            sibling_on_the_ground = FLOOR_OF[room] == 0 and FLOOR_OF.get(other) == 0
            if other != room and not sibling_on_the_ground and FLOOR_OF[other] >= FLOOR_OF[room]:
                wrong.append(f"{path}:{line}: {room} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: {module for _, module in imports(path)} - {name} for name, path in FILES.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(polsess.__path__, "polsess."):
        if not info.name.endswith("__main__"):
            with suppress(ModuleNotFoundError):  # an optional package is not installed
                yield importlib.import_module(info.name)


def test_every_public_method_or_the_one_that_it_overrides_has_a_docstring() -> None:
    kinds = (FunctionType, property, classmethod, staticmethod)
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
