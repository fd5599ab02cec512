"""RE-SepFormer: a tenth of SepFormer's work, and a variant that looks ahead by one segment only."""

from __future__ import annotations

import torch

from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    # The preset "tiny" runs in a moment; "resepformer-wsj02mix" is the published network of 8 M parameters.
    model = create_model("resepformer", preset="tiny", num_sources=2).eval()
    batch = torch.randn(3, 8000)  # three mixtures of a second at 8 kHz: [B, T]
    with torch.no_grad():
        together = model(batch)  # [B, C, T]
        alone = model(batch[:1])
    print("estimates:", list(together.shape))
    print("other items change an estimate by", float((together[:1] - alone).abs().max()))

    causal = create_model("resepformer", preset="tiny", causal_attention=True, norm="cLN")
    print("causal:", causal.causal, "- look-ahead in samples:", causal.look_ahead_samples)


if __name__ == "__main__":
    main()
