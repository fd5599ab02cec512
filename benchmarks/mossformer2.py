"""MossFormer2's forward pass against convolutions as the reference writes them, on the same weights.

The published code convolves with channels first, between transpositions, and pairs of channels by a grouped
two-dimensional convolution. Rounds alternate; CPU seconds of one thread; the median ratio counts.

    python benchmarks/mossformer2.py [--seconds 1] [--blocks 24] [--rounds 3] [--reference FOLDER]

``--reference`` is the folder ``MossFormer2_standalone`` of the authors' repository (needs einops and
rotary-embedding-torch); its forward pass is then timed as well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.checkpoints.toolkits.clearervoice import convert_mossformer2
from polsess.measurement import measure
from polsess.models import SeparationModel, create_model
from polsess.models.layers.depthwise import DepthwiseConv

Forward = Callable[[Tensor], Tensor]


class ChannelsFirst(nn.Module):
    """One filter per channel by the library's one-dimensional convolution."""

    def __init__(self, conv: DepthwiseConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, L, C]`` to ``[B, L, C]``."""
        weight, dilation = self.conv.weight, self.conv.dilation
        padding = weight.shape[-1] // 2 * dilation
        image = frames.mT.contiguous().unsqueeze(-1)
        if weight.shape[-1] == 39:  # the memory's filters stand in a two-dimensional convolution
            output = F.conv2d(
                image, weight.unsqueeze(-1), None, 1, (padding, 0), (dilation, 1), groups=len(weight)
            ).squeeze(-1)
        else:
            output = F.conv1d(image.squeeze(-1), weight, None, 1, padding, dilation, len(weight))
        output = output.mT.contiguous()
        return frames + output if self.conv.residual else output


def as_the_reference(model: SeparationModel) -> SeparationModel:
    """The same model with the reference's convolutions."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DepthwiseConv) and not isinstance(module, ChannelsFirst):
                setattr(module, name, ChannelsFirst(child))
    return model


def published(folder: Path, blocks: int) -> nn.Module:
    """The authors' network with fresh weights."""
    sys.path.insert(0, str(folder))
    from model.mossformer2 import Mossformer2Wrapper  # type: ignore[import-not-found]

    sizes = {"encoder_kernel_size": 16, "encoder_out_nchannels": 512, "encoder_in_nchannels": 1}
    masknet = {"masknet_numspks": 2, "masknet_chunksize": 250, "masknet_numlayers": 1, "masknet_norm": "ln"}
    flags = {"masknet_useextralinearlayer": False, "masknet_extraskipconnection": True}
    intra = {"intra_numlayers": blocks, "intra_nhead": 8, "intra_dffn": 1024, "intra_dropout": 0}
    more = {"intra_use_positional": True, "intra_norm_before": True, "sample_rate": 8000}
    name = {"model_type": "mossformer2", "config_name": "mossformer2-librimix-2spk"}
    network: nn.Module = Mossformer2Wrapper({**sizes, **masknet, **flags, **intra, **more, **name})
    return network.eval()


def cpu_seconds(forward: Forward, mixture: Tensor) -> float:
    """CPU seconds of one pass."""
    return measure(lambda: forward(mixture), mixture.device).cpu[0]


def compare(name: str, slow: Forward, fast: Forward, mixture: Tensor, rounds: int) -> None:
    """Check that the two agree, then print the median of the rounds' ratios."""
    expected, found = slow(mixture), fast(mixture)
    error = float((found - expected).norm() / expected.norm())
    if not error < 1e-5:
        raise SystemExit(f"{name}: the outputs differ by {error:.1e}; nothing was timed.")
    ratios = []
    for _ in range(rounds):
        times = [cpu_seconds(each, mixture) for each in (fast, slow, slow, fast)]
        ratios.append((times[1] + times[2]) / (times[0] + times[3]))
        print(f"  {name}: {times[1]:.2f} s and {times[2]:.2f} s, ours {times[0]:.2f} s and {times[3]:.2f} s")
    print(f"{name}: {statistics.median(ratios):.2f}x (error {error:.1e})")


@torch.inference_mode()
def main() -> None:
    """Compare on the command line's sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reference", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, int(8000 * options.seconds))
    model = create_model("mossformer2", num_blocks=options.blocks).eval()
    if options.reference:
        reference = published(options.reference, options.blocks)
        model.load_state_dict(convert_mossformer2({"sample_rate": 8000}, reference.state_dict()).state)
    twin = create_model(model.config).eval()
    twin.load_state_dict(model.state_dict())
    compare("reference's convolutions", as_the_reference(twin), model, mixture, options.rounds)
    if options.reference:
        compare("published code", lambda wave: reference(wave).mT, model, mixture, options.rounds)


if __name__ == "__main__":
    main()
