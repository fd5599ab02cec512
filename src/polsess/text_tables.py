"""Text: tables for terminals and documents (Markdown), papers (LaTeX), programs (CSV); numbers of things."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence

Cells = Sequence[Sequence[str]]
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def markdown(header: Sequence[str], rows: Cells) -> str:
    """The table of every document and terminal page of this project: Markdown that is plain text too.

    Columns are aligned, those of numbers to the right. Pipes and line breaks within cells are escaped.

    Args:
        header: A title for each column; may be empty.
        rows: As many cells per row as there are titles.

    Returns:
        Lines without a line break at the end.
    """
    lines = [[_escape_markdown(cell) for cell in line] for line in (header, *rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [index > 0 and _is_numeric(column[1:]) for index, column in enumerate(columns)]

    def draw(line: Sequence[str]) -> str:
        cells = zip(line, widths, right, strict=True)
        return "| " + " | ".join(c.rjust(width) if r else c.ljust(width) for c, width, r in cells) + " |"

    rules = ["-" * (w + 1) + ":" if r else ":" + "-" * (w + 1) for w, r in zip(widths, right, strict=True)]
    return "\n".join([draw(lines[0]), f"|{'|'.join(rules)}|", *(draw(line) for line in lines[1:])])


def fitted(draw: Callable[[Sequence[str]], str], names: Sequence[str], width: int = 80) -> str:
    """Tables for a terminal: with names if they fit its width, else with numbers and the names below.

    Args:
        draw: Makes the tables with these labels.
        names: Labels as long as they are.
        width: Characters in a line.
    """
    text = draw(names)
    if max(map(len, text.splitlines())) <= width:
        return text
    numbers = [str(number) for number in range(1, len(names) + 1)]
    legend = [f"{number}: {name}" for number, name in zip(numbers, names, strict=True)]
    return "\n".join([draw(numbers), "", *legend])


def counted(number: int, noun: str) -> str:
    """How many of something, as ``1 file`` or ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Latex(str):
    """A cell that is LaTeX already and is not escaped."""

    __slots__ = ()


def latex(header: Sequence[str], rows: Cells) -> str:
    """The same table for the package booktabs; cells are escaped unless they are ``Latex``."""
    body = [" & ".join(escape_latex(cell) for cell in line) + r" \\" for line in (header, *rows)]
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


def condition(value: str | float) -> str:
    """The value of a condition; numbers have four digits, or all before the point."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def percent(rate: float) -> str:
    """A share as a percentage; a dash where there is none."""
    return f"{100 * rate:.1f} %" if math.isfinite(rate) else "-"


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it, character by character."""
    return text if isinstance(text, Latex) else text.translate(_LATEX)


def _escape_markdown(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether no cell of a column is a word; a number may be in bold."""
    starts = [cell.lstrip("*")[:1] for cell in cells]
    return all(not start or start in "0123456789+-\N{MINUS SIGN}±<>=≤≥" for start in starts)
