"""Every architecture can learn: one batch of real speech by heart, to more than 20 dB SI-SNR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import polsess
from polsess.audio import read_audio
from polsess.losses import LossConfig, SeparationLoss, permutation_invariant
from polsess.models import create_model, list_models
from polsess.signal_ratios import si_snr

RECORDINGS = Path(polsess.__file__).parent / "assets" / "recordings"
TARGET_DB = 20.0
SETTINGS: dict[str, dict[str, Any]] = {}
"""Where the tiny preset at a rate of 3e-3 is not the smallest that can: rate and fields of the model."""
FAST = ("convtasnet", "dprnn")


def batch() -> tuple[Tensor, Tensor]:
    """Two mixtures of two speakers, 0.25 s each, ``[2, T]`` and ``[2, 2, T]``."""
    references = []
    for item in ("item0", "item2"):
        speech = torch.stack([read_audio(RECORDINGS / item / f"s{i}.flac")[0][0] for i in (1, 2)])
        loudest = int(speech.abs().amin(0).unfold(0, 2000, 100).mean(1).argmax()) * 100  # both speak
        references.append(speech[:, loudest : loudest + 2000])
    stacked = torch.stack(references)
    return stacked.sum(1), stacked


def learn(name: str, max_steps: int) -> float:
    """Train until the batch is known; returns the SI-SNR in dB."""
    torch.manual_seed(0)
    settings = dict(SETTINGS.get(name, {}))
    rate = settings.pop("learning_rate", 3e-3)
    model = create_model(name, preset="tiny", num_sources=2, **settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loss_function, best = SeparationLoss(LossConfig()), -float("inf")
    mixture, references = batch()
    for _ in range(max_steps):
        estimates, auxiliary = model.forward_with_auxiliary(mixture)
        loss = loss_function(estimates, references, auxiliary)
        best = max(best, float(permutation_invariant(si_snr, estimates.detach(), references)[0].mean()))
        if best > TARGET_DB:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return best


@pytest.mark.parametrize("name", FAST)
def test_a_batch_is_learnt_by_heart(name: str) -> None:
    assert learn(name, 1000) > TARGET_DB


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(set(list_models()) - set(FAST)))
def test_every_architecture_learns_a_batch_by_heart(name: str) -> None:
    assert learn(name, 3000) > TARGET_DB
