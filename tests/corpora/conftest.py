"""Sources that corpora are generated of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polsess.data import Split
from tests.corpora.generated import SCENES, sound


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers a split, scenes in stereo at another rate, events of compatible and other labels."""
    folder = tmp_path_factory.mktemp("sources")
    torch.manual_seed(0)
    for split in Split:
        for speaker in range(3):
            for n in range(2):
                sound(folder / f"speech/{split}/{split}{speaker}/{n}.flac", 1.5 + 0.2 * n)
        for scene in SCENES:
            sound(folder / f"scenes/{split}/{scene}/a.flac", 3.0, 0.02, 16000, 2)
        for event in ("Typing", "Cow", "Knock"):
            sound(folder / f"events/{split}/{event}/a.flac", 1.0)
    return folder
