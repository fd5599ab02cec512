"""Mamba-TasNet: the selective scan under it, carried over a cut in the sequence by its state."""

import torch

from polsess.models import create_model
from polsess.models.layers.selective_scan import selective_scan_with_state


def main() -> None:
    torch.manual_seed(0)
    model = create_model("mambatasnet", preset="tiny").eval()  # "xs", "s", "m" and "l" are the paper's
    with torch.inference_mode():
        estimates = model(0.1 * torch.randn(1, 4000))
    print(f"Estimates: {list(estimates.shape)} from {sum(p.numel() for p in model.parameters())} parameters.")

    u, delta = torch.randn(1, 60, 8), torch.rand(1, 60, 8)
    b, c, rates = torch.randn(1, 60, 4), torch.randn(1, 60, 4), -torch.rand(8, 4)
    whole, _ = selective_scan_with_state(u, delta, rates, b, c)
    first, state = selective_scan_with_state(u[:, :25], delta[:, :25], rates, b[:, :25], c[:, :25])
    second, _ = selective_scan_with_state(
        u[:, 25:], delta[:, 25:], rates, b[:, 25:], c[:, 25:], initial_state=state
    )
    difference = (torch.cat([first, second], dim=1) - whole).abs().max()
    print(f"Two halves differ from the whole by {difference:.1e}.")


if __name__ == "__main__":
    main()
