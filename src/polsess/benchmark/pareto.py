"""A picture of published quality against measured cost: arithmetic, time, memory, parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polsess.benchmark.results import ModelResult, Result
from polsess.benchmark.summary import costs
from polsess.dependencies import require
from polsess.files import atomic_path
from polsess.overview import Score, published_scores

_FIXED, _DYNAMIC, _UNSTATED = "fixed mixtures", "dynamic mixing", "mixing not stated"
_MARKERS = {_FIXED: ("o", True), _DYNAMIC: ("o", False), _UNSTATED: ("s", False)}
_COLOUR, _FRONT = "#0b6e99", "0.75"


@dataclass(frozen=True)
class Point:
    """A model in one panel."""

    name: str
    cost: float
    decibels: float
    training: str
    absolute: bool


def draw_pareto(result: Result, target: Path) -> bool:
    """Draw WSJ0-2mix scores as published over the costs of a result, one panel per kind of cost.

    Args:
        result: A run of models.
        target: The picture, e.g. a .png or .svg.

    Returns:
        Whether a score was known and the picture drawn.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    require("matplotlib", "Drawing quality against cost")
    from matplotlib.figure import Figure

    length = _common_length(result)
    panels: dict[str, Callable[[ModelResult], float | None]] = {
        "GMAC per second of audio": lambda model: model.facts.macs_per_second / 1e9 if model.facts else None,
        f"real-time factor ({length:g} s, {result.settings.threads} thread)": lambda model: _rtf(
            model, length
        ),
        f"memory above the resting process, MB ({length:g} s)": lambda model: _memory(model, length),
        "parameters, millions": lambda model: model.facts.parameters / 1e6 if model.facts else None,
    }
    found = {title: points(result.models, cost) for title, cost in panels.items()}
    if not any(found.values()):
        return False
    figure = Figure(figsize=(13.0, 9.5), layout="constrained")
    grid = list(figure.subplots(2, 2).flat)
    for axes, (title, chosen) in zip(grid, found.items(), strict=True):
        _draw_panel(axes, title, chosen)
    drawn = next(axes for axes, chosen in zip(grid, found.values(), strict=True) if chosen)
    figure.legend(*drawn.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(
        "WSJ0-2mix as published (SI-SNRi; triangle: absolute SI-SNR) over costs measured here. "
        "Dynamic mixing adds up to 2 dB.",
        fontsize=11,
    )
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=110)
    return True


def points(models: Sequence[ModelResult], cost: Callable[[ModelResult], float | None]) -> list[Point]:
    """Return a point per published score of a configuration that was measured."""
    return [
        Point(model.name, value, score.value, _training(score), score.metric != "SI-SNRi")
        for model in models
        if model.facts and not model.own_weights and (value := cost(model))
        for score in published_scores(model.name, "WSJ0-2mix")
    ]


def pareto_front(chosen: Sequence[Point]) -> list[Point]:
    """Return the points that no cheaper point equals or exceeds, by cost."""
    front: list[Point] = []
    for point in sorted(chosen, key=lambda each: (each.cost, -each.decibels)):
        if not front or point.decibels > front[-1].decibels:
            front.append(point)
    return front


def _draw_panel(axes: Any, title: str, chosen: Sequence[Point]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xlabel=title, ylabel="dB")
    if not chosen:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    front = pareto_front([point for point in chosen if point.training == _FIXED])
    axes.plot(
        [point.cost for point in front],
        [point.decibels for point in front],
        color=_FRONT,
        drawstyle="steps-post",
        zorder=1,
        label="best at that cost, fixed mixtures",
    )
    for training, (marker, filled) in _MARKERS.items():
        of_kind = [point for point in chosen if point.training == training]
        for absolute in (False, True):
            some = [point for point in of_kind if point.absolute is absolute]
            axes.scatter(
                [point.cost for point in some],
                [point.decibels for point in some],
                marker="^" if absolute else marker,
                facecolors=_COLOUR if filled else "white",
                edgecolors=_COLOUR,
                zorder=2,
                label=None if absolute else training,
            )
    for point in chosen:
        lines = sum(_hides(other, point) for other in chosen)
        axes.annotate(
            point.name,
            (point.cost, point.decibels),
            textcoords="offset points",
            xytext=(5, -1 - 9 * lines if lines else 4),
            fontsize=7.5,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.14, y=0.08)
    axes.grid(color="0.93")


def _hides(other: Point, point: Point) -> bool:
    """Return whether a label above ``point`` would overlap that of a point that is a little higher."""
    near = 0.8 < other.cost / point.cost < 1.25
    return near and other.name != point.name and 0 <= other.decibels - point.decibels < 0.5


def _common_length(result: Result) -> float:
    """Return the length at which most models were measured; of several, the nearest to 4 s."""
    counts = {
        seconds: sum(seconds in costs(model, "inference") for model in result.models)
        for seconds in result.settings.seconds
    }
    return max(counts, key=lambda seconds: (counts[seconds], -abs(seconds - 4.0)))


def _rtf(model: ModelResult, length: float) -> float | None:
    cost = costs(model, "inference").get(length)
    return cost.realtime_factor if cost else None


def _memory(model: ModelResult, length: float) -> float | None:
    cost = costs(model, "inference").get(length)
    return cost.grown_bytes / 1e6 if cost and cost.grown_bytes else None


def _training(score: Score) -> str:
    return {True: _DYNAMIC, False: _FIXED, None: _UNSTATED}[score.dynamic_mixing]
