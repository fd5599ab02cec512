"""Short-time spectra of sound in arrays.

Shapes: T samples, F frequency bins, L frames.
"""

from __future__ import annotations

import numpy as np

from polsess.audio.samples import Samples


def hann_window(num_samples: int) -> Samples:
    """The periodic window of Hann."""
    places = np.arange(num_samples, dtype=np.float64) / num_samples
    return (0.5 - 0.5 * np.cos(2 * np.pi * places)).astype(np.float32)


def magnitudes(samples: Samples, n_fft: int, hop_length: int, window: Samples | None = None) -> Samples:
    """Magnitudes of the spectra of frames, the first of which begins with the first sample.

    Args:
        samples: ``[..., T]`` with T at least ``n_fft``.
        n_fft: Samples of a frame.
        hop_length: Samples between frames.
        window: ``[n_fft]``; None for Hann's.

    Returns:
        ``[..., F, L]``.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft, -1)[..., ::hop_length, :]
    spectra = np.fft.rfft(frames * (hann_window(n_fft) if window is None else window))
    return np.abs(spectra).swapaxes(-1, -2).astype(np.float32, copy=False)
