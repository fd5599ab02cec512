"""A picture of ratings: boxes, the mean of every listener, the mean of all with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from polsess.dependencies import require
from polsess.files import atomic_path
from polsess.listening.analysis import Analysis
from polsess.listening.key import Kind, Role

_LIMITS = {Kind.MUSHRA: (-3.0, 103.0), Kind.AB: (-0.03, 1.03), Kind.P835: (0.85, 5.15)}
_COLOURS = {Role.REFERENCE: "#4d7c3a", Role.SYSTEM: "#0b6e99", Role.ANCHOR: "#8a8278"}
_WORDS = ("bad", "poor", "fair", "good", "excellent")


def plot_ratings(analysis: Analysis, target: Path) -> None:
    """Draw every condition on every scale into an image file.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    require("matplotlib", "The picture of a listening test")
    from matplotlib.figure import Figure

    scales = list(dict.fromkeys(scale for scale, _ in analysis.summaries))
    conditions = list(dict.fromkeys(condition for _, condition in analysis.summaries))
    conditions.sort(key=lambda name: -analysis.summaries[scales[-1], name].mean)
    figure = Figure(
        figsize=(1.0 + 4.4 * max(len(scales), 1.5), 1.4 + 0.5 * len(conditions)), layout="constrained"
    )
    panels = figure.subplots(1, len(scales), sharey=True, squeeze=False)[0]
    for axes, scale in zip(panels, scales, strict=True):
        for row, condition in enumerate(conditions):
            _draw(axes, analysis, scale, condition, row)
        axes.set(xlim=_LIMITS[analysis.key.kind], xlabel=_label(analysis.key.kind, scale))
        _add_words(axes, analysis.key.kind)
        axes.grid(axis="x", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(conditions)), [name.replace("$", r"\$") for name in conditions])
    panels[0].invert_yaxis()
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw(axes: Any, analysis: Analysis, scale: str, condition: str, row: int) -> None:
    found = [each for each in analysis.counted if (each.scale, each.condition) == (scale, condition)]
    colour = _COLOURS[analysis.key.conditions[condition]]
    axes.boxplot(
        [each.value for each in found],
        positions=[row],
        orientation="horizontal",
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.18, "edgecolor": "none"},
        whiskerprops={"color": colour, "alpha": 0.5},
        capprops={"color": colour, "alpha": 0.5},
        medianprops={"color": colour, "alpha": 0.7},
        manage_ticks=False,
    )
    listeners = sorted({each.listener for each in found})
    means = [np.mean([each.value for each in found if each.listener == name]) for name in listeners]
    heights = row + 0.18 * (np.arange(len(means)) % 5 - 2) / 2  # side by side, so that equal ones show
    axes.scatter(means, heights, s=10, color=colour, alpha=0.45, linewidths=0, zorder=3)
    summary = analysis.summaries[scale, condition]
    reach = np.array([[summary.mean - summary.low], [summary.high - summary.mean]])
    axes.errorbar(
        summary.mean,
        row,
        xerr=np.nan_to_num(reach).clip(0),
        fmt="D",
        ms=6,
        color=colour,
        capsize=4,
        lw=2,
        zorder=4,
    )


def _label(kind: Kind, scale: str) -> str:
    return {Kind.MUSHRA: "rating", Kind.AB: "share of comparisons won"}.get(kind, scale)


def _add_words(axes: Any, kind: Kind) -> None:
    """The words of the MUSHRA scale above the picture; whole grades below that of P.835."""
    if kind is Kind.P835:
        axes.set_xticks(range(1, 6))
    if kind is not Kind.MUSHRA:
        return
    axes.set_xticks(range(0, 101, 20))
    for index, word in enumerate(_WORDS):
        place = {"transform": axes.get_xaxis_transform(), "ha": "center"}
        axes.text(20 * index + 10, 1.01, word, color="0.4", fontsize=8, **place)
