"""Every architecture through the one interface: its size, how far it looks ahead, what it makes of a mixture.

The presets "tiny" have random weights; polsess.checkpoints.load_model reads published ones.
"""

import torch

from polsess.models import create_model, list_models


def main() -> None:
    torch.manual_seed(0)
    for name in list_models():
        model = create_model(name, preset="tiny").eval()
        mixture = 0.1 * torch.randn(1, model.sample_rate // 2)  # [B, T]
        with torch.inference_mode():
            estimates = model(mixture)  # [B, C, T], or [B, T] for one source
        ahead = model.look_ahead_samples
        reach = "the whole mixture" if ahead is None else f"{1000 * ahead / model.sample_rate:.1f} ms ahead"
        size = sum(parameter.numel() for parameter in model.parameters())
        shape = list(estimates.shape)
        print(f"{name}: {size} parameters, looks at {reach}, {list(mixture.shape)} -> {shape}.")


if __name__ == "__main__":
    main()
