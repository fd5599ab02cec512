"""DPMamba: bidirectional state-space layers within and across chunks, for two and for three talkers."""

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(2, 4000)
    for num_sources in (2, 3):
        model = create_model("dpmamba", preset="tiny", num_sources=num_sources).eval()
        with torch.inference_mode():
            estimates = model(mixture)
        print(f"{num_sources} talkers: {list(estimates.shape)}")


if __name__ == "__main__":
    main()
