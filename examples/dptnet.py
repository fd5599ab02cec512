"""DPTNet: any number of sources from one architecture, and masks that sum to one."""

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, 8000)
    for num_sources in (1, 2, 3):
        # "tiny" has random weights; polsess.checkpoints.load_model reads Asteroid's.
        model = create_model(
            "dptnet", preset="tiny", num_sources=num_sources, mask_activation="softmax"
        ).eval()
        size = sum(parameter.numel() for parameter in model.parameters())
        with torch.inference_mode():
            estimates = model(mixture).view(num_sources, -1)
        print(f"{num_sources} sources: {size} parameters, {list(estimates.shape)}.")


if __name__ == "__main__":
    main()
