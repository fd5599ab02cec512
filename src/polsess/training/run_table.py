"""Several training runs side by side: as text, for documents, papers and programs, and as learning curves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from polsess.dependencies import require
from polsess.files import atomic_path
from polsess.pace import in_words
from polsess.schema import ConfigError, suggest
from polsess.text_tables import comma_separated, fitted, latex, markdown, number
from polsess.training.history import Epoch, PastRun, RunState, differing_keys
from polsess.training.monitor import Monitor

Format = Literal["text", "markdown", "latex", "csv", "json"]

_COLUMNS = {
    "run": "run",
    "state": "state",
    "best": "best score",
    "best_epoch": "at",
    "epochs": "epochs",
    "steps": "steps",
    "time": "time",
    "parameters": "parameters",
}
_IN_LATEX = ("run", "best", "epochs", "time", "parameters")
"""Columns of a LaTeX table, which has to fit a page, unless others are chosen."""
_IN_TEXT = ("run", "state", "best", "best_epoch", "epochs", "time", "parameters")
"""Columns on a terminal, unless others are chosen."""


def render_runs(runs: Sequence[PastRun], form: Format = "text", columns: Sequence[str] = ()) -> str:
    """Runs as a table, the best of each kind of task first, followed by the settings in which they differ.

    Args:
        runs: Result of ``find_runs``.
        form: ``text`` for a terminal, with problems below; ``markdown``, ``latex``, ``csv`` or ``json``.
        columns: ``run``, ``state``, ``best``, ``best_epoch``, ``epochs``, ``steps``, ``time``, ``parameters``
            and settings by their dotted key; all, with the settings that differ, if left out, but in text
            without ``steps``, and in LaTeX ``run``, ``best``, ``epochs``, ``time`` and ``parameters`` alone.

    Raises:
        ConfigError: If a column is neither of these nor a setting of any run, or if the format is JSON, which
            has no columns.
    """
    runs = sorted(runs, key=lambda run: (run.monitor.label != "SI-SNRi", run.monitor.label, -_gain(run)))
    header = _header(runs)
    names, keys = _names(runs), differing_keys(runs)
    if columns and form == "json":
        raise ConfigError("runs: JSON holds everything; leave --columns out.")
    if form == "json":
        records = [_record(run, name, keys) for run, name in zip(runs, names, strict=True)]
        return json.dumps(records, indent=2)
    names_score = "best score" in header
    rows = [_cells(run, name, names_score=names_score) for run, name in zip(runs, names, strict=True)]
    if columns or form == "latex":
        header, rows = _chosen(runs, header, rows, columns or _IN_LATEX)
        draw = {"latex": latex, "csv": comma_separated}.get(form, markdown)
        return draw(header, rows)
    settings = [[_plain(run.settings.get(key, "-")) for key in keys] for run in runs]
    if form != "text":
        draw = {"markdown": markdown, "csv": comma_separated}[form]
        return draw([*header, *keys], [[*row, *more] for row, more in zip(rows, settings, strict=True)])

    def draw_text(labels: Sequence[str]) -> str:
        labelled = [[label, *row[1:]] for label, row in zip(labels, rows, strict=True)]
        table = markdown(*_chosen(runs, header, labelled, _IN_TEXT))
        differences = markdown(["differing setting", *labels], list(zip(keys, *settings, strict=True)))
        return f"{table}\n\n{differences}" if keys else table

    problems = [
        f"{name}: {_plain(each)}" for run, name in zip(runs, names, strict=True) for each in run.problems
    ]
    return "\n\n".join([fitted(draw_text, names), *(["\n".join(problems)] if problems else [])])


def _gain(run: PastRun) -> float:
    return run.monitor.gain(run.best.score) if run.best else -math.inf


def _header(runs: Sequence[PastRun]) -> list[str]:
    """Titles of the columns; the score is named there if all runs have the same, else beside its values."""
    monitors = {run.monitor for run in runs}
    titles = {**_COLUMNS, "best": f"best {runs[0].monitor.title}"} if len(monitors) == 1 else _COLUMNS
    return list(titles.values())


def _chosen(
    runs: Sequence[PastRun], header: Sequence[str], rows: Sequence[list[str]], columns: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the columns that were chosen."""
    settings = dict.fromkeys(key for run in runs for key in run.settings)
    for name in columns:
        if name not in _COLUMNS and name not in settings:
            raise ConfigError(f"runs: no column '{name}'." + suggest(name, [*_COLUMNS, *settings], "Known"))
    places = {name: place for place, name in enumerate(_COLUMNS)}
    chosen = [
        [row[places[name]] if name in places else _plain(run.settings.get(name, "-")) for name in columns]
        for run, row in zip(runs, rows, strict=True)
    ]
    return [header[places[name]] if name in places else name for name in columns], chosen


