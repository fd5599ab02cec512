"""Short-time Fourier analysis and synthesis, and the complex spectral mapping frame built on them.

The frame (level, analysis, 3 × 3 convolution, grid network, transposed convolution, synthesis) is the one of
TF-GridNet, Wang et al. (2023), https://arxiv.org/abs/2211.12433; SPMamba and TF-Locoformer kept it.

Shapes: B batch, C sources, T samples, L frames, F frequency bins, D channels of the grid.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WindowName = Literal["hann", "sqrt_hann", "hamming", "rectangular"]


@dataclass(frozen=True)
class STFT:
    """A centred transform and its inverse by weighted overlap-add; without parameters or state.

    Args:
        n_fft: Samples of a frame; even.
        hop_length: Samples between frames, at most half a frame.
        window: Window of analysis and synthesis, periodic.
        pad_mode: What stands before the first and after the last sample, as in ``torch.nn.functional.pad``.

    Raises:
        ValueError: If the frames cannot be overlap-added back to the signal.
    """

    n_fft: int
    hop_length: int
    window: WindowName = "hann"
    pad_mode: Literal["reflect", "constant"] = "reflect"

    def __post_init__(self) -> None:
        if self.n_fft % 2 or not 1 <= self.hop_length <= self.n_fft // 2:
            raise ValueError(
                f"n_fft={self.n_fft}, hop_length={self.hop_length}: expected an even n_fft and a hop_length "
                "of at most half of it, so that the frames overlap."
            )

    @property
    def num_bins(self) -> int:
        """F, the frequencies from 0 to half the sample rate."""
        return self.n_fft // 2 + 1

    @property
    def minimum_samples(self) -> int:
        """The shortest signal that can be padded by reflection."""
        return self.n_fft // 2 + 1

    def analyse(self, wave: Tensor) -> Tensor:
        """Spectrum of a waveform, in at least float32.

        Args:
            wave: ``[B, T]`` with T at least ``minimum_samples``.

        Returns:
            Complex ``[B, L, F]`` with L = T // hop_length + 1.
        """
        with without_autocast(wave):
            wave = at_least_float32(wave)
            spectrum = torch.stft(
                wave,
                self.n_fft,
                self.hop_length,
                window=self._window(wave),
                pad_mode=self.pad_mode,
                return_complex=True,
            )
        return spectrum.mT

    def synthesise(self, spectrum: Tensor, num_samples: int) -> Tensor:
        """Waveform of a spectrum: the signal whose frames are nearest in the least-squares sense.

        Args:
            spectrum: Complex ``[..., L, F]``.
            num_samples: T, at most ``L * hop_length`` samples.

        Returns:
            ``[..., T]``.
        """
        with without_autocast(spectrum):
            frames = torch.fft.irfft(spectrum, n=self.n_fft)
            window = self._window(frames)
            envelope = self._overlap_add(window.square().expand(1, frames.shape[-2], -1))
            waves = self._overlap_add((frames * window).flatten(0, -3))
            kept = slice(self.n_fft // 2, self.n_fft // 2 + num_samples)
            waves = waves[:, kept] / envelope[:, kept].clamp_min(1e-11)
        return waves.unflatten(0, spectrum.shape[:-2])

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """``[B, L, n_fft]`` -> ``[B, (L - 1) * hop_length + n_fft]``."""
        total = (frames.shape[1] - 1) * self.hop_length + self.n_fft
        return F.fold(frames.mT, (1, total), (1, self.n_fft), stride=(1, self.hop_length))[:, 0, 0]

    def _window(self, like: Tensor) -> Tensor:
        """The window in the signal's precision: one cast from float32 would limit float64."""
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        if self.window == "rectangular":
            return torch.ones(self.n_fft, **options)
        if self.window == "hamming":
            return torch.hamming_window(self.n_fft, **options)
        window = torch.hann_window(self.n_fft, **options)
        return window.sqrt() if self.window == "sqrt_hann" else window


class SpectralMapping(nn.Module):
    """Waveforms through a network that maps the mixture's complex spectrum to those of the sources.

    The two convolutions run in float32 under autocast: they are cheap, and the spectrum's range is wide.

    Args:
        transform: Analysis and synthesis.
        num_channels: D.
        num_sources: C.
        eps: Added to the variance in the norm after the first convolution.
        normalize_variance: Whether the network sees the mixture at unit variance; the estimates come back at
            the mixture's level either way.
    """

    def __init__(
        self,
        transform: STFT,
        num_channels: int,
        num_sources: int,
        *,
        eps: float = 1e-5,
        normalize_variance: bool = True,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.num_sources = num_sources
        self.normalize_variance = normalize_variance
        self.conv = nn.Conv2d(2, num_channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, num_channels, eps=eps)
        self.deconv = nn.ConvTranspose2d(num_channels, 2 * num_sources, 3, padding=1)

    def forward(self, mixture: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Estimate the sources.

        Args:
            mixture: ``[B, T]`` with T at least ``transform.minimum_samples``.
            network: Maps ``[B, L, F, D]`` to the same shape.

        Returns:
            ``[B, C, T]``.
        """
        level = signal_level(mixture) if self.normalize_variance else mixture.new_ones(len(mixture), 1)
        grid = self._encode(mixture / level)
        waves = self._decode(network(grid), mixture.shape[-1])
        return waves * level.unsqueeze(-1)

    def _encode(self, mixture: Tensor) -> Tensor:
        spectrum = torch.view_as_real(self.transform.analyse(mixture))  # [B, L, F, 2]
        with without_autocast(mixture):
            grid = self.conv(spectrum.to(self.conv.weight.dtype).permute(0, 3, 1, 2))  # [B, D, L, F]
            return self.norm(grid).permute(0, 2, 3, 1)  # [B, L, F, D]

    def _decode(self, grid: Tensor, num_samples: int) -> Tensor:
        with without_autocast(grid):
            grid = self.deconv(grid.to(self.deconv.weight.dtype).permute(0, 3, 1, 2))  # [B, 2C, L, F]
            parts = at_least_float32(grid).unflatten(1, (self.num_sources, 2)).permute(0, 1, 3, 4, 2)
            spectra = torch.view_as_complex(parts.contiguous())  # [B, C, L, F]
        return self.transform.synthesise(spectra, num_samples)


def signal_level(mixture: Tensor) -> Tensor:
    """Standard deviation (unbiased) of each waveform, ``[B, T]`` -> ``[B, 1]``; 1e-8 for silence."""
    return at_least_float32(mixture).var(dim=-1, keepdim=True).clamp_min(1e-16).sqrt()


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor, half precision widened to float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """A block that computes in its inputs' precision on the device of ``like``."""
    device_type = like.device.type
    if not torch.amp.is_autocast_available(device_type):
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)
