"""ConvTasNet: build one, separate a mixture, save the weights and load them again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from polsess.checkpoints import load_model, save_model
from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    # The preset "tiny" runs in a moment; without it this is the paper's network of 5.05 M parameters.
    model = create_model("convtasnet", preset="tiny", num_sources=2).eval()
    mixture = torch.randn(1, 8000)  # a second at 8 kHz: [B, T]
    with torch.no_grad():
        estimates = model(mixture)  # [B, C, T]
    print("estimates:", list(estimates.shape))

    with tempfile.TemporaryDirectory() as folder:
        saved = save_model(model, Path(folder) / "model", task="SB")
        again = load_model(saved)  # load_model("JorisCos/ConvTasNet_Libri2Mix_sepclean_8k") takes the hub's
        with torch.no_grad():
            assert torch.equal(again(mixture), estimates)

    # Causal: filters and norms see the past only, estimates wait for the rest of one frame.
    causal = create_model("convtasnet", preset="tiny", causal=True, norm="cgLN")
    print("look-ahead in samples:", causal.look_ahead_samples)


if __name__ == "__main__":
    main()
