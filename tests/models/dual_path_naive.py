"""Parts of dual-path models, computed channels first and by loops over frames and chunks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.masks import ChunkMasks
from polsess.models.layers.norms import NormName


def randomise(model: nn.Module, scale: float = 0.4) -> None:
    """Every parameter away from its neutral value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=scale)


def normalise(features: Tensor, name: NormName | None, norm: nn.Module) -> Tensor:
    """``[C, K, S]`` of one item; cumulative over the last dimension."""
    columns = []
    for chunk in range(features.shape[2]):
        known = {"gLN": features, "cLN": features[:, :, [chunk]], "cgLN": features[:, :, : chunk + 1]}[
            str(name)
        ]
        dimensions = 0 if name == "cLN" else (0, 1, 2)
        mean = known.mean(dimensions, keepdim=True)
        variance = (known - mean).square().mean(dimensions, keepdim=True)
        columns.append((features[:, :, [chunk]] - mean) / (variance + 1e-8).sqrt())
    output = torch.cat(columns, 2)
    weight, bias = (getattr(norm, key).detach()[:, None, None] for key in ("weight", "bias"))
    return output * weight + bias


def chunk_starts(num_frames: int, size: int, hop: int | None, padding: str) -> tuple[list[int], int]:
    """Where chunks begin, counted from the first frame, and how far the last one reaches."""
    half = size // 2
    if padding == "chunk":
        hop = hop or half
        return list(range(-size, num_frames + 1, hop)), num_frames + 2 * size
    gap = size - (half + num_frames % size) % size
    rounds = range(-half, num_frames + gap, size)
    starts = [start for begin in rounds for start in (begin, begin + half)]
    return starts, num_frames + gap + size


def cut(frames: Tensor, starts: list[int], size: int) -> Tensor:
    """``[C, L]`` to ``[C, K, S]``, with zeros outside."""
    chunks = frames.new_zeros(len(frames), size, len(starts))
    for index, start in enumerate(starts):
        for place in range(size):
            if 0 <= start + place < frames.shape[1]:
                chunks[:, place, index] = frames[:, start + place]
    return chunks


def paste(chunks: Tensor, starts: list[int], num_frames: int) -> Tensor:
    """The sum of ``[C, K, S]`` as ``[C, L]``."""
    frames = chunks.new_zeros(len(chunks), num_frames)
    for index, start in enumerate(starts):
        for place in range(chunks.shape[1]):
            if 0 <= start + place < num_frames:
                frames[:, start + place] += chunks[:, place, index]
    return frames


def gated_logits(head: ChunkMasks, chunks: Tensor, starts: list[int], num_frames: int, gain: float) -> Tensor:
    """Logits ``[C, N, L]`` from chunks ``[H, K, S]``; the map to all sources precedes the overlap-add."""
    activated = torch.where(chunks > 0, chunks, chunks * head.activation.weight)
    mapped = torch.einsum("oh,hks->oks", head.to_sources.weight, activated)
    mapped = mapped + head.to_sources.bias[:, None, None]
    width = head.gated_output.in_features
    sources = []
    for part in mapped.split(width):
        frames = gain * paste(part, starts, num_frames)  # [E, L]
        both = F.linear(frames.T, head.gated_output.weight, head.gated_output.bias)
        sources.append(head.to_masks(both[:, :width].tanh() * both[:, width:].sigmoid()).T)
    return torch.stack(sources)
