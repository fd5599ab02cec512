"""DPRNN: networks that look one chunk ahead, and what the choice of norm and direction means for it."""

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, 8000)
    directions = {"inter_bidirectional": False}
    choices = [
        {},
        {**directions, "norm": "cgLN"},
        {**directions, "norm": "cLN", "intra_bidirectional": False},
    ]
    for choice in choices:
        # "tiny" has random weights; polsess.checkpoints.load_model reads Asteroid's and SpeechBrain's.
        model = create_model("dprnn", preset="tiny", **choice).eval()
        with torch.inference_mode():
            estimates = model(mixture)
        ahead = model.look_ahead_samples
        reach = "the whole mixture" if ahead is None else f"{1000 * ahead / model.sample_rate:.2f} ms ahead"
        print(f"{choice or 'default'}: {list(estimates.shape)}, looks at {reach}.")


if __name__ == "__main__":
    main()
