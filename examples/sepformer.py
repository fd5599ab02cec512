"""SepFormer: separate a mixture, and see what each size costs."""

from __future__ import annotations

import torch

from polsess.models import create_model, list_presets


def main() -> None:
    torch.manual_seed(0)
    # The preset "tiny" runs in a moment; "sepformer-wsj02mix" is the published network of 25.7 M parameters.
    model = create_model("sepformer", preset="tiny", num_sources=2).eval()
    mixture = torch.randn(1, 8000)  # a second at 8 kHz: [B, T]
    with torch.no_grad():
        estimates = model(mixture)  # [B, C, T]
    print("estimates:", list(estimates.shape))

    # Published weights: load_model("speechbrain/sepformer-wsj02mix"), or a folder of SpeechBrain's files.
    for preset in list_presets("sepformer"):
        with torch.device("meta"):  # the shapes only
            network = create_model("sepformer", preset=preset)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        print(f"{preset}: {network.output_sources} sources, {network.sample_rate} Hz, {millions:.2f} M")


if __name__ == "__main__":
    main()
