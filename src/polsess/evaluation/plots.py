"""Pictures of comparisons."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np

from polsess.dependencies import require
from polsess.evaluation.comparing import Comparison
from polsess.files import atomic_path
from polsess.metrics import title_of


def plot_pairs(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw every pair of systems, utterance by utterance; a point above the line is won by the second.

    Returns:
        The pictures' paths, ``<first>-<second>.png``.
    """
    require("matplotlib", "The plot of a comparison")
    from matplotlib.figure import Figure

    paths = []
    for first, second, difference in comparison.pairs:
        one, other = (each.values(comparison.column).mean(0) for each in (first, second))
        figure = Figure(figsize=(5.5, 5.5), layout="constrained")
        axes = figure.add_subplot()
        values = np.array([value for value in chain(one, other) if np.isfinite(value)])
        low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        margin = 0.05 * max(high - low, 1e-3)
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color="0.6", linewidth=1, zorder=1)
        axes.scatter(one, other, s=14, alpha=0.6, linewidths=0, color="#0b6e99", zorder=2)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        title = title_of(comparison.column)
        axes.set_xlabel(f"{first.name}: {title}")
        axes.set_ylabel(f"{second.name}: {title}")
        axes.set_title(
            f"{second.name} better on {100 * difference.share_better:.0f} % of {difference.count} utterances"
        )
        path = folder / f"{first.name}-{second.name}.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)
        paths.append(path)
    return paths
