"""A corpus of four tones per split, and a configuration that learns it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.audio import write_audio


@pytest.fixture
def experiment(tmp_path: Path) -> dict[str, Any]:
    """Plain data of a tiny experiment, ready for ``parse_config``."""
    lines = ["path,speaker,sex,split"]
    time = torch.arange(8000) / 8000
    for split in ("train", "val", "test"):
        for speaker in range(4):
            tone = 0.3 * torch.sin(2 * torch.pi * (300 + 500 * speaker) * time)
            write_audio(tmp_path / f"{split}{speaker}.wav", tone, 8000)
            lines.append(f"{split}{speaker}.wav,{split}{speaker},F,{split}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    corpus = {
        "corpus_type": "speech_clips",
        "metadata": str(tmp_path / "metadata.csv"),
        "segment_seconds": 0.5,
        "examples_per_epoch": 16,
        "evaluation_examples": 4,
    }
    return {
        "model": {"model_type": "blstm", "preset": "tiny"},
        "data": {"corpus": corpus, "batch_size": 4},
        "training": {"max_epochs": 2, "optimizer": {"learning_rate": 0.01}},
    }
