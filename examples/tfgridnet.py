"""TF-GridNet: what both versions cost, and an estimate that follows the level of the mixture."""

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, 8000)
    for version in (1, 2):
        # "tiny" has random weights; polsess.checkpoints.load_model reads ESPnet's experiments.
        model = create_model("tfgridnet", preset="tiny", version=version).eval()
        size = sum(parameter.numel() for parameter in model.parameters())
        with torch.inference_mode():
            estimates, louder = model(mixture), model(10 * mixture)
        ratio = (louder.norm() / estimates.norm()).item()
        print(f"Version {version}: {size} parameters, {list(estimates.shape)}, level ratio {ratio:.3f}.")


if __name__ == "__main__":
    main()
