"""TF-GridNet's forward pass against the operations of the reference's structure, on the same weights.

ESPnet keeps channels first: it unfolds windows into memory, runs the LSTM on all rows, adds windows up by a
transposed convolution, and writes norms and attention out. Rounds alternate; CPU seconds of one thread; the
median ratio counts.

    python benchmarks/tfgridnet.py [--seconds 2] [--blocks 1] [--rounds 3] [--preset wsj0_2mix]
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.measurement import measure
from polsess.models import SeparationModel, create_model
from polsess.models.layers.tf_grid import FrameAttention, GridPath, HeadFeatures


class UnfoldedPath(nn.Module):
    """``GridPath`` with channels first and windows in memory."""

    def __init__(self, path: GridPath) -> None:
        super().__init__()
        size, channels = path.window_size, path.norm.normalized_shape[0]
        lstm = path.sequence
        assert isinstance(lstm, nn.LSTM)
        self.norm, self.size, self.stride, self.bias = path.norm, size, path.stride, path.bias
        self.lstm = nn.LSTM(size * channels, lstm.hidden_size, batch_first=True, bidirectional=True)
        state = lstm.state_dict()
        for key in ("weight_ih_l0", "weight_ih_l0_reverse"):
            state[key] = state[key].unflatten(1, (size, channels)).mT.flatten(1)
        self.lstm.load_state_dict(state)
        self.kernel = path.projection.weight.unflatten(0, (size, channels)).permute(2, 1, 0).contiguous()

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, R, S, D]`` to ``[B, R, S, D]``."""
        rows = self.norm(grid).flatten(0, 1).mT  # [N, D, S]
        windows = F.unfold(rows.unsqueeze(-1), (self.size, 1), stride=(self.stride, 1)).mT
        hidden = self.lstm(windows)[0].mT
        steps = F.conv_transpose1d(hidden, self.kernel, self.bias, self.stride)
        return steps.mT.view(grid.shape) + grid


class WrittenOutAttention(nn.Module):
    """``FrameAttention`` with channels first, norms and softmax step by step."""

    def __init__(self, attention: FrameAttention) -> None:
        super().__init__()
        self.parts = attention

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, L, F, D]`` to ``[B, L, F, D]``."""
        image = grid.permute(0, 3, 1, 2)  # [B, D, L, F]
        query, key, value = (
            self._features(part, image) for part in (self.parts.query, self.parts.key, self.parts.value)
        )
        flat_query, flat_key = (each.transpose(2, 3).flatten(3) for each in (query, key))
        weights = (flat_query @ flat_key.mT / flat_query.shape[-1] ** 0.5).softmax(-1)
        attended = weights @ value.transpose(2, 3).flatten(3)  # [B, H, L, E * F]
        attended = attended.unflatten(-1, (-1, grid.shape[2])).transpose(2, 3).flatten(1, 2)
        linear = self.parts.linear
        output = F.conv2d(attended.contiguous(), linear.weight[..., None, None], linear.bias)
        output = F.prelu(output, self.parts.activation.weight)
        norm = self.parts.norm
        mean, variance = output.mean((1, 3), keepdim=True), output.var((1, 3), correction=0, keepdim=True)
        output = (output - mean) / torch.sqrt(variance + norm.eps)
        return (output * norm.weight.mT[:, None] + norm.bias.mT[:, None]).permute(0, 2, 3, 1)

    def _features(self, part: HeadFeatures, image: Tensor) -> Tensor:
        """``[B, D, L, F]`` to ``[B, H, E, L, F]``."""
        features = F.conv2d(image, part.linear.weight[..., None, None], part.linear.bias)
        features = F.prelu(features.unflatten(1, (len(part.slope), -1)), part.slope)
        mean = features.mean((2, 4), keepdim=True)
        variance = features.var((2, 4), correction=0, keepdim=True)
        features = (features - mean) / torch.sqrt(variance + part.eps)
        return features * part.weight.mT[:, :, None] + part.bias.mT[:, :, None]


def as_the_reference(model: SeparationModel) -> SeparationModel:
    """The same model with the reference's operations."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, GridPath):
                setattr(module, name, UnfoldedPath(child))
            elif isinstance(child, FrameAttention) and not isinstance(module, WrittenOutAttention):
                setattr(module, name, WrittenOutAttention(child))
    return model


def cpu_seconds(model: SeparationModel, mixture: Tensor) -> float:
    """CPU seconds of one pass."""
    return measure(lambda: model(mixture), mixture.device).cpu[0]


@torch.inference_mode()
def main() -> None:
    """Compare on the command line's sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="wsj0_2mix")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, int(8000 * options.seconds))
    for version in (1, 2):
        model = create_model(
            "tfgridnet", preset=options.preset, num_blocks=options.blocks, version=version
        ).eval()
        twin = create_model(model.config).eval()
        twin.load_state_dict(model.state_dict())
        slow = as_the_reference(twin)
        expected, found = slow(mixture), model(mixture)
        error = float((found - expected).norm() / expected.norm())
        if not error < 1e-5:
            raise SystemExit(f"version {version}: the outputs differ by {error:.1e}; nothing was timed.")
        ratios = []
        for _ in range(options.rounds):
            times = [cpu_seconds(each, mixture) for each in (model, slow, slow, model)]
            ratios.append((times[1] + times[2]) / (times[0] + times[3]))
        print(f"version {version}: {statistics.median(ratios):.2f}x (error {error:.1e})", flush=True)


if __name__ == "__main__":
    main()
