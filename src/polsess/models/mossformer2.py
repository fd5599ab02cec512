"""MossFormer2: gated single-head attention and a dilated memory network in turn, over the whole utterance.

Zhao et al. (2024), "MossFormer2: combining transformer and RNN-free recurrent network for enhanced
time-domain monaural speech separation", https://arxiv.org/abs/2312.11825; the attention is FLASH, Hua et al.
(2022), "Transformer quality in linear time", https://arxiv.org/abs/2202.10447.

Shapes: B batch, C sources, T samples, N filters, L frames, E expanded features, D query features,
P frames of a group, G groups, M memory features.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.depthwise import DepthwiseConv
from polsess.models.layers.filterbank import synthesise
from polsess.models.layers.filterbank_model import FilterbankConfig, FilterbankModel
from polsess.models.layers.norms import without_decay
from polsess.models.layers.padding import Padding, TimeNorm, UtteranceNorm, cleared
from polsess.models.layers.positions import RotaryRates, inverse_frequencies, rotate
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.products import Linear, matmul
from polsess.models.layers.stft import at_least_float32, without_autocast
from polsess.models.registry import register_model


class MossFormer2Config(FilterbankConfig):
    """Gated attention and memory blocks; the defaults are the published sizes."""

    model_type: Literal["mossformer2"] = "mossformer2"
    num_filters: int = Field(default=512, ge=2, multiple_of=2)
    """N, features of a frame."""
    kernel_size: int = Field(default=16, ge=2, multiple_of=2)
    """Samples of an encoder filter; frames are half of it apart."""
    num_blocks: int = Field(default=24, ge=1)
    """R, pairs of an attention and a memory block."""
    group_size: int = Field(default=256, ge=1)
    """P, frames that attend to each other quadratically."""
    query_key_dim: int = Field(default=128, ge=2)
    """D, features of a query and a key."""
    rotary_dim: int = Field(default=32, ge=2, multiple_of=2)
    """Number of query and key features that carry the position."""
    expansion_factor: int = Field(default=4, ge=2, multiple_of=2)
    """E / N; half of the expanded features are values, half are gates."""
    attention_kernel_size: int = Field(default=17, ge=1)
    """Taps of the convolution behind each projection, odd."""
    attention_norm: Literal["scale", "layer"] = "scale"
    """Norm before each projection of the attention block: one scale for all features, or one each."""
    shift_tokens: bool = True
    """Whether the attention sees half of the features one frame late."""
    memory_dim: int = Field(default=256, ge=2, multiple_of=2)
    """M, features of the memory block."""
    memory_order: int = Field(default=20, ge=1)
    """Taps to either side of the memory's filters, the present among them: 2 * order - 1 taps."""
    output_mode: Literal["mask", "map"] = "mask"
    """Whether the network's output multiplies the encoded mixture or replaces it."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of projected features and attention weights dropped in training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.attention_kernel_size % 2 == 0:
            raise ValueError(f"attention_kernel_size must be odd, got {self.attention_kernel_size}")
        if self.rotary_dim > self.query_key_dim:
            raise ValueError(
                f"rotary_dim must not exceed query_key_dim {self.query_key_dim}, got {self.rotary_dim}"
            )
        return self


@register_model("mossformer2", MossFormer2Config)
class MossFormer2(FilterbankModel):
    """A learned filterbank whose frames pass attention and memory blocks."""

    config: MossFormer2Config
    presets = {
        "tiny": {
            "num_filters": 16,
            "num_blocks": 2,
            "group_size": 16,
            "query_key_dim": 12,
            "rotary_dim": 8,
            "attention_kernel_size": 5,
            "memory_dim": 12,
            "memory_order": 4,
            "dropout": 0.0,
        },
        "librimix-2spk": {},
        "wsj0mix-3spk": {"num_sources": 3},
        "whamr-2spk": {"output_mode": "map"},
        "ss-16k": {"sample_rate": 16000},
    }
    amp_dtype = torch.bfloat16
    inference_dtype = torch.bfloat16

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__(config)
        filters = config.num_filters
        self.encoder = nn.Conv1d(1, filters, config.kernel_size, self.hop_length, bias=False)
        self.norm_in = UtteranceNorm(filters)
        self.project_in = Linear(filters, filters, bias=False)
        self.positions = SinusoidalPositions(filters)
        self.rotation = RotaryRates(config.rotary_dim)
        self.blocks = nn.ModuleList(MossFormer2Block(config) for _ in range(config.num_blocks))
        self.norm_frames = nn.LayerNorm(filters, eps=1e-6)
        self.norm_out = UtteranceNorm(filters)
        self.split = nn.Sequential(PReLU(), Linear(filters, config.num_sources * filters))
        self.content = Linear(filters, filters)
        self.gate = Linear(filters, filters)
        self.project_out = Linear(filters, filters, bias=False)
        self.decoder = nn.ConvTranspose1d(filters, 1, config.kernel_size, self.hop_length, bias=False)

    @property
    def minimum_samples(self) -> int:
        """Two frames: the memory's statistics over time need them."""
        return self.config.kernel_size + self.hop_length

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        return self._separate(mixture, None)

    def estimate_padded(self, mixture: Tensor, lengths: Tensor) -> Tensor:
        """As in the base class, in one pass: statistics and attention leave the padding out."""
        kept = torch.arange(mixture.shape[-1], device=mixture.device) < lengths.to(mixture.device)[:, None]
        padded = self._pad_length(mixture.masked_fill(~kept, 0.0))  # the shortest items reach into it
        samples = lengths.to(padded.device).clamp(min=self.minimum_samples)
        num_frames = (samples - self.config.kernel_size) // self.hop_length + 1
        longest = (padded.shape[-1] - self.config.kernel_size) // self.hop_length + 1
        estimates = self._separate(padded, Padding.of(num_frames, longest, padded.dtype))
        return self._fit_length(estimates, mixture.shape[-1]) * kept[:, None]

    def _separate(self, mixture: Tensor, padding: Padding | None) -> Tensor:
        """``[B, T]`` to ``[B, C, T']``."""
        with without_autocast(mixture):  # these ends, and queries and keys below, are what precision is for
            encoded = self.encoder(mixture.unsqueeze(1)).relu().mT.contiguous()  # [B, L, N]
            start = self.project_in(self.norm_in(encoded, padding))
        rotation = self.rotation(encoded.shape[1], encoded)
        start = start + self.positions(start.shape[1])
        frames = start
        for block in self.blocks:
            frames = block(frames, rotation, padding)
        frames = start + self.norm_out(self.norm_frames(frames), padding)
        with without_autocast(frames):
            sources = self._output(at_least_float32(frames), encoded)  # [B, L, C, N]
        if padding is not None:
            sources = sources * padding.mask[..., None]
        features = sources.transpose(1, 2).flatten(0, 1).mT  # [B*C, N, L]
        return synthesise(features, self.decoder).view(mixture.shape[0], self.output_sources, -1)

    def _output(self, frames: Tensor, encoded: Tensor) -> Tensor:
        """The sources' features ``[B, L, C, N]`` from the last block's ``[B, L, N]``."""
        sources = self.split(frames).unflatten(-1, (self.output_sources, -1))
        gated = self.content(sources).tanh() * self.gate(sources).sigmoid()
        output = self.project_out(gated).relu()
        return output if self.config.output_mode == "map" else output * encoded.unsqueeze(2)


