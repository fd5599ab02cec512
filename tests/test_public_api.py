from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import polsess

PUBLIC = [
    "Config",
    "Separation",
    "SeparationModel",
    "Separator",
    "StreamingSeparator",
    "Task",
    "__version__",
    "create_model",
    "list_models",
    "list_presets",
    "load_config",
    "load_model",
    "register_model",
    "save_model",
]


def test_the_public_names_are_these() -> None:
    assert sorted(polsess.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(polsess))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(polsess, name) is not None


def test_other_names_do_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        polsess.nothing  # noqa: B018


def test_the_version_is_the_distribution_s() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert polsess.__version__ == project["version"]


def test_importing_does_not_load_torch() -> None:
    check = "import polsess, sys; sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
