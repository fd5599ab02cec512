"""TF-MossFormer: separate a mixture, and see what each size costs."""

from __future__ import annotations

import torch

from polsess.models import create_model, list_presets


def main() -> None:
    torch.manual_seed(0)
    # "tiny" has random weights; load_model reads checkpoints and bundles of the original polsess.
    model = create_model("tfmossformer", preset="tiny").eval()
    mixture = 0.1 * torch.randn(1, 8000)  # a second at 8 kHz
    with torch.no_grad():
        estimates = model(mixture)  # [B, C, T]
    print("estimates:", list(estimates.shape))

    for preset in list_presets("tfmossformer"):
        with torch.device("meta"):  # the shapes only
            network = create_model("tfmossformer", preset=preset)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        print(f"{preset}: {network.sample_rate} Hz, {millions:.2f} M")


if __name__ == "__main__":
    main()
