"""GTCRN: enhance a noisy signal with a causal network of 48 thousand parameters."""

from __future__ import annotations

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    # Random weights; load_model("model_trained_on_vctk.tar") reads the authors' release.
    model = create_model("gtcrn").eval()
    mixture = 0.1 * torch.randn(1, 16000)  # a second at 16 kHz; the level matters
    with torch.no_grad():
        estimate = model(mixture)  # one source: [B, T]
        past = model(mixture.index_fill(1, torch.arange(12000, 16000), 0.0))
    unchanged = int((estimate != past).nonzero()[0, 1])
    print(f"{model.look_ahead_samples} samples ahead: a change at 12000 is noticed from {unchanged} on")


if __name__ == "__main__":
    main()
