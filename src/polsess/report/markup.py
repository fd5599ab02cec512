"""HTML and SVG built from parts; all text that is not yet markup is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

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


def table(header: Iterable[str], rows: Iterable[Iterable[str]], caption: str = "") -> Markup:
    """A table whose first column heads its rows; tables wider than the screen scroll separately."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in cells))
        for first, *cells in rows
    ]
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
