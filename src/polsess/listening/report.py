"""The results of a listening test as Markdown, CSV and a picture."""

from __future__ import annotations

import math
from pathlib import Path

from polsess.files import write_text
from polsess.listening.analysis import Analysis
from polsess.listening.key import Kind
from polsess.text_tables import comma_separated, markdown, number

Table = tuple[list[str], list[list[str]]]
_QUESTIONS = {
    Kind.MUSHRA: "quality from 0 to 100, side by side with the reference (after ITU-R BS.1534-3)",
    Kind.AB: "preference: the share of comparisons won, no difference counts half",
    Kind.P835: "signal, background and overall quality from 1 to 5 (after ITU-T P.835)",
}


def report(analysis: Analysis) -> str:
    """The results as a Markdown document."""
    num_listeners = len(analysis.screening) - len(analysis.excluded)
    clips = {each.clip for each in analysis.counted}
    parts = [
        f"# {_plain(analysis.key.title)}: {_QUESTIONS[analysis.key.kind]}",
        f"Test {analysis.key.test}, {len(clips)} clips, {num_listeners} of {len(analysis.screening)} "
        "listeners.",
        "\n".join(screening_lines(analysis)),
        markdown(*summary_table(analysis)),
    ]
    if analysis.pairs:
        parts += [markdown(*pairs_table(analysis)), "\n".join(verdict_lines(analysis))]
    parts.append(
        "Intervals: bootstrap over listeners, 95 %. p: Wilcoxon's signed-rank test on one mean difference "
        "per listener, corrected after Holm within a scale. Both speak of other listeners of the same clips."
    )
    return "\n\n".join(parts) + "\n"


def screening_lines(analysis: Analysis) -> list[str]:
    """Who is excluded and why."""
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
    write_text(folder / "results.md", report(analysis))
    tables = {"summary": summary_table, "pairs": pairs_table, "ratings": ratings_table}
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", comma_separated(*table(analysis)))


def _rank(analysis: Analysis, scale: str) -> int:
    return list(dict.fromkeys(scale for scale, _ in analysis.summaries)).index(scale)


def _interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else "-"


def _plain(text: str) -> str:
    """Text that cannot break out of a cell."""
    return " ".join(text.replace("|", "/").split())
