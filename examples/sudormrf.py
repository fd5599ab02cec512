"""SuDoRM-RF: both generations, and what a second of audio costs them."""

import time

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, 8000)
    for variant in ("original", "improved"):
        # Fewer blocks than published, random weights; polsess.checkpoints.load_model reads Asteroid's.
        model = create_model("sudormrf", variant=variant, num_blocks=2).eval()
        size = sum(parameter.numel() for parameter in model.parameters())
        with torch.inference_mode():
            model(mixture)
            begin = time.perf_counter()
            estimates = model(mixture)
            seconds = time.perf_counter() - begin
        print(f"{variant}: {size} parameters, {list(estimates.shape)} in {1000 * seconds:.0f} ms.")


if __name__ == "__main__":
    main()
