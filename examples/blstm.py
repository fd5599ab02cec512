"""BLSTM: overfit one mixture with the permutation-invariant loss, as training does."""

import torch

from polsess.losses import LossConfig, SeparationLoss
from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    model = create_model("blstm", preset="tiny")
    loss_function = SeparationLoss(LossConfig(name="si_snr"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    time = torch.arange(8000) / 8000
    references = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (300, 1100)])[None]  # [B, C, T]
    mixture = references.sum(1)  # [B, T]
    for _ in range(60):
        loss = loss_function(model(mixture), references)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"SI-SNR after 60 steps: {-loss.item():.1f} dB")


if __name__ == "__main__":
    main()
