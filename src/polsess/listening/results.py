"""The results of a listening test as Markdown, CSV and a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from polsess.dependencies import require
from polsess.files import atomic_path, write_texts
from polsess.listening.analysis import Analysis
from polsess.listening.key import Kind, Role
from polsess.text_tables import comma_separated, counted, markdown, number

Table = tuple[list[str], list[list[str]]]
_QUESTIONS = {
    Kind.MUSHRA: "quality from 0 to 100, side by side with the reference (after ITU-R BS.1534-3)",
    Kind.AB: "preference: the share of comparisons won, no difference counts half",
    Kind.P835: "signal, background and overall quality from 1 to 5 (after ITU-T P.835)",
}
_LIMITS = {Kind.MUSHRA: (-3.0, 103.0), Kind.AB: (-0.03, 1.03), Kind.P835: (0.85, 5.15)}
_COLOURS = {Role.REFERENCE: "#4d7c3a", Role.SYSTEM: "#0b6e99", Role.ANCHOR: "#8a8278"}
_WORDS = ("bad", "poor", "fair", "good", "excellent")


def report(analysis: Analysis) -> str:
    """The results as a Markdown document."""
    num_listeners = len(analysis.screening) - len(analysis.excluded)
    clips = {each.clip for each in analysis.counted}
    parts = [
        f"# {_plain(analysis.key.title)}: {_QUESTIONS[analysis.key.kind]}",
        f"Test {analysis.key.test}, {counted(len(clips), 'clip')}, {num_listeners} of "
        f"{len(analysis.screening)} listeners.",
        "\n".join(screening_lines(analysis)),
        markdown(*summary_table(analysis)),
    ]
    if analysis.pairs:
        parts += [markdown(*pairs_table(analysis)), "\n".join(verdict_lines(analysis))]
    parts.append(
        "Intervals (95 %) and p (t-test, corrected after Holm within a scale) treat the listeners as the "
        "independent units. Both hold for other listeners of the same clips."
    )
    return "\n\n".join(parts) + "\n"


def screening_lines(analysis: Analysis) -> list[str]:
    """Excluded listeners with reasons."""
    lines = [f"- Excluded: {each.listener} {each.reason}." for each in analysis.screening if each.is_excluded]
    return lines or ["- Nobody is excluded: no listener failed more than 15 % of the checks."]


def verdict_lines(analysis: Analysis) -> list[str]:
    """A sentence per pair."""
    several = len({pair.scale for pair in analysis.pairs}) > 1
    return [f"- {pair.scale + ': ' if several else ''}{pair.verdict}" for pair in analysis.pairs]


def summary_table(analysis: Analysis) -> Table:
    """Header and rows: every condition, the best first."""
    order = sorted(analysis.summaries.items(), key=lambda each: (_rank(analysis, each[0][0]), -each[1].mean))
    rows = [
        [
            _plain(condition),
            analysis.key.conditions[condition].value,
            scale,
            number(summary.mean),
            _interval(summary.low, summary.high),
            number(summary.median),
            str(summary.count),
        ]
        for (scale, condition), summary in order
    ]
    return ["condition", "role", "scale", "mean", "95 % interval", "median", "n"], rows


def pairs_table(analysis: Analysis) -> Table:
    """Header and rows: every pair of systems, the mixture among them."""
    rows = [
        [
            _plain(f"{pair.second} - {pair.first}"),
            pair.scale,
            number(pair.difference.mean),
            _interval(pair.difference.low, pair.difference.high),
            f"{pair.difference.p_value:.2g}",
            " / ".join(map(str, reversed(pair.counts))),
            "yes" if pair.difference.is_shown else "no",
        ]
        for pair in analysis.pairs
    ]
    return ["pair", "scale", "difference", "95 % interval", "p", "higher / equal / lower", "shown"], rows


def ratings_table(analysis: Analysis) -> Table:
    """Header and rows: every rating, of the excluded too."""
    header = ["listener", "excluded", "trial", "clip", "control", "condition", "role", "scale", "value"]
    rows = [
        [
            each.listener,
            "yes" if each.listener in analysis.excluded else "no",
            each.trial,
            each.clip,
            "yes" if each.control else "no",
            each.condition,
            each.role.value,
            each.scale,
            f"{each.value:g}",
        ]
        for each in analysis.ratings
    ]
    return header, rows


def save_analysis(analysis: Analysis, folder: Path) -> None:
    """Write ``results.md``, ``summary.csv``, ``pairs.csv`` and ``ratings.csv``."""
    tables = {"summary": summary_table, "pairs": pairs_table, "ratings": ratings_table}
    texts = {folder / f"{name}.csv": comma_separated(*table(analysis)) for name, table in tables.items()}
    write_texts({folder / "results.md": report(analysis), **texts})


def _rank(analysis: Analysis, scale: str) -> int:
    return list(dict.fromkeys(scale for scale, _ in analysis.summaries)).index(scale)


def _interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else "-"


def _plain(text: str) -> str:
    """Text that cannot break out of a cell."""
    return " ".join(text.replace("|", "/").split())


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
        axes.set(xlim=_LIMITS[analysis.key.kind], xlabel=_axis_label(analysis.key.kind, scale))
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


def _axis_label(kind: Kind, scale: str) -> str:
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
