"""The README's table of models is the registry's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from polsess.models import create_model, list_models
from polsess.overview import list_architectures

pytestmark = pytest.mark.release
README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_lists_every_model_with_its_size() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| ([\d.]+) M \|", README, re.M)
    with torch.device("meta"):
        sizes = {
            name: sum(parameter.numel() for parameter in create_model(name).parameters())
            for name in list_models()
        }
    assert dict(rows) == {name: f"{size / 1e6:.2f}" for name, size in sizes.items()}


def test_the_table_lists_the_arithmetic_of_every_model() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\| ([\d.]+) \|", README, re.M)
    counted = {each.name: each.default.macs_per_second / 1e9 for each in list_architectures()}
    assert {name: float(shown) for name, shown in rows} == pytest.approx(counted, abs=0.01)


def test_the_number_of_architectures_is_right() -> None:
    assert f"{len(list_models())} architectures" in README
