"""Filters of a filterbank that are made of fewer parameters than they have taps.

Pariente, Cornell, Deleforge, Vincent (2020), "Filterbank design for end-to-end speech separation",
https://arxiv.org/abs/1910.10400; sinc filters: Ravanelli and Bengio (2018), "Speaker recognition from raw
waveform with SincNet", https://arxiv.org/abs/1808.00158.

Shapes: N filters, K taps, B batch, T samples, L frames.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.schema import Schema


class AnalyticOptions(Schema):
    """Pairs of free filters: half of them have parameters, the other half is made of these."""

    kind: Literal["analytic"]
    partner: Literal["hilbert", "mirror"] = "hilbert"
    """The Hilbert transform of a filter, as in the paper, or the filter backwards, which asteroid-filterbanks
    makes of it under torch 1.8 and later."""


class SincOptions(Schema):
    """Pairs of band-pass filters in cosine and sine phase, whose edges are the parameters."""

    kind: Literal["sinc"]
    min_low_hz: float = Field(default=50.0, ge=0.0)
    """Hz below which no band begins."""
    min_band_hz: float = Field(default=50.0, ge=0.0)
    """Hz that every band has at least."""


class FourierOptions(Schema):
    """The short-time Fourier transform, real parts before imaginary parts, which is not trained."""

    kind: Literal["stft"]


FiltersOptions = Annotated[AnalyticOptions | SincOptions | FourierOptions, Field(discriminator="kind")]
"""Options of one kind of filters; ``kind`` says which."""


class AnalyticFilters(nn.Module):
    """Free filters and their Hilbert transforms or mirror images.

    Args:
        num_filters: N, even.
        kernel_size: K.
        options: What the second half is.
    """

    def __init__(self, num_filters: int, kernel_size: int, options: AnalyticOptions) -> None:
        super().__init__()
        self.mirror = options.partner == "mirror"
        self.weight = nn.Parameter(torch.empty(num_filters // 2, 1, kernel_size))
        nn.init.xavier_normal_(self.weight, gain=1.0 / math.sqrt(2.0))

    def forward(self) -> Tensor:
        """The filters, ``[N, 1, K]``."""
        spectrum = torch.fft.rfft(self.weight)
        partner = spectrum.conj() if self.mirror else -1j * spectrum
        return torch.cat([self.weight, torch.fft.irfft(partner, n=self.weight.shape[-1])])


class SincFilters(nn.Module):
    """Band-pass filters; fresh bands are equally wide on the mel scale.

    Args:
        num_filters: N, even.
        kernel_size: K, odd.
        sample_rate: In Hz.
        options: Limits of the bands.
    """

    def __init__(self, num_filters: int, kernel_size: int, sample_rate: int, options: SincOptions) -> None:
        super().__init__()
        self.kernel_size, self.sample_rate, self.options = kernel_size, sample_rate, options
        highest = max(sample_rate / 2 - options.min_low_hz - options.min_band_hz, 31.0)
        mels = torch.linspace(_mel(30.0), _mel(highest), num_filters // 2 + 1, dtype=torch.float64)
        edges = (700.0 * (10.0 ** (mels / 2595.0) - 1.0)).float().unsqueeze(1)
        self.low_hz = nn.Parameter(edges[:-1].clone())
        self.band_hz = nn.Parameter(edges.diff(dim=0))

    def forward(self) -> Tensor:
        """The filters, ``[N, 1, K]``."""
        limits, half = self.options, self.kernel_size // 2
        low = limits.min_low_hz + self.low_hz.abs()  # [N / 2, 1]
        high = low + limits.min_band_hz + self.band_hz.abs()
        high = high.clamp(limits.min_low_hz, self.sample_rate / 2)
        band = high - low
        steps = torch.arange(-half, 0, device=low.device, dtype=low.dtype)
        times = 2.0 * math.pi * (steps / self.sample_rate)  # [K // 2]
        window = torch.hamming_window(self.kernel_size, periodic=False, dtype=torch.float64)[:half]
        envelope = window.to(times) / (times / 2.0)
        even = ((high * times).sin() - (low * times).sin()) * envelope
        odd = ((low * times).cos() - (high * times).cos()) * envelope
        cosines = torch.cat([even, 2.0 * band, even.flip(1)], dim=1)
        sines = torch.cat([odd, torch.zeros_like(band), -odd.flip(1)], dim=1)
        return torch.cat([cosines / (2.0 * band), sines / (2.0 * band)]).unsqueeze(1)


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


class FourierFilters(nn.Module):
    """Windowed sines and cosines of N - 2 points, scaled so that analysis and synthesis undo each other.

    Args:
        num_filters: N, even and at least K + 2.
        kernel_size: K.
        stride: Samples between frames.
    """

    weight: Tensor

    def __init__(self, num_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        points = num_filters - 2
        first = (points - kernel_size) // 2
        taps = torch.arange(first, first + kernel_size, dtype=torch.float64)
        bins = torch.arange(points // 2 + 1, dtype=torch.float64).unsqueeze(1)
        angles = 2.0 * math.pi * bins * taps / points
        filters = torch.cat([angles.cos(), -angles.sin()]) / (0.5 * math.sqrt(kernel_size * points / stride))
        filters[[0, points // 2]] /= math.sqrt(2.0)
        window = torch.hann_window(kernel_size, periodic=True, dtype=torch.float64).sqrt()
        self.register_buffer("weight", (filters * window).float().unsqueeze(1))

    def forward(self) -> Tensor:
        """The filters, ``[N, 1, K]``."""
        return self.weight


def create_filters(
    options: FiltersOptions, num_filters: int, kernel_size: int, stride: int, sample_rate: int
) -> nn.Module:
    """Filters with fresh parameters, a module without inputs that returns ``[N, 1, K]``.

    Args:
        options: Their kind.
        num_filters: N.
        kernel_size: K.
        stride: Samples between frames.
        sample_rate: In Hz.
    """
    if isinstance(options, AnalyticOptions):
        return AnalyticFilters(num_filters, kernel_size, options)
    if isinstance(options, SincOptions):
        return SincFilters(num_filters, kernel_size, sample_rate, options)
    return FourierFilters(num_filters, kernel_size, stride)


class _FilterConv(nn.Module):
    """What the two convolutions share.

    Args:
        filters: Returns the filters, ``[N, 1, K]``.
        kernel_size: K.
        stride: Samples between frames.
        padding: Zeros on both sides of the waveform.
        output_padding: Samples added at the end of a waveform.
    """

    bias = None

    def __init__(
        self, filters: nn.Module, kernel_size: int, stride: int, padding: int = 0, output_padding: int = 0
    ) -> None:
        super().__init__()
        self.filters = filters
        self.kernel_size, self.stride = (kernel_size,), (stride,)
        self.padding, self.output_padding = (padding,), (output_padding,)

    @property
    def weight(self) -> Tensor:
        """The filters, made anew."""
        filters: Tensor = self.filters()
        return filters


class FilterConv1d(_FilterConv):
    """In the place of ``nn.Conv1d``, with filters that are made."""

    def forward(self, waveform: Tensor) -> Tensor:
        """Map ``[B, 1, T]`` to ``[B, N, L]``."""
        return F.conv1d(waveform, self.weight, None, self.stride, self.padding)


class FilterConvTranspose1d(_FilterConv):
    """In the place of ``nn.ConvTranspose1d``, with filters that are made."""

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, N, L]`` to ``[B, 1, T]``."""
        return F.conv_transpose1d(features, self.weight, None, self.stride, self.padding, self.output_padding)
