"""The whole page: head, sections, style and script in one self-contained file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from polsess.report import charts, sections
from polsess.report.markup import Markup, element, join, table
from polsess.report.players import choose, players
from polsess.report.runs import Group, Run, group_runs
from polsess.report.turns import legend as turns_legend

_HOW_TO_PLAY = (
    "Space plays and pauses; 1 to 9 and the up and down keys switch between the signals without losing the "
    "place; left and right, or a click into a picture, seek. Estimates are played at the level of their "
    "reference."
)
_HOW_TO_JUMP = (
    " Of conversations, the reference is drawn over each system's estimate, one row per speaker, and below "
    "both its errors of 0.1 s and more; a click seeks, e and E go to the next and the previous error."
)


@dataclass(frozen=True)
class ReportOptions:
    """Content of a report."""

    title: str = "Evaluation report"
    column: str = "si_snri"
    """Score to show."""
    num_examples: int = 2
    """Number of players for each of the worst, the median and the best utterances."""
    seconds: float | None = None
    """Length of a player; longer utterances are cut. None for 12 s, and 60 s of conversations."""
    max_megabytes: float = 25.0
    """Largest size of all players together."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """Costs by system; if empty, those that the evaluations recorded."""
    cost_title: str = "cost"


def create_report(
    runs: Sequence[Run], options: ReportOptions | None = None, progress: Callable[[str], None] | None = None
) -> tuple[str, list[str]]:
    """Make the page.

    Args:
        runs: At least one evaluation.
        options: Content of the page.
        progress: Called with the name of every utterance that is read for a player.

    Returns:
        The page, and what is missing in it.

    Raises:
        ConfigError: If names of systems coincide or a run lacks the score.
    """
    options = options or ReportOptions()
    groups = group_runs(runs)
    sections.pick_column(groups, options.column)
    problems: list[str] = []
    parts = []
    for number, group in enumerate(groups):
        part, missing = _group(group, number, options, progress or (lambda _: None))
        parts.append(part)
        problems += missing
    return _page(options.title, groups, parts), problems


def _group(
    group: Group, number: int, options: ReportOptions, progress: Callable[[str], None]
) -> tuple[Markup, list[str]]:
    column = options.column
    costs, cost_title = (options.costs, options.cost_title) if options.costs else _recorded_costs(group)
    choices = choose(group.ranked(column), options.num_examples)
    made, problems = players(
        group, choices, column, options.seconds, round(options.max_megabytes * 1e6), progress
    )
    said = [element("p", each, class_="problem") for each in problems]
    conversations = any(row.timelines for run in group.runs for row in run.evaluation.rows)
    legend, how = (turns_legend(), _HOW_TO_PLAY + _HOW_TO_JUMP) if conversations else ("", _HOW_TO_PLAY)
    listening = sections.section("Listen", legend, *said, *made, note=how) if made or said else Markup()
    first = group.runs[0].evaluation
    rate = first.settings.get("sample_rate", "unknown")
    size = f"{len(first.rows)} utterances, list {first.list_hash}, {rate} Hz"
    named = {
        "Failures": sections.failures(group, column),
        "Scores": sections.scores(group),
        "Comparison": sections.comparisons(group, column),
        "Conditions": sections.conditions(group, column),
        "Quality and cost": sections.quality_and_cost(group, column, costs, cost_title),
        "Distribution": sections.distributions(group, column),
        "Listen": listening,
        "Settings": _settings(group),
    }
    anchors = {
        title: f"data{number + 1}-{title.lower().replace(' ', '-')}" for title, part in named.items() if part
    }
    parts = [
        element("h2", group.title),
        element("p", size, class_="note"),
        element("nav", *(element("a", title, href=f"#{anchor}") for title, anchor in anchors.items())),
        *(element("div", named[title], id=anchor) for title, anchor in anchors.items()),
    ]
    return element("div", *parts, class_="group", id=f"data{number + 1}"), problems


def _recorded_costs(group: Group) -> tuple[dict[str, float], str]:
    """Multiply-accumulates per second of sound where all are known, else the numbers of parameters."""
    origins = {run.name: run.evaluation.origin for run in group.runs}
    if all(origin.get("macs_per_second") for origin in origins.values()):
        macs = {name: float(origin["macs_per_second"]) for name, origin in origins.items()}
        return macs, "multiply-accumulates per second of sound"
    return {name: float(origin.get("parameters", 0)) for name, origin in origins.items()}, "parameters"


def _settings(group: Group) -> Markup:
    """Settings that a reader needs to repeat the numbers."""
    rows = []
    for run in group.runs:
        settings = run.evaluation.settings
        versions = ", ".join(f"{name} {version}" for name, version in settings.get("versions", {}).items())
        cells = (
            settings.get("identity"),
            settings.get("split"),
            settings.get("seed"),
            settings.get("pesq_mode"),
        )
        rows.append([run.name, *(str("-" if cell is None else cell) for cell in cells), versions])
    header = ["system", "digest of the weights or files", "split", "seed", "PESQ", "versions"]
    return element(
        "details", element("summary", "Settings"), table(header, rows, "Settings of the evaluations")
    )


def _page(title: str, groups: Sequence[Group], parts: Sequence[Markup]) -> str:
    style, script = (
        files("polsess.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(style)),
    )
    links = [element("a", group.title, href=f"#data{index + 1}") for index, group in enumerate(groups)]
    body = element(
        "body",
        charts.symbols(),
        element("header", element("h1", title), element("nav", *links) if len(groups) > 1 else ""),
        element("main", *parts),
        element("noscript", "The players need JavaScript."),
        element("script", Markup(script)),
    )
    return join([Markup("<!doctype html>\n"), element("html", head, body, lang="en"), "\n"])
