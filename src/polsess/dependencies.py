"""Optional packages, and names of a package that are imported on first use."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

_EXTRAS = {
    "lightning": "train",
    "tensorboard": "train",
    "pystoi": "eval",
    "pesq": "pesq",
    "pyarrow": "parquet",
    "meeteval": "wer",
    "matplotlib": "plots",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "runtime",
    "wandb": "wandb",
    "optuna": "hpo",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
    "websockets": "serve",
    "ray": "ray",
    "s3fs": "s3",
}


def list_extras() -> dict[str, str]:
    """The optional packages and the extra of ``polsess-separation`` that installs each."""
    return dict(_EXTRAS)


def install_command(extra: str) -> str:
    """The command that installs an extra; it is run in the folder of the project's repository."""
    return f"pip install -e '.[{extra}]'"


def is_installed(package: str) -> bool:
    """Whether an optional package can be found, without importing it."""
    return importlib.util.find_spec(package) is not None


def require(package: str, purpose: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: A name of the table above (a fixed list: nothing is imported by a name from data).
        purpose: Feature that needs the package, for the message.

    Raises:
        ModuleNotFoundError: If it is not installed; the message holds the pip command.
    """
    if not is_installed(package):
        raise ModuleNotFoundError(f"{purpose} needs {package}. Run: {install_command(_EXTRAS[package])}")
    return importlib.import_module(package)


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Args:
        package: The package's ``__name__``.
        homes: The module that each public name is imported from.

    Examples:
        >>> find, _ = lazy_names("polsess", {"Task": "polsess.tasks"})
        >>> find("Task").__module__
        'polsess.tasks'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *homes})

    return find, names
