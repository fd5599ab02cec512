"""Short-time Fourier analysis and synthesis that keep at least float32 under autocast.

Shapes: B batch, T samples, L frames, F frequency bins.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

WindowName = Literal["hann", "sqrt_hann", "hamming", "rectangular"]


@dataclass(frozen=True)
class STFT:
    """A centred transform and its inverse by weighted overlap-add; without parameters or state.

    Args:
        n_fft: Samples of a frame; even.
        hop_length: Samples between frames, at most half a frame.
        window: Window of analysis and synthesis, periodic.
        pad_mode: Padding before the first and after the last sample, as in ``torch.nn.functional.pad``.

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

    def analyse(self, wave: Tensor, *, centred: bool = True) -> Tensor:
        """Spectrum of a waveform, in at least float32.

        Args:
            wave: ``[B, T]`` with T at least ``minimum_samples``.
            centred: Whether the waveform is padded: the middle of the first frame is then the first sample.

        Returns:
            Complex ``[B, L, F]`` with L = T // hop_length + 1; without padding (T - n_fft) // hop_length + 1.
        """
        with without_autocast(wave):
            wave = at_least_float32(wave)
            spectrum = torch.stft(
                wave,
                self.n_fft,
                self.hop_length,
                window=self._window(wave),
                center=centred,
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
        waves, envelope = self.weighted_sums(spectrum, all_frames(spectrum))
        kept = slice(self.n_fft // 2, self.n_fft // 2 + num_samples)
        return waves[..., kept] / envelope[..., kept].clamp_min(1e-11)

    def weighted_sums(self, spectrum: Tensor, real_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Overlapping frames summed; the quotient is the waveform from half a frame before its beginning on.

        Args:
            spectrum: Complex ``[..., L, F]``, zero where a frame does not count.
            real_frames: One for each frame that counts, zero for the others, ``[1, L, 1]``.

        Returns:
            The sum of the windowed frames ``[..., n]``, and of the squared windows ``[1, n]``.
        """
        with without_autocast(spectrum):
            frames = torch.fft.irfft(spectrum, n=self.n_fft)
            window = self._window(frames)
            envelope = self._overlap_add(real_frames * window.square())
            waves = self._overlap_add((frames * window).flatten(0, -3))
        return waves.unflatten(0, spectrum.shape[:-2]), envelope

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


def all_frames(spectrum: Tensor) -> Tensor:
    """A one for each frame of a spectrum ``[..., L, F]``, ``[1, L, 1]``."""
    return torch.ones(1, spectrum.shape[-2], 1, dtype=spectrum.real.dtype, device=spectrum.device)


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
