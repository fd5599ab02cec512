"""SepReformer: train with the estimates of every frame rate, separate with the last one only."""

import torch

from polsess.models import create_model
from polsess.signal_ratios import si_snr


def main() -> None:
    torch.manual_seed(0)
    model = create_model("sepreformer", preset="tiny")
    sources = 0.1 * torch.randn(2, 2, 4000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(3):
        estimates, auxiliary = model.forward_with_auxiliary(sources.sum(1))
        losses = [-si_snr(each, sources).mean() for each in (estimates, *auxiliary)]
        loss = 0.6 * losses[0] + 0.4 * torch.stack(losses[1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.2f} with {len(auxiliary)} auxiliary estimates")
    with torch.inference_mode():
        print("estimates:", list(model.eval()(sources.sum(1)).shape))


if __name__ == "__main__":
    main()
