"""MossFormer2: separate recordings of different lengths in one batch, each as if it were alone."""

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    # "tiny" has random weights; polsess.checkpoints.load_model reads the published ones in all layouts.
    model = create_model("mossformer2", preset="tiny").eval()
    lengths = torch.tensor([6000, 8000])
    batch = 0.1 * torch.randn(2, 8000)
    batch[0, 6000:] = 0.0  # padding
    with torch.inference_mode():
        together = model(batch, lengths)
        alone = model(batch[:1, :6000])
    difference = (together[0, :, :6000] - alone[0]).abs().max()
    print(f"Estimates: {list(together.shape)}; the shorter one differs by {difference:.1e} from being alone.")


if __name__ == "__main__":
    main()
