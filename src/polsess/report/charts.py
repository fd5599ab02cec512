"""Charts as SVG in the page: positions in per cent, so that they fit every width with text of one size.

Systems differ in colour (Okabe and Ito's palette, which colour-blind readers can distinguish) and in the
shape of their marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polsess.report.markup import Attribute, Markup, element

NUM_STYLES = 6
"""Colours and shapes in the style sheet; further systems reuse them."""
_LINE_PIXELS = 18
_EDGE_PIXELS = 4  # above and below the lines of a chart
_PLANE_PIXELS = 300
_NAME_PIXELS = 15
_MAX_POINTS = 2000


@dataclass(frozen=True)
class Scale:
    """Mapping of values to per cent of a width or height."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    @classmethod
    def around(cls, values: Sequence[float], include: Sequence[float] = ()) -> Scale:
        """Round ends around all finite values; an empty scale from 0 to 1 if there are none."""
        finite = [value for value in (*values, *include) if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        step = _round_step((high - low) / 5 or max(abs(high), 1.0) / 5)
        first, last = math.floor(low / step), math.ceil(high / step)
        ticks = tuple(round(index * step, 10) for index in range(first, max(last, first + 1) + 1))
        return cls(ticks[0], ticks[-1], ticks)

    @classmethod
    def logarithmic_around(cls, values: Sequence[float]) -> Scale:
        """Positive values on a logarithmic scale, not less than a factor of four wide."""
        middle = math.sqrt(min(values) * max(values))
        low, high = min(min(values) / 1.3, middle / 2), max(max(values) * 1.3, middle * 2)
        digits = (1, 2, 3, 5) if high / low < 20 else (1, 3) if high / low < 1e3 else (1,)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = [digit * 10.0**power for power in powers for digit in digits]
        return cls(low, high, tuple(tick for tick in every if low <= tick <= high), logarithmic=True)

    def percent(self, value: float) -> float:
        """Position of a value between the ends, 0 to 100."""
        low, high, at = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return 100 * (at - low) / (high - low)


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, drawn as a mark on a bar."""

    mean: float
    low: float
    high: float


def mark(system: int, x: float, y: float | str) -> Markup:
    """The mark of a system; ``x`` in per cent, ``y`` in pixels or as written."""
    style = system % NUM_STYLES
    return element("use", href=f"#mark{style}", x=f"{x:.2f}%", y=y, class_=f"mark s{style}")


def legend(names: Sequence[str]) -> Markup:
    """The marks of the systems with their names."""
    items = [
        element(
            "li",
            element("svg", mark(index, 50, 8), width=18, height=16, aria_hidden="true"),
            element("span", name),
        )
        for index, name in enumerate(names)
    ]
    return element("ul", *items, class_="legend")


def intervals(estimates: Sequence[Estimate], scale: Scale, label: str) -> Markup:
    """One line per system: its mean on its interval, over the ticks of the scale."""
    height = _LINE_PIXELS * len(estimates) + 2 * _EDGE_PIXELS
    parts = _grid(scale, height)
    for index, each in enumerate(estimates):
        y = _EDGE_PIXELS + _LINE_PIXELS * (index + 0.5)
        if math.isfinite(each.low):
            ends: dict[str, Attribute] = {
                "x1": _at(scale, each.low),
                "x2": _at(scale, each.high),
                "y1": y,
                "y2": y,
            }
            parts.append(element("line", class_=f"bar s{index % NUM_STYLES}", **ends))
        if math.isfinite(each.mean):
            parts.append(mark(index, scale.percent(each.mean), y))
    return _picture(parts, height, label)


def axis(scale: Scale, title: str = "") -> Markup:
    """The numbers below a chart."""
    texts = [
        element("text", number_of(tick), x=_at(scale, tick), y=13, text_anchor="middle")
        for tick in scale.ticks
    ]
    if title:
        texts.append(element("text", title, x="50%", y=31, text_anchor="middle", class_="title"))
    return element("svg", *texts, class_="axis", width="100%", height=36 if title else 18, aria_hidden="true")


def histogram(values: Sequence[float], scale: Scale, system: int, label: str) -> Markup:
    """Counts of values between steps of the scale; a dashed line marks the mean."""
    height = 84
    array = np.array([value for value in values if math.isfinite(value)])
    edges = np.linspace(scale.low, scale.high, 41)
    counts, _ = np.histogram(array, edges)
    parts = _grid(scale, height)
    for start, end, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            tall = float((height - 6) * count / counts.max())
            left, right = scale.percent(float(start)), scale.percent(float(end))
            size: dict[str, Attribute] = {
                "x": f"{left:.2f}%",
                "width": f"{right - left:.2f}%",
                "y": height - tall,
                "height": tall,
            }
            parts.append(element("rect", class_=f"count s{system % NUM_STYLES}", **size))
    if len(array):
        x = _at(scale, float(array.mean()))
        parts.append(element("line", x1=x, x2=x, y1=0, y2=height, class_="mean"))
    return _picture(parts, height, label)


def scatter(first: Sequence[float], second: Sequence[float], scale: Scale, label: str) -> Markup:
    """One value against the other in a square; points above the diagonal have the greater second value."""
    points = [(x, y) for x, y in zip(first, second, strict=True) if math.isfinite(x) and math.isfinite(y)]
    step = -(-len(points) // _MAX_POINTS) or 1
    parts = [element("line", x1="0%", y1="100%", x2="100%", y2="0%", class_="zero")]
    for tick in scale.ticks:
        parts.append(element("line", x1=_at(scale, tick), x2=_at(scale, tick), y1="0%", y2="100%"))
        parts.append(element("line", y1=_up(scale, tick), y2=_up(scale, tick), x1="0%", x2="100%"))
        parts.append(element("text", number_of(tick), x=-6, y=_up(scale, tick), class_="side"))
    for x, y in points[::step]:
        parts.append(element("circle", cx=_at(scale, x), cy=_up(scale, y), r=3, class_="point"))
    return element("svg", *parts, class_="square", width="100%", height="100%", role="img", aria_label=label)


def plane(
    costs: Sequence[float],
    scores: Sequence[Estimate],
    names: Sequence[str],
    scale: Scale,
    label: str,
) -> tuple[Markup, Scale]:
    """Scores with intervals over costs, and the scale of the costs; names are beside the marks."""
    height = max(_PLANE_PIXELS, _NAME_PIXELS * (len(names) + 2))
    across = Scale.logarithmic_around(costs)
    heights = _name_heights([each.mean for each in scores], scale, height)
    parts = [element("line", x1=_at(across, t), x2=_at(across, t), y1=0, y2=height) for t in across.ticks]
    for tick in scale.ticks:
        parts.append(element("line", x1="0%", x2="100%", y1=_up(scale, tick), y2=_up(scale, tick)))
        parts.append(element("text", number_of(tick), x=-6, y=_up(scale, tick), class_="side"))
    for index, (cost, score, name) in enumerate(zip(costs, scores, names, strict=True)):
        x = across.percent(cost)
        if math.isfinite(score.low):
            ends = {"y1": _up(scale, score.low), "y2": _up(scale, score.high)}
            parts.append(
                element("line", x1=f"{x:.2f}%", x2=f"{x:.2f}%", class_=f"bar s{index % NUM_STYLES}", **ends)
            )
        parts.append(mark(index, x, _up(scale, score.mean)))
        anchor, distance = ("end", -10) if x > 55 else ("start", 10)
        place: dict[str, Attribute] = {"x": f"{x:.2f}%", "y": heights[index]}
        parts.append(element("text", name, class_="name", dx=distance, text_anchor=anchor, **place))
    return _picture(parts, height, label), across


def _name_heights(values: Sequence[float], scale: Scale, height: float) -> list[float]:
    """Heights of the names in pixels from above: beside the marks, apart, within the chart."""
    heights = [height * (1 - scale.percent(value) / 100) - 6 for value in values]
    order = sorted(range(len(heights)), key=heights.__getitem__)
    highest = -math.inf
    for index in order:
        heights[index] = highest = max(heights[index], highest + _NAME_PIXELS)
    lowest = height
    for index in reversed(order):
        heights[index] = lowest = min(heights[index], lowest)
        lowest -= _NAME_PIXELS
    return heights


def symbols() -> Markup:
    """The marks, once per page."""
    shapes = (
        "M0-5a5 5 0 1 0 .01 0z",
        "M-4.5-4.5h9v9h-9z",
        "M0-6 5.5 4.5h-11z",
        "M0-6.5 6.5 0 0 6.5-6.5 0z",
        "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
        "M0 6 5.5-4.5h-11z",
    )
    paths = [element("path", id=f"mark{index}", d=shape) for index, shape in enumerate(shapes)]
    return element("svg", element("defs", *paths), width=0, height=0, class_="symbols", aria_hidden="true")


def number_of(value: float) -> str:
    """A number as written on an axis."""
    for factor, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{suffix}"
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _picture(parts: Sequence[Markup], height: float, label: str) -> Markup:
    return element("svg", *parts, class_="chart", width="100%", height=height, role="img", aria_label=label)


def _grid(scale: Scale, height: float) -> list[Markup]:
    lines = []
    for tick in scale.ticks:
        x = _at(scale, tick)
        lines.append(element("line", x1=x, x2=x, y1=0, y2=height, class_="zero" if tick == 0 else None))
    return lines


def _at(scale: Scale, value: float) -> str:
    return f"{scale.percent(value):.2f}%"


def _up(scale: Scale, value: float) -> str:
    return f"{100 - scale.percent(value):.2f}%"


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step * 0.999)
