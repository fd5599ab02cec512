"""Tables as text: for the terminal and documents (Markdown), for papers (LaTeX), for other programs (CSV)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

Cells = Sequence[Sequence[str]]


def markdown(header: Sequence[str], rows: Cells) -> str:
    """A table that reads well as plain text too: columns are aligned, numbers to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]

    def draw(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([draw(header), f"|{rule}|", *(draw(row) for row in rows)])


def latex(header: Sequence[str], rows: Cells) -> str:
    """The same table for the package booktabs."""
    body = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in (header, *rows)]
    columns = "l" + "r" * (len(header) - 1)
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0], r"\midrule", *body[1:]]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"])


def comma_separated(header: Sequence[str], rows: Cells) -> str:
    """The same table as CSV."""
    stream = io.StringIO()
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue()


def number(value: float, digits: int = 2) -> str:
    """A number of a table; a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def percent(rate: float) -> str:
    """A share as a percentage; a dash where there is none."""
    return f"{100 * rate:.1f} %" if math.isfinite(rate) else "-"


def _escape(cell: str) -> str:
    for character in "&%_#$":
        cell = cell.replace(character, f"\\{character}")
    return cell
