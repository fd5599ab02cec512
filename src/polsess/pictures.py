"""Spectrograms of a mixture, its estimates and references in one picture; who talks when over one of them.

Shapes: T samples, F frequency bins, L frames.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polsess.audio import AnySamples, Samples, as_samples, hann_window, magnitudes
from polsess.dependencies import require
from polsess.files import atomic_path
from polsess.timelines import Timeline, list_overlaps

_WINDOW_SECONDS = 0.032
_RANGE_DB = 80.0
_MAX_FRAMES = 3000
_LINE_SECONDS = 60.0
_MAX_LINES = 8
_LINE_COLUMNS = 1200
"""A timeline is drawn in lines of a minute, longer ones where there would be too many."""
_LANE_INCHES = 0.2
_MAX_NAME = 24
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""


def spectrogram_db(samples: AnySamples, sample_rate: int, hop_length: int = 1) -> Samples:
    """Power of short frames in dB re a full-scale sine, ``[F, L]``.

    Args:
        samples: ``[T]``.
        sample_rate: Sample rate in Hz.
        hop_length: Fewest samples between frames, where so many are not needed.
    """
    n_fft = _window_samples(sample_rate)
    hop = max(n_fft // 4, samples.shape[-1] // _MAX_FRAMES, hop_length)
    padded = np.pad(as_samples(samples), n_fft // 2)
    return _decibels(magnitudes(padded, n_fft, hop), n_fft)


def _decibels(spectrum: Samples, n_fft: int) -> Samples:
    """Magnitudes ``[F, L]`` in dB re a full-scale sine."""
    return 20 * np.log10(np.maximum(2 * spectrum / hann_window(n_fft).sum(), np.float32(1e-10)))


def draw_spectrograms(
    signals: Mapping[str, AnySamples],
    sample_rate: int,
    target: Path,
    title: str = "",
    max_hz: float | None = None,
) -> None:
    """Draw one spectrogram per signal, all on one colour scale, into an image file.

    Args:
        signals: Waveforms ``[T]`` of equal length by the title of each picture.
        sample_rate: Sample rate in Hz.
        target: The picture, e.g. a .png or .svg.
        title: Title above the pictures.
        max_hz: Highest frequency to draw, in Hz; None for half the sample rate.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        ValueError: If there is nothing to draw.
    """
    require("matplotlib", "Drawing spectrograms")
    from matplotlib.figure import Figure

    if not signals or any(samples.ndim != 1 or not len(samples) for samples in signals.values()):
        raise ValueError("signals: expected at least one waveform [T] with T > 0.")
    levels = {name: spectrogram_db(samples, sample_rate) for name, samples in signals.items()}
    loudest = max(float(level.max()) for level in levels.values())
    seconds = max(samples.shape[-1] for samples in signals.values()) / sample_rate
    figure = Figure(figsize=(9.0, 1.0 + 1.9 * len(levels)), layout="constrained")
    rows = figure.subplots(len(levels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, level) in zip(rows, levels.items(), strict=True):
        image = axes.imshow(
            level,
            origin="lower",
            aspect="auto",
            extent=(0.0, seconds, 0.0, sample_rate / 2),
            vmin=loudest - _RANGE_DB,
            vmax=loudest,
            cmap="magma",
        )
        axes.set_title(_plain(name), loc="left", fontsize=9)
        axes.set_ylabel("Hz")
    if max_hz is not None:
        rows[-1].set_ylim(0.0, min(max_hz, sample_rate / 2))  # of all: they share the axis
    rows[-1].set_xlabel("s")
    figure.colorbar(image, ax=rows, label="dB re full scale")
    if title:
        figure.suptitle(_plain(title))
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_timeline(
    blocks: Iterable[Samples],
    sample_rate: int,
    num_samples: int,
    timeline: Timeline,
    speakers: Sequence[str],
    target: Path,
    title: str = "",
) -> None:
    """Draw who talks when over the spectrogram of a recording of any length into an image file.

    Args:
        blocks: The recording from its start, ``[n]`` per block.
        sample_rate: Sample rate in Hz.
        num_samples: Length of all blocks together.
        timeline: Turns of the speakers.
        speakers: A lane for each, in this order.
        target: The picture, e.g. a .png or .svg.
        title: Title above the picture.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    require("matplotlib", "Drawing a timeline")
    from matplotlib.figure import Figure

    seconds = num_samples / sample_rate
    lines = max(1, min(_MAX_LINES, math.ceil(seconds / _LINE_SECONDS)))
    level = _spectrogram_columns(blocks, sample_rate, num_samples, lines * _LINE_COLUMNS)
    lanes = _LANE_INCHES * max(1, len(speakers))
    figure = Figure(figsize=(10.0, 0.9 + lines * (lanes + 1.6)), layout="constrained")
    rows = figure.subplots(2 * lines, 1, height_ratios=[lanes, 1.2] * lines, squeeze=False)[:, 0]
    for line in range(lines):
        begin, end = (round(edge * level.shape[1] / lines) for edge in (line, line + 1))
        span = (seconds * line / lines, seconds * (line + 1) / lines)
        above, below = rows[2 * line : 2 * line + 2]
        _draw_lanes(above, timeline, speakers, span)
        below.imshow(
            level[:, begin:end],
            origin="lower",
            aspect="auto",
            extent=(*span, 0.0, sample_rate / 2000),
            vmin=float(level.max()) - _RANGE_DB,
            vmax=float(level.max()),
            cmap="magma",
        )
        below.set_ylabel("kHz")
    rows[-1].set_xlabel("s (shaded: several talk)")
    if title:
        figure.suptitle(_plain(title))
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw_lanes(axes: Any, timeline: Timeline, speakers: Sequence[str], span: tuple[float, float]) -> None:
    """A lane of bars per speaker, the first on top."""
    names = [
        _plain(name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}")
        for name in speakers
    ]
    for lane, speaker in enumerate(speakers):
        bars = [(turn.start, turn.duration) for turn in timeline if turn.speaker == speaker]
        axes.broken_barh(bars, (lane - 0.4, 0.8), color=_COLOURS[lane % len(_COLOURS)], linewidth=0)
    for start, end in list_overlaps(timeline):
        axes.axvspan(start, end, color="0.85", linewidth=0, zorder=0)
    axes.set_yticks(range(len(speakers)), names, fontsize=8)
    axes.set_ylim(max(1, len(speakers)) - 0.5, -0.5)
    axes.set_xlim(*span)
    axes.tick_params(labelbottom=False, left=False)
    axes.grid(axis="x", linewidth=0.4)


