"""One thread, a fixed seed, no network: what every test runs under."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from polsess.models import SeparationModel, create_model

GOLDEN = Path(__file__).parent / "golden"
DATA = Path(__file__).parent / "data"
_SHARED = Path(os.environ.get("POLSESS_SHARED") or Path(__file__).parents[2] / "shared")
"""Recordings that the repository may not carry: a folder of the developers, perhaps beside the repository."""

torch.set_num_threads(1)


def shared(name: str) -> Path:
    """A folder of the shared recordings; a test of it is skipped where they are missing."""
    folder = _SHARED / name
    if not folder.exists():
        pytest.skip(f"no {folder}: set POLSESS_SHARED to the folder of shared recordings")
    return folder


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def counting() -> SeparationModel:
    """A network of up to three speakers that hears nobody."""
    model = create_model("srcorrnet", preset="tiny", num_sources=3, variable_sources=True).eval()
    presence = model.get_submodule("split.presence")
    with torch.no_grad():
        presence.weight.zero_()  # type: ignore[operator]
        presence.bias.fill_(-1.0)  # type: ignore[operator]
    return model