class MossFormer2Block(nn.Module):
    """An attention block and a memory block, each with its residual."""

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__()
        self.attention = GatedAttention(config)
        self.memory = GatedMemory(config)

    def forward(self, frames: Tensor, rotation: tuple[Tensor, Tensor], padding: Padding | None) -> Tensor:
        """``[B, L, N]`` to ``[B, L, N]``; ``rotation`` as from ``RotaryRates``."""
        frames = self.attention(frames, rotation, padding)
        output: Tensor = self.memory(frames, padding)
        return output


class GatedAttention(nn.Module):
    """FLASH: one head, quadratic within groups plus linear over the utterance, its values gated twice."""

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__()
        filters, expanded = config.num_filters, config.expansion_factor * config.num_filters
        self.group_size = config.group_size
        self.shift_tokens = config.shift_tokens
        self.dropout = nn.Dropout(config.dropout)

        def project(num_inputs: int, num_outputs: int) -> ConvolvedProjection:
            norm = ScaleNorm() if config.attention_norm == "scale" else nn.LayerNorm(num_inputs)
            return ConvolvedProjection(
                norm, num_inputs, num_outputs, config.attention_kernel_size, config.dropout
            )

        self.to_hidden = project(filters, expanded)
        self.to_query_key = project(filters, config.query_key_dim)
        self.to_output = project(expanded // 2, filters)
        # Of the quadratic query, linear query, quadratic key and linear key, all from one projection.
        self.scale = without_decay(nn.Parameter(torch.empty(4, config.query_key_dim).normal_(std=0.02)))
        self.offset = without_decay(nn.Parameter(torch.zeros(4, config.query_key_dim)))

    def forward(self, frames: Tensor, rotation: tuple[Tensor, Tensor], padding: Padding | None) -> Tensor:
        """``[B, L, N]`` to ``[B, L, N]``, the residual included."""
        half = frames.shape[-1] // 2
        shifted = frames
        if self.shift_tokens:
            late = F.pad(frames[:, :-1, :half], (0, 0, 1, 0))
            shifted = torch.cat([late, frames[..., half:]], dim=-1)
        hidden = cleared(self.to_hidden(shifted, padding), padding)  # [B, L, E]
        with without_autocast(shifted):
            query_key = self.to_query_key(at_least_float32(shifted), padding)
        attended = self._attend(query_key, hidden, rotation, padding)
        value, gate = hidden.chunk(2, dim=-1)
        attended_value, attended_gate = attended.chunk(2, dim=-1)
        gated = attended_gate * value * (attended_value * gate).sigmoid()
        output: Tensor = self.to_output(gated, padding)
        return frames + output

    def _attend(
        self,
        query_key: Tensor,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        padding: Padding | None,
    ) -> Tensor:
        """Values and gates ``[B, L, E]`` by queries and keys ``[B, L, D]``."""
        length = hidden.shape[1]
        heads = torch.addcmul(self.offset, query_key.unsqueeze(2), self.scale)  # [B, L, 4, D]
        heads = rotate(heads, *(table.unsqueeze(1).to(heads.dtype) for table in rotation))
        query, linear_query, key, linear_key = heads.unbind(2)
        num_frames = length if padding is None else padding.num_frames.to(hidden.dtype)
        attended = matmul(linear_query, matmul(linear_key.mT, hidden) / num_frames)
        grouped = (
            F.pad(each, (0, 0, 0, -length % self.group_size)).unflatten(1, (-1, self.group_size))
            for each in (query, key, hidden)
        )
        query, key, values = (each.flatten(0, 1) for each in grouped)  # [B*G, P, D] or [B*G, P, E]
        weights = (matmul(query, key.mT) / self.group_size).relu().square()
        within = matmul(self.dropout(weights), values).view(hidden.shape[0], -1, hidden.shape[-1])
        return attended + within[:, :length]


class GatedMemory(nn.Module):
    """A feed-forward sequential memory network, gated, within a bottleneck.

    Zhang et al. (2015), "Feedforward sequential memory networks", https://arxiv.org/abs/1512.08301.
    """

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__()
        filters, memory = config.num_filters, config.memory_dim

        def project() -> ConvolvedProjection:
            norm = nn.LayerNorm(memory)
            return ConvolvedProjection(norm, memory, memory, config.attention_kernel_size, config.dropout)

        self.squeeze = nn.Sequential(Linear(filters, memory), PReLU(), nn.LayerNorm(memory))
        self.to_memory = project()
        self.to_gate = project()
        self.memory = DilatedMemory(memory, 2 * config.memory_order - 1)
        self.expand = nn.Sequential(nn.LayerNorm(memory), Linear(memory, filters))

    def forward(self, frames: Tensor, padding: Padding | None) -> Tensor:
        """``[B, L, N]`` to ``[B, L, N]``, the residual included."""
        squeezed = self.squeeze(frames)  # [B, L, M]
        memory = self.memory(self.to_memory(squeezed, padding), padding)
        output: Tensor = self.expand(torch.addcmul(squeezed, self.to_gate(squeezed, padding), memory))
        return frames + output


class DilatedMemory(nn.Module):
    """Two long filters per feature, the second dilated and densely connected, plus the input."""

    def __init__(self, num_features: int, kernel_size: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            Linear(num_features, num_features),
            nn.ReLU(),
            Linear(num_features, num_features, bias=False),
        )
        self.conv = DepthwiseConv(num_features, kernel_size)
        self.norm = TimeNorm(num_features)
        self.activation = PReLU(num_features)
        # Each output reads two neighbours of the first filters' outputs and their inputs, in this order.
        self.pair_conv = DepthwiseConv(2 * num_features, kernel_size, dilation=2)
        self.pair_norm = TimeNorm(num_features)
        self.pair_activation = PReLU(num_features)

    def forward(self, frames: Tensor, padding: Padding | None) -> Tensor:
        """``[B, L, M]`` to ``[B, L, M]``."""
        projected = cleared(self.project(frames), padding)
        first = self.norm(self.conv(projected), padding)
        first = cleared(self.activation(first.mT).mT, padding)
        pairs = self.pair_conv(torch.cat([first, projected], dim=-1))  # [B, L, 2*M]
        second = self.pair_norm(pairs[..., ::2] + pairs[..., 1::2], padding)
        activated: Tensor = self.pair_activation(second.mT).mT
        return frames + activated


class ConvolvedProjection(nn.Module):
    """Normalisation, projection and SiLU, then a short convolution over time with a residual.

    Args:
        norm: Maps ``[B, L, inputs]`` to the same shape.
        num_inputs: Features in.
        num_outputs: Features out.
        kernel_size: Taps of the convolution.
        dropout: Share of outputs dropped in training.
    """

    def __init__(
        self, norm: nn.Module, num_inputs: int, num_outputs: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm = norm
        self.linear = Linear(num_inputs, num_outputs)
        self.conv = DepthwiseConv(num_outputs, kernel_size, residual=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, padding: Padding | None) -> Tensor:
        """``[B, L, inputs]`` to ``[B, L, outputs]``."""
        projected = cleared(F.silu(self.linear(self.norm(frames))), padding)
        output: Tensor = self.dropout(self.conv(projected))
        return output


class ScaleNorm(nn.Module):
    """Each frame by its root mean square, times one learnt number.

    Nguyen and Salazar (2019), "Transformers without tears", https://arxiv.org/abs/1910.05895.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, L, N]`` to ``[B, L, N]``."""
        level = frames.norm(dim=-1, keepdim=True) * frames.shape[-1] ** -0.5
        return frames * (self.scale / level.clamp_min(1e-5))


class SinusoidalPositions(nn.Module):
    """Sines, then cosines, of the frame's number, times one learnt scale.

    Args:
        num_features: N, even.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, num_frames: int) -> Tensor:
        """``[L, N]``."""
        dtype = torch.promote_types(self.scale.dtype, torch.float32)
        positions = torch.arange(num_frames, device=self.scale.device, dtype=dtype)
        angles = positions[:, None] * inverse_frequencies(self.num_features, self.scale.device)
        return torch.cat([angles.sin(), angles.cos()], dim=-1) * self.scale