def _spectrogram_columns(blocks: Iterable[Samples], sample_rate: int, num_samples: int, most: int) -> Samples:
    """The loudest of the frames in each of a number of columns, ``[F, columns]`` in dB, in bounded memory."""
    n_fft = _window_samples(sample_rate)
    hop = max(1, n_fft // 4)
    columns = max(1, min(most, num_samples // hop))
    loudest = np.zeros((n_fft // 2 + 1, columns), np.float32)
    edge = np.zeros(n_fft // 2, np.float32)
    waiting, frame = edge, 0
    for block in itertools.chain(blocks, [edge]):
        waiting = np.concatenate([waiting, block])
        count = (len(waiting) - n_fft) // hop + 1
        if count < 1:
            continue
        piece = waiting[: n_fft + (count - 1) * hop]
        spectrum = magnitudes(piece, n_fft, hop)
        places = np.minimum(np.arange(frame, frame + count) * hop * columns // num_samples, columns - 1)
        found, first = np.unique(places, return_index=True)
        peaks = np.maximum.reduceat(spectrum, first, axis=1)
        loudest[:, found] = np.maximum(loudest[:, found], peaks)
        waiting, frame = waiting[count * hop :], frame + count
    return _decibels(loudest, n_fft)


def _window_samples(sample_rate: int) -> int:
    return max(2, 2 * round(_WINDOW_SECONDS * sample_rate / 2))


def _plain(text: str) -> str:
    """Text in which a dollar sign starts no formula, and characters that no font has are replaced."""
    visible = "".join(
        letter if ord(letter) < 0x2E80 and letter.isprintable() else "\N{WHITE SQUARE}" for letter in text
    )
    return visible.replace("$", r"\$")
