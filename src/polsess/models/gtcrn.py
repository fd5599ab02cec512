"""GTCRN: an enhancer of 24 thousand trained parameters without look-ahead to later frames.

Rong, Sun, Zhang, Hu, Zhu, Lu (2024), "GTCRN: A speech enhancement model requiring ultralow computational
resources", https://doi.org/10.1109/ICASSP48485.2024.10448310. A complex mask on the spectrum, from grouped
convolutions and recurrent networks over bands of equivalent rectangular bandwidth (ERB). The level of the
mixture matters: train and use it at the same levels.

Shapes: B batch, C sources, T samples, L frames, F frequency bins, E bands, D channels of the grid.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.base import ModelConfig
from polsess.models.layers.norms import without_decay
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.recurrent import GRU
from polsess.models.layers.stft import STFT, all_frames, at_least_float32
from polsess.models.layers.stream import Stream, StreamState, run_recurrent, with_past
from polsess.models.registry import register_model
from polsess.models.streaming import StreamingModel

_N_FFT, _HOP = 512, 256
_LOW_BINS, _HIGH_BANDS = 65, 64  # the lowest bins stay, the others are bands
_CHANNELS = 16
_GRID_BANDS = 33  # E after the encoder
_DILATIONS = (1, 2, 5)


class GTCRNConfig(ModelConfig):
    """GTCRN has one size, 48 thousand parameters with its fixed bands."""

    model_type: Literal["gtcrn"] = "gtcrn"
    num_sources: int = Field(default=1, ge=1)
    sample_rate: int = Field(default=16000, ge=1)


@register_model("gtcrn", GTCRNConfig)
class GTCRN(StreamingModel):
    """Encoder, two dual-path recurrent blocks, decoder with skips, one complex mask per source."""

    config: GTCRNConfig
    presets = {"tiny": {}, "dns3": {}, "vctk": {}}

    def __init__(self, config: GTCRNConfig) -> None:
        super().__init__(config)
        self.transform = STFT(_N_FFT, _HOP, "sqrt_hann")
        bands = erb_bands(config.sample_rate)
        self.to_bands = nn.Parameter(bands, requires_grad=False)  # fixed, yet published files hold them
        self.from_bands = nn.Parameter(bands.T.contiguous(), requires_grad=False)
        self.encoder = nn.ModuleList(
            [
                ConvUnit(nn.Conv2d(9, _CHANNELS, (1, 5), (1, 2), (0, 2))),
                ConvUnit(nn.Conv2d(_CHANNELS, _CHANNELS, (1, 5), (1, 2), (0, 2), groups=2)),
                *(GroupedBlock(dilation) for dilation in _DILATIONS),
            ]
        )
        self.recurrent = nn.Sequential(RecurrentBlock(), RecurrentBlock())
        upsample = nn.ConvTranspose2d(_CHANNELS, _CHANNELS, (1, 5), (1, 2), (0, 2), groups=2)
        last = nn.ConvTranspose2d(_CHANNELS, 2 * config.num_sources, (1, 5), (1, 2), (0, 2))
        self.decoder = nn.ModuleList(
            [
                *(GroupedBlock(dilation) for dilation in reversed(_DILATIONS)),
                ConvUnit(upsample),
                ConvUnit(last, nn.Tanh()),
            ]
        )

    @property
    def hop_length(self) -> int:
        return _HOP

    @property
    def minimum_samples(self) -> int:
        """The shortest mixture that can be padded by reflection."""
        return self.transform.minimum_samples

    @property
    def causal(self) -> bool:
        return True

    @property
    def look_ahead_samples(self) -> int:
        """The rest of the last frame that overlaps a sample."""
        return _N_FFT - 1

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        spectrum = self.transform.analyse(mixture)  # [B, L, F]
        return self.transform.synthesise(self._separate(spectrum), mixture.shape[-1])

    @property
    def stream_lead(self) -> int:
        """What of the first frame is before its last hop, mirrored samples aside."""
        return _N_FFT // 2 - _HOP

    @property
    def stream_delay(self) -> int:
        """The half frame before the first sample."""
        return _N_FFT // 2

    def num_frames(self, num_samples: int) -> int:
        return num_samples // _HOP + 1

    def end_padding(self, recent: Tensor) -> Tensor:
        """The last samples mirrored."""
        return recent[:, -_N_FFT // 2 - 1 : -1].flip(-1)

    def begin_stream(self, head: Tensor) -> StreamState:
        """The state before the first step, behind the first samples mirrored."""
        mirrored = head[:, 1 : _N_FFT // 2 + 1].flip(-1)
        return {**super().begin_stream(head), "past": torch.cat([mirrored, head[:, : self.stream_lead]], -1)}

    def stream_piece(self, samples: Tensor, stream: Stream) -> Tensor:
        common = _N_FFT - _HOP
        spectrum = self.transform.analyse(stream.join(self, samples, common), centred=False)
        masked = stream.real(self._separate(spectrum, stream), -2)
        waves, envelope = self.transform.weighted_sums(masked, stream.real(all_frames(masked), -2))
        waves = stream.overlap(self, waves, common)
        envelope = stream.overlap(self, envelope, common, what="envelope")
        return waves / envelope.clamp_min(1e-11)

    def _separate(self, spectrum: Tensor, stream: Stream | None = None) -> Tensor:
        """Spectra of the sources ``[B, C, L, F]`` of a mixture's ``[B, L, F]``."""
        masks = at_least_float32(self.estimate_masks(torch.view_as_real(spectrum), stream)).unflatten(
            1, (-1, 2)
        )
        masks = torch.view_as_complex(masks.movedim(2, -1).contiguous())  # [B, C, L, F]
        return masks * spectrum[:, None]

    def estimate_masks(self, parts: Tensor, stream: Stream | None = None) -> Tensor:
        """The network between the transforms.

        Args:
            parts: Real and imaginary parts of the mixture's spectrum, ``[B, L, F, 2]``.
            stream: Memory of the frames before these.

        Returns:
            Real and imaginary parts of the masks, ``[B, 2C, L, F]``.
        """
        magnitude = (parts.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        features = torch.cat([magnitude, parts], -1).movedim(-1, 1).to(self.to_bands.dtype)  # [B, 3, L, F]
        low, high = features[..., :_LOW_BINS], features[..., _LOW_BINS:]
        grid = with_neighbours(torch.cat([low, high @ self.to_bands.T], -1))
        skips = [grid := block(grid, stream) for block in self.encoder]
        grid = grid.permute(0, 2, 3, 1)
        for block in self.recurrent:
            grid = block(grid, stream)
        grid = grid.permute(0, 3, 1, 2)
        for block in self.decoder:
            grid = block(grid + skips.pop(), stream)
        return torch.cat([grid[..., :_LOW_BINS], grid[..., _LOW_BINS:] @ self.from_bands.T], -1)


class ConvUnit(nn.Module):
    """A convolution, batch normalisation and an activation."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)
        self.activation = PReLU() if activation is None else activation

    def forward(self, grid: Tensor, stream: Stream | None = None) -> Tensor:  # noqa: ARG002 - of one frame
        """Map ``[B, D, L, E]``; the number of frames stays."""
        return self.activation(self.norm(self.conv(grid)))


class GroupedBlock(nn.Module):
    """Convolutions of half of the channels over past frames, then the halves interleaved.

    Args:
        dilation: Frames between the taps.
    """

    def __init__(self, dilation: int) -> None:
        super().__init__()
        half, hidden = _CHANNELS // 2, _CHANNELS
        self.past = 2 * dilation
        self.expand = ConvUnit(nn.Conv2d(3 * half, hidden, 1))
        self.depthwise = ConvUnit(
            nn.Conv2d(hidden, hidden, 3, padding=(0, 1), dilation=(dilation, 1), groups=hidden)
        )
        self.reduce = ConvUnit(nn.Conv2d(hidden, half, 1), nn.Identity())
        self.attention = TemporalAttention(half)

    def forward(self, grid: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[B, D, L, E]`` to the same shape."""
        processed, untouched = grid.chunk(2, dim=1)
        hidden = with_past(stream, self, self.expand(with_neighbours(processed)), self.past, dim=2)
        processed = self.attention(self.reduce(self.depthwise(hidden)), stream)
        return torch.stack([processed, untouched], 2).flatten(1, 2)


class TemporalAttention(nn.Module):
    """A gain for every channel and frame, from the energies of this and earlier frames.

    Args:
        num_channels: D.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.rnn = GRU(num_channels, 2 * num_channels, batch_first=True)
        self.linear = nn.Linear(2 * num_channels, num_channels)

    def forward(self, grid: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[B, D, L, E]`` to the same shape."""
        energies = grid.square().mean(-1).mT  # [B, L, D]
        gains = self.linear(run_recurrent(stream, self.rnn, energies)).sigmoid()
        return grid * gains.mT.unsqueeze(-1)


class RecurrentBlock(nn.Module):
    """Grouped recurrent networks along the bands, then along the frames, each normalised per frame."""

    def __init__(self) -> None:
        super().__init__()
        self.band_path = GroupedGRU(bidirectional=True)
        self.time_path = GroupedGRU(bidirectional=False)

    def forward(self, grid: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[B, L, E, D]`` to the same shape."""
        grid = grid + self.band_path(grid)
        return grid + self.time_path(grid.transpose(1, 2), stream, frames_first=False)


class GroupedGRU(nn.Module):
    """A recurrent network for each half of the channels, a linear map, and a norm over each frame.

    Args:
        bidirectional: Whether the networks also run backwards.
    """

    def __init__(self, *, bidirectional: bool) -> None:
        super().__init__()
        half = _CHANNELS // 2
        self.groups = nn.ModuleList(
            GRU(half, half // (1 + bidirectional), batch_first=True, bidirectional=bidirectional)
            for _ in range(2)
        )
        self.linear = nn.Linear(_CHANNELS, _CHANNELS)
        self.norm = nn.LayerNorm((_GRID_BANDS, _CHANNELS), eps=1e-8)
        for parameter in self.norm.parameters():
            without_decay(parameter)

    def forward(self, grid: Tensor, stream: Stream | None = None, *, frames_first: bool = True) -> Tensor:
        """Run along the third dimension of ``[B, L, E, D]`` or ``[B, E, L, D]``; gives ``[B, L, E, D]``."""
        halves = grid.flatten(0, 1).chunk(2, dim=-1)
        hidden = [run_recurrent(stream, group, half) for group, half in zip(self.groups, halves, strict=True)]
        output = self.linear(torch.cat(hidden, -1)).view(grid.shape)
        return self.norm(output if frames_first else output.transpose(1, 2))


def with_neighbours(grid: Tensor) -> Tensor:
    """Each band with the one below and the one above as channels, ``[B, D, L, E]`` -> ``[B, 3D, L, E]``."""
    return F.pad(grid, (1, 1)).unfold(-1, 3, 1).movedim(-1, 2).flatten(1, 2)


def erb_bands(sample_rate: int) -> Tensor:
    """Triangles of equal width on the ERB scale of Glasberg and Moore (1990), ``[64, 192]``."""
    hertz_per_bin = sample_rate / _N_FFT
    ends = (_LOW_BINS * hertz_per_bin, sample_rate / 2)
    first, last = (21.4 * math.log10(1 + 0.00437 * hertz) for hertz in ends)
    centres = torch.linspace(first, last, _HIGH_BANDS, dtype=torch.float64)
    peaks = ((10 ** (centres / 21.4) - 1) / 0.00437 / hertz_per_bin).round()  # in bins
    bins = torch.arange(_LOW_BINS, _N_FFT // 2 + 1, dtype=torch.float64)
    below, above = peaks[:-1, None], peaks[1:, None]
    rising = ((bins - below) / (above - below).clamp_min(1e-12)).clamp(0, 1)  # [bands - 1, bins]
    steps = torch.cat([torch.ones(1, len(bins), dtype=torch.float64), rising, torch.zeros_like(rising[:1])])
    return (steps[:-1] - steps[1:]).float()
