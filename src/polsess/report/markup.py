"""HTML and SVG built from parts; all text that is not yet markup is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_VOID = frozenset({"br", "img", "input", "meta"})
Attribute = str | float | bool | None


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: Attribute) -> Markup:
    """An element.

    Args:
        name: Name of the element.
        *children: Content; plain text is escaped.
        **attributes: ``class_`` is ``class``, other underscores are hyphens; None and False leave an
            attribute out, True leaves it without a value.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Concatenate parts; plain text is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in parts))


def table(
    header: Sequence[str], rows: Iterable[Iterable[str]], caption: str = "", *, words: Sequence[str] = ()
) -> Markup:
    """A table whose first column heads its rows; tables wider than the screen scroll separately.

    Args:
        header: A cell per column.
        rows: The others.
        caption: Names the table.
        words: Columns of text, which begins at the left; numbers end at the right.
    """
    kinds = ["words" if cell in words else None for cell in header]
    heads = zip(header, kinds, strict=True)
    head = element("tr", *(element("th", cell, scope="col", class_=kind) for cell, kind in heads))
    body = []
    for first, *cells in rows:
        rest = zip(cells, kinds[1:], strict=False)  # a system may lack the last scores
        columns = (element("td", cell, class_=kind) for cell, kind in rest)
        body.append(element("tr", element("th", first, scope="row"), *columns))
    parts = [element("caption", caption)] if caption else []
    content = element("table", *parts, element("thead", head), element("tbody", *body))
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=caption or "Table")


def _attribute(key: str, value: Attribute) -> str:
    name = key.removesuffix("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
