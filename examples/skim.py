"""SkiM: the causal variant never looks further than the rest of one frame."""

from __future__ import annotations

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    # The preset "tiny" runs in a moment; "skim-wsj02mix" and "skim-causal" are full-sized.
    model = create_model("skim", preset="tiny", bidirectional=False, norm="cLN").eval()
    print("causal:", model.causal, "- look-ahead in samples:", model.look_ahead_samples)

    mixture = torch.randn(1, 8000)  # a second at 8 kHz: [B, T]
    other_future = mixture.clone()
    other_future[:, 4000:] = torch.randn(1, 4000)
    with torch.no_grad():
        difference = (model(mixture) - model(other_future)).abs().amax(dim=(0, 1))  # [T]
    print(
        "another future from sample 4000 on changes the estimates from sample", int(difference.nonzero()[0])
    )


if __name__ == "__main__":
    main()
