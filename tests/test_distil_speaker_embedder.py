"""The script that teaches a small speaker embedder, with tiny networks and buzzing voices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import write_audio
from polsess.checkpoints import load_model, save_model
from polsess.losses import angular_margin_loss
from polsess.models import SpeakerEmbedder, create_model

RATE = 8000
SCRIPT = Path(__file__).parents[1] / "scripts" / "distil_speaker_embedder.py"


def learn(folder: Path, steps: int, more: str = "", out: str = "out") -> str:
    (folder / "distil.yaml").write_text(
        f"metadata: {folder / 'metadata.csv'}\nmodel: {{model_type: resnet, preset: tiny}}\nsteps: {steps}\n"
        "speeds: [1.0, 1.2]\nbatch_size: 4\ncrop_seconds: [0.3, 0.5]\n" + more
    )
    places = [str(folder / name) for name in ("teacher", "distil.yaml", out)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *places],
        check=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_a_student_is_taught_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    lines, random = ["path,speaker,sex,split"], np.random.default_rng(0)
    for number in range(8):
        sound = random.normal(0, 0.1, RATE).astype(np.float32).cumsum()
        sound /= np.abs(sound).max() * (1 + number)
        write_audio(tmp_path / f"{number}.wav", torch.from_numpy(sound), RATE)
        lines.append(f"{number}.wav,speaker{number // 2},F,train")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    save_model(create_model("tdnn", kind=SpeakerEmbedder, preset="tiny"), tmp_path / "teacher")
    assert "step 2:" in learn(tmp_path, 2)
    first = load_model(tmp_path / "out" / "student", kind=SpeakerEmbedder)
    told = learn(tmp_path, 3)
    assert "step 3:" in told
    assert "step 2:" not in told
    second = load_model(tmp_path / "out" / "student", kind=SpeakerEmbedder)
    changed = [not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert any(changed)
    assert "step 1:" in learn(tmp_path, 1, f"begin: {tmp_path / 'out' / 'last.pt'}\n", "again")


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_ambiguous_classes_are_left_out(margin: float) -> None:
    """As if the class were not there, but for what a cosine of -1 adds."""
    embeddings, weights = torch.randn(5, 4), torch.randn(3, 4)
    labels = torch.tensor([0, 1, 0, 1, 1])
    ambiguous = torch.zeros(3, 3, dtype=torch.bool)
    ambiguous[:, 2] = True

    def loss(weights: Tensor, ambiguous: Tensor | None) -> Tensor:
        return angular_margin_loss(
            embeddings, weights, labels, scale=30.0, margin=margin, ambiguous=ambiguous
        )

    torch.testing.assert_close(loss(weights, ambiguous), loss(weights[:2], None), atol=1e-4, rtol=1e-4)
