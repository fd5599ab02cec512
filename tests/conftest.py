"""One thread, a fixed seed, no network: what every test runs under."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"
DATA = Path(__file__).parent / "data"

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
