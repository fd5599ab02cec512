"""SPMamba: a step of training at the precision that suits it, then separation."""

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    # "tiny" has random weights; "libri2mix" is the published size; polsess.checkpoints.load_model reads the
    # authors' releases. recompute_blocks trades time for a fraction of the memory of training.
    model = create_model("spmamba", preset="tiny", recompute_blocks=True)
    mixture, references = 0.1 * torch.randn(1, 4000), 0.1 * torch.randn(1, 2, 4000)
    with torch.autocast("cpu", dtype=model.amp_dtype):
        loss = (model(mixture) - references).square().mean()
    loss.backward()
    model.eval()
    with torch.inference_mode():
        estimates = model(mixture)
    print(f"Loss {loss:.4f}; estimates {list(estimates.shape)} at {model.sample_rate} Hz.")


if __name__ == "__main__":
    main()
