"""TF-Locoformer: the published sizes, and a mixture separated by the smallest."""

import torch

from polsess.models import create_model, list_presets


def main() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):  # sizes without memory
        for preset in list_presets("tflocoformer"):
            model = create_model("tflocoformer", preset=preset)
            print(f"{preset}: {sum(parameter.numel() for parameter in model.parameters())} parameters")
    # "tiny" has random weights; polsess.checkpoints.load_model reads the published ones.
    tiny = create_model("tflocoformer", preset="tiny", num_sources=3).eval()
    with torch.inference_mode():
        print(f"Estimates: {list(tiny(0.1 * torch.randn(2, 8000)).shape)}")


if __name__ == "__main__":
    main()
