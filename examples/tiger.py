"""TIGER: estimates that add up to the mixture, from one block applied several times."""

from __future__ import annotations

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    # "tiny" has random weights; load_model("JusperLee/TIGER-speech") reads the authors' release.
    model = create_model("tiger", preset="tiny").eval()
    mixture = 0.1 * torch.randn(1, 8000)  # half a second at 16 kHz
    with torch.no_grad():
        estimates = model(mixture)  # [B, C, T]
    print(f"largest difference from the mixture: {(estimates.sum(1) - mixture).abs().max():.1e}")

    # More blocks cost time but no parameters.
    for num_blocks in (4, 8):
        with torch.device("meta"):
            network = create_model("tiger", num_blocks=num_blocks)
        print(
            f"{num_blocks} blocks: {sum(parameter.numel() for parameter in network.parameters())} parameters"
        )


if __name__ == "__main__":
    main()