def draw_curves(runs: Sequence[PastRun], target: Path) -> None:
    """Draw validation score and training loss over the epochs of several runs into one picture.

    Args:
        runs: What ``find_runs`` gave; those without a complete epoch are left out.
        target: The picture, e.g. a .png or .svg.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        ValueError: If no run has a complete epoch.
    """
    require("matplotlib", "Drawing learning curves")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawn = [(run, name) for run, name in zip(runs, _names(runs), strict=True) if run.epochs]
    if not drawn:
        raise ValueError(f"{target}: nothing to draw, no run has a complete epoch yet.")
    figure = Figure(figsize=(11.0, 4.5 + 0.2 * len(drawn)), layout="constrained")
    panels = figure.subplots(1, 2)
    for index, (run, name) in enumerate(drawn):
        epochs = [epoch.number + 1 for epoch in run.epochs]
        style = {"color": f"C{index % 10}", "linestyle": ["-", "--", ":", "-."][index // 10 % 4]}
        marker = "o" if len(epochs) < 3 else None  # a line needs two points
        label = name.replace("$", r"\$")
        panels[0].plot(epochs, [epoch.score for epoch in run.epochs], label=label, marker=marker, **style)
        panels[1].plot(epochs, [epoch.loss for epoch in run.epochs], marker=marker, **style)
        if run.best is not None:
            panels[0].plot(
                run.best.number + 1, run.best.score, marker="*", markersize=9, color=style["color"]
            )
    scores = ", ".join(sorted({run.monitor.title for run, _ in drawn}))
    titles = [f"validation {scores} (star: best)", "training loss"]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower left", ncols=max(1, 110 // (8 + max(len(name) for _, name in drawn))))
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=110)


def _score(monitor: Monitor, best: Epoch | None, *, named: bool) -> str:
    if best is None:
        return "-"
    if named:
        return f"{monitor.show(best.score)} {monitor.label}"
    return number(best.score) if monitor.unit else monitor.show(best.score)


def _cells(run: PastRun, name: str, *, names_score: bool) -> list[str]:
    best, last = run.best, run.epochs[-1] if run.epochs else None
    total = run.settings.get("training.max_epochs", "?")
    return [
        name,
        str(run.state),
        _score(run.monitor, best, named=names_score),
        str(best.number + 1) if best else "-",
        f"{last.number + 1 if last else 0} of {_plain(total)}",
        f"{last.steps:,}" if last else "0",
        in_words(60 * run.minutes),
        _size(run.num_parameters),
    ]


def _record(run: PastRun, name: str, keys: Sequence[str]) -> dict[str, Any]:
    best, last = run.best, run.epochs[-1] if run.epochs else None
    return {
        "run": name,
        "folder": str(run.folder),
        "state": RunState(run.state).value,
        f"best_{run.monitor.key}": best.score if best else None,
        "best_epoch": best.number + 1 if best else None,
        "epochs": last.number + 1 if last else 0,
        "steps": last.steps if last else 0,
        "minutes": round(run.minutes, 2),
        "parameters": run.num_parameters,
        "differing_settings": {key: run.settings.get(key) for key in keys},
        "problems": list(run.problems),
    }


def _names(runs: Sequence[PastRun]) -> list[str]:
    """The last parts of the folders' paths, as many as make them differ."""
    for depth in range(1, 20):
        names = ["/".join(run.folder.resolve().parts[-depth:]) for run in runs]
        if len(set(names)) == len(names):
            break
    return [_plain(name) for name in names]


def _size(num_parameters: int | None) -> str:
    if num_parameters is None:
        return "-"
    return f"{num_parameters / 1e6:.2f} M" if num_parameters >= 1e5 else f"{num_parameters / 1e3:.1f} k"


def _plain(value: Any) -> str:
    """Text of one line that cannot steer a terminal or break a table."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isprintable() and letter != "|" else "?" for letter in text)
