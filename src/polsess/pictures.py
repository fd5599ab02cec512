"""Pictures of sounds: spectrograms on a common scale, one row per signal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from polsess.dependencies import require
from polsess.files import atomic_path

_RANGE_DB = 70.0
_WINDOW_SECONDS, _MAX_COLUMNS = 0.032, 4000


def save_spectrograms(path: Path, signals: Mapping[str, Tensor], sample_rate: int, title: str = "") -> None:
    """Draw the spectrogram of every signal below the other, in dB below the loudest point of all.

    Args:
        path: The PNG file.
        signals: Names and samples, ``[T]`` each, of equal length.
        sample_rate: In Hz.
        title: Above the picture.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    require("matplotlib", "Drawing spectrograms")
    from matplotlib.figure import Figure

    levels = {name: _level_db(samples, sample_rate) for name, samples in signals.items()}
    loudest = max(float(level.max()) for level in levels.values())
    seconds = max(len(samples) for samples in signals.values()) / sample_rate
    figure = Figure(figsize=(9, 1.2 + 1.6 * len(signals)), layout="constrained")
    rows = figure.subplots(len(signals), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, level) in zip(rows, levels.items(), strict=True):
        image = axes.imshow(
            level.numpy(),
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, sample_rate / 2000),
            vmin=loudest - _RANGE_DB,
            vmax=loudest,
            cmap="magma",
        )
        axes.set_title(name, loc="left", fontsize="medium")
        axes.set_ylabel("kHz")
    rows[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=list(rows), label="dB", shrink=0.8)
    figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _level_db(samples: Tensor, sample_rate: int) -> Tensor:
    """``[F, L]`` in dB; long recordings get a wider hop, so that the picture stays small."""
    n_fft = max(16, round(_WINDOW_SECONDS * sample_rate))
    hop = max(n_fft // 4, len(samples) // _MAX_COLUMNS, 1)
    spectrum = torch.stft(
        samples.float(),
        n_fft,
        hop,
        window=torch.hann_window(n_fft),
        pad_mode="constant",
        return_complex=True,
    )
    return 20 * torch.log10(spectrum.abs() + 1e-6)
