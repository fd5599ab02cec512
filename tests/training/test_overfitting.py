"""Every architecture can learn: one batch of real speech by heart, to more than 20 dB SI-SNR."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.audio import read_audio
from polsess.data.mini import MIXTURES
from polsess.losses import LossConfig, SeparationLoss, permutation_invariant
from polsess.models import create_model, list_models
from polsess.signal_ratios import si_snr

TARGET_DB = {"blstm": 9.0}
"""Less than 20 dB for masks that keep the mixture's phase: ideal ones give 7.9 dB on this STFT."""
SETTINGS: dict[str, dict[str, Any]] = {
    "blstm": {"hidden_size": 64},
    "convtasnet": {"num_filters": 64, "bottleneck_channels": 32, "hidden_channels": 64, "skip_channels": 32},
    "dpmamba": {"num_filters": 64, "d_model": 32},
    "dprnn": {"num_filters": 64, "bottleneck_channels": 32, "hidden_size": 32},
    "dptnet": {"num_filters": 32, "hidden_size": 32},
    "gtcrn": {"num_sources": 1},
    "lstmtasnet": {"num_filters": 64, "hidden_size": 64},
    "mambatasnet": {"num_filters": 64},
    "mossformer2": {"num_filters": 64},
    "resepformer": {"num_filters": 64, "d_ffn": 64},
    "sepformer": {"num_filters": 64, "d_model": 32},
    "sepreformer": {"num_filters": 64, "num_features": 32},
    "skim": {"num_filters": 64, "hidden_size": 64},
    "spmamba": {"num_channels": 16},
    "srcorrnet": {"num_channels": 32, "hidden_size": 64},
    "sudormrf": {"num_filters": 64, "bottleneck_channels": 32, "block_channels": 64},
}
"""Fields beyond the tiny preset, whose few thousand weights do not hold a quarter of a second."""
FAST = ("convtasnet", "lstmtasnet", "mambatasnet", "sepformer")


def batch() -> tuple[Tensor, Tensor]:
    """A mixture of two speakers where both speak, 0.25 s, ``[1, T]`` and ``[1, 2, T]``."""
    speech = torch.stack([read_audio(MIXTURES / "8k" / "different_sex" / f"s{i}.flac")[0][0] for i in (1, 2)])
    start = int(speech.abs().amin(0).unfold(0, 2000, 100).mean(1).argmax()) * 100
    references = speech[:, start : start + 2000].unsqueeze(0)
    return references.sum(1), references


def target(name: str) -> float:
    return TARGET_DB.get(name, 20.0)


def learn(name: str) -> float:
    """Train until the batch is known; returns the SI-SNR in dB."""
    torch.manual_seed(0)
    settings = {"num_sources": 2, **SETTINGS.get(name, {})}
    model = create_model(name, preset="tiny", **settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_function, best = SeparationLoss(LossConfig()), -float("inf")
    mixture, references = batch()
    references = references[:, : model.output_sources]
    for _ in range(1500):
        estimates, auxiliary = model.forward_with_auxiliary(mixture)
        loss = loss_function(estimates, references, auxiliary)
        best = max(best, float(permutation_invariant(si_snr, estimates.detach(), references)[0].mean()))
        if best > target(name):
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return best


@pytest.mark.parametrize("name", FAST)
def test_a_batch_is_learnt_by_heart(name: str) -> None:
    assert learn(name) > target(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(list_models()) - set(FAST)))
def test_every_architecture_learns_a_batch_by_heart(name: str) -> None:
    assert learn(name) > target(name)
