"""LSTM-TasNet: the causal network gives the same past, whatever the future is."""

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, 8000)
    other = mixture.clone()
    other[:, 4000:] = 0.0
    for bidirectional in (True, False):
        # "tiny" has random weights; polsess.checkpoints.load_model reads Asteroid's.
        model = create_model("lstmtasnet", preset="tiny", bidirectional=bidirectional).eval()
        with torch.inference_mode():
            difference = (model(mixture) - model(other))[..., :3900].abs().max().item()
        print(f"Bidirectional {bidirectional}: the past changed by {difference:.1e}.")


if __name__ == "__main__":
    main()
