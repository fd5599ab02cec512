"""Spectrograms of a mixture, its estimates and its references in one picture.

Shapes: T samples, F frequency bins, L frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from polsess.dependencies import require
from polsess.files import atomic_path

_WINDOW_SECONDS = 0.032
_RANGE_DB = 80.0
_MAX_FRAMES = 3000


def spectrogram_db(samples: Tensor, sample_rate: int) -> Tensor:
    """Power of short frames in dB re a full-scale sine, ``[F, L]``.

    Args:
        samples: ``[T]``.
        sample_rate: Sample rate in Hz.
    """
    n_fft = max(2, 2 * round(_WINDOW_SECONDS * sample_rate / 2))
    hop = max(n_fft // 4, samples.shape[-1] // _MAX_FRAMES)
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(samples, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    return 20 * torch.log10((2 * spectrum.abs() / window.sum()).clamp_min(1e-10))


def draw_spectrograms(signals: Mapping[str, Tensor], sample_rate: int, target: Path, title: str = "") -> None:
    """Draw one spectrogram per signal, all on one colour scale, into an image file.

    Args:
        signals: Waveforms ``[T]`` of equal length by the title of each picture.
        sample_rate: Sample rate in Hz.
        target: The picture, e.g. a .png or .svg.
        title: Title above the pictures.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        ValueError: If there is nothing to draw.
    """
    require("matplotlib", "Drawing spectrograms")
    from matplotlib.figure import Figure

    if not signals or any(samples.ndim != 1 or not samples.numel() for samples in signals.values()):
        raise ValueError("signals: expected at least one waveform [T] with T > 0.")
    levels = {name: spectrogram_db(samples, sample_rate) for name, samples in signals.items()}
    loudest = max(float(level.max()) for level in levels.values())
    seconds = max(samples.shape[-1] for samples in signals.values()) / sample_rate
    figure = Figure(figsize=(9.0, 1.0 + 1.9 * len(levels)), layout="constrained")
    rows = figure.subplots(len(levels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, level) in zip(rows, levels.items(), strict=True):
        image = axes.imshow(
            level.numpy(),
            origin="lower",
            aspect="auto",
            extent=(0.0, seconds, 0.0, sample_rate / 2),
            vmin=loudest - _RANGE_DB,
            vmax=loudest,
            cmap="magma",
        )
        axes.set_title(_plain(name), loc="left", fontsize=9)
        axes.set_ylabel("Hz")
    rows[-1].set_xlabel("s")
    figure.colorbar(image, ax=rows, label="dB re full scale")
    if title:
        figure.suptitle(_plain(title))
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=110)


def _plain(text: str) -> str:
    """Text in which a dollar sign starts no formula, and characters that no font has are replaced."""
    visible = "".join(
        letter if ord(letter) < 0x2E80 and letter.isprintable() else "\N{WHITE SQUARE}" for letter in text
    )
    return visible.replace("$", r"\$")
