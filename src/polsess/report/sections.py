"""The parts of the page that show numbers, from failures to distributions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from polsess.evaluation import Evaluation
from polsess.evaluation.comparison import Comparison, Contender, compare, pairs_table
from polsess.evaluation.system_table import Mark, mark_best
from polsess.evaluation.tables import list_failures
from polsess.metrics import failure_rate, is_improvement, lower_is_better, title_of, unit_of
from polsess.report import charts
from polsess.report.charts import Estimate, Scale
from polsess.report.markup import Markup, element, join, table
from polsess.report.runs import Group, Run
from polsess.schema import ConfigError
from polsess.text_tables import condition, number, percent

_HIDDEN = "si_snr_mixture"
_NUM_WORST = 8
_MAX_SCATTERS = 6
_MAX_STRATA = 30


def section(title: str, *parts: str, note: str = "") -> Markup:
    """A titled part of the page."""
    head = [element("h3", title)] + ([element("p", note, class_="note")] if note else [])
    return element("section", *head, *parts)


def failures(group: Group, column: str) -> Markup:
    """Failures: missing scores by reason, rates below 0 and 5 dB, and the worst utterances."""
    header = ["system", "utterances", "not evaluated", "without a score", "below 0 dB", "below 5 dB"]
    rows = []
    for run in group.runs:
        evaluation = run.evaluation
        values = evaluation.values(column)
        missing = _reasons_of(evaluation, column).total() - evaluation.num_failed
        rates = [percent(failure_rate(values, threshold)) for threshold in (0, 5)]
        counts = [str(len(values)), str(evaluation.num_failed), str(missing)]
        rows.append([run.name, *counts, *rates])
    parts = [table(header, rows, f"Failures by {title_of(column)}"), _reasons(group), _worst(group, column)]
    note = "Below 0 dB an estimate is worse than the mixture itself."
    return section("Failures", *parts, note=note if is_improvement(column) else "")


def _reasons(group: Group) -> Markup:
    rows = [
        [run.name, str(count), names, reason]
        for run in group.runs
        for names, count, reason in list_failures(run.evaluation)
    ]
    header = ["system", "count", "scores", "reason"]
    return table(header, rows, "Why scores are missing", words=header[2:]) if rows else Markup()


def _reasons_of(evaluation: Evaluation, column: str) -> Counter[str]:
    return Counter(row.reason(column) for row in evaluation.rows if not math.isfinite(row.value(column)))


def _worst(group: Group, column: str) -> Markup:
    rows = []
    for run in group.runs:
        finite = [row for row in run.evaluation.rows if math.isfinite(row.value(column))]
        finite.sort(key=lambda row: row.value(column), reverse=lower_is_better(column))
        for row in finite[:_NUM_WORST]:
            conditions = ", ".join(f"{key} {condition(value)}" for key, value in row.metadata.items())
            rows.append([row.identifier, run.name, number(row.value(column)), conditions])
    header = ["utterance", "system", title_of(column), "conditions"]
    content = table(header, rows, "The worst scores", words=("system", "conditions"))
    return element("details", element("summary", "The worst scores"), content)


def scores(group: Group) -> Markup:
    """Every score of every system: the mean with its interval, the median, and the best system."""
    columns = [name for name in group.runs[0].evaluation.columns if name != _HIDDEN]
    marks = {name: _marks(group, name) for name in columns}
    rows = []
    for index, run in enumerate(group.runs):
        known = [name for name in columns if name in run.evaluation.columns]
        rows.append([run.name, *(_score_cell(run, name, marks[name][index]) for name in known)])
    header = ["system", *(title_of(name) for name in columns)]
    note = (
        "Mean and, below it, its 95 % interval, which allows for speakers that recur where the data names "
        "them, and the median."
    )
    if any("best" in each for each in marks.values()):
        note += " \N{BLACK STAR} marks the best mean, \N{DAGGER} those that are not shown to differ from it."
    return section("Scores", table(header, rows, "Means over utterances with 95 % intervals"), note=note)


def _marks(group: Group, column: str) -> list[Mark]:
    """The mark of every system; none where they cannot be compared."""
    none: list[Mark] = [""] * len(group.runs)
    if len(group.runs) < 2:
        return none
    try:
        comparison = compare([Contender(run.name, (run.evaluation,)) for run in group.runs], column)
    except ConfigError:
        return none
    return mark_best(comparison, [run.evaluation.summary(column).mean for run in group.runs])


def _score_cell(run: Run, column: str, mark: Mark) -> Markup:
    summary = run.evaluation.summary(column)
    between = (
        f"{number(summary.low)} to {number(summary.high)}" if math.isfinite(summary.low) else "no interval"
    )
    sign = {"best": " \N{BLACK STAR}", "tied": " \N{DAGGER}", "": ""}[mark]
    mean = element("strong", number(summary.mean), sign, class_=mark or None)
    return join([mean, element("small", between, element("br"), f"median {number(summary.median)}")])


def conditions(group: Group, column: str) -> Markup:
    """A chart per condition of the data: every system's mean in every stratum."""
    keys = dict.fromkeys(key for run in group.runs for key in run.evaluation.condition_keys())
    parts = [each for key in keys if (each := _condition(group, key, column))]
    if not parts:
        parts = [element("p", "The data names no conditions that split its utterances.")]
    else:
        parts.insert(0, charts.legend(group.names))
    note = (
        f"Mean {title_of(column)} with 95 % intervals; numbers of many values are split at their quartiles."
    )
    return section("Conditions", *parts, note=note)


def _condition(group: Group, key: str, column: str) -> Markup | None:
    strata = [run.evaluation.strata(key) for run in group.runs]
    labels = list(dict.fromkeys(label for each in strata for label in each))[:_MAX_STRATA]
    found = {label: [_estimate(each.get(label), column) for each in strata] for label in labels}
    ends = [end for row in found.values() for each in row for end in (each.low, each.high, each.mean)]
    if not any(map(math.isfinite, ends)):
        return None
    scale = Scale.around(ends)
    rows = []
    for label, row in found.items():
        said = ", ".join(f"{name} {number(each.mean)}" for name, each in zip(group.names, row, strict=True))
        picture = charts.intervals(row, scale, f"{label}: {said}")
        count = max(len(each[label].rows) for each in strata if label in each)
        means = [element("span", number(each.mean)) for each in row]
        cells = (element("td", picture, class_="picture"), element("td", *means, class_="means"))
        rows.append(element("tr", element("th", label, element("small", f"n {count}"), scope="row"), *cells))
    rows.append(
        element("tr", element("td"), element("td", charts.axis(scale), class_="picture"), element("td"))
    )
    caption = element("caption", _name_of_condition(key))
    return element("table", caption, element("tbody", *rows), class_="strata")


def comparisons(group: Group, column: str) -> Markup:
    """Paired tests of the systems, and each pair utterance by utterance; nothing for one system."""
    if len(group.runs) < 2:
        return Markup()
    contenders = [Contender(run.name, (run.evaluation,)) for run in group.runs]
    try:
        comparison = compare(contenders, column)
    except ConfigError as error:
        return section("Comparison", element("p", f"Not compared: {error}"))
    unit = unit_of(column)
    sentences = [
        element("li", f"{each.verdict(first.name, second.name, unit)} (p {each.p_value:.2g})")
        for first, second, each in comparison.pairs
    ]
    header, rows = pairs_table(comparison)
    plots = element("div", *_scatters(comparison), class_="scatters")
    note = (
        "Intervals (95 %) and p (t-test, corrected after Holm) allow for speakers that recur in other "
        "utterances. A point above the diagonal is an utterance that the second system did better. What "
        "another training seed would change is not covered."
    )
    listed = table(header, rows, f"Differences in {title_of(column)}")
    return section("Comparison", element("ul", *sentences), listed, plots, note=note)


def _scatters(comparison: Comparison) -> list[Markup]:
    figures = []
    for first, second, difference in comparison.pairs[:_MAX_SCATTERS]:
        one, other = ([float(v) for v in each.values(comparison.column)[0]] for each in (first, second))
        scale = Scale.around([*one, *other])
        said = (
            f"{second.name} better on {100 * difference.share_better:.0f} % of {difference.count} utterances"
        )
        chart = element("div", charts.scatter(one, other, scale, said), class_="box")
        caption = element("figcaption", said, element("small", f"up: {second.name}, right: {first.name}"))
        figures.append(element("figure", chart, charts.axis(scale), caption))
    return figures


def quality_and_cost(group: Group, column: str, costs: Mapping[str, float], cost_title: str) -> Markup:
    """Scores over costs, for systems whose cost is known; nothing for fewer than two."""
    known = [run for run in group.runs if costs.get(run.name, 0) > 0]
    if len(known) < 2:
        return Markup()
    names = [run.name for run in known]
    estimates = [_estimate(run.evaluation, column) for run in known]
    scale = Scale.around([end for each in estimates for end in (each.low, each.high, each.mean)])
    values = [costs[name] for name in names]
    label = "; ".join(
        f"{name}: {charts.number_of(cost)}, {number(each.mean)}"
        for name, cost, each in zip(names, values, estimates, strict=True)
    )
    chart, across = charts.plane(values, estimates, names, scale, label)
    without = [run.name for run in group.runs if run not in known]
    note = f"{title_of(column)} with 95 % interval over {cost_title}, logarithmic."
    note += f" No cost is known of {', '.join(without)}." if without else ""
    return section(
        "Quality and cost", element("div", chart, charts.axis(across, cost_title), class_="plot"), note=note
    )


def distributions(group: Group, column: str) -> Markup:
    """A histogram per system on one scale."""
    everything = [value for run in group.runs for value in run.evaluation.values(column)]
    scale = Scale.around(everything)
    parts = []
    for index, run in enumerate(group.runs):
        summary = run.evaluation.summary(column)
        said = f"{run.name}: mean {number(summary.mean)}, median {number(summary.median)}, n {summary.count}"
        chart = charts.histogram(run.evaluation.values(column), scale, index, said)
        parts.append(element("figure", element("figcaption", said), chart))
    return section(
        "Distribution",
        *parts,
        charts.axis(scale, title_of(column)),
        note="Utterances by score; the dashed line is the mean.",
    )


def _estimate(evaluation: Evaluation | None, column: str) -> Estimate:
    if evaluation is None:
        return Estimate(math.nan, math.nan, math.nan)
    summary = evaluation.summary(column)
    return Estimate(summary.mean, summary.low, summary.high)


def _name_of_condition(key: str) -> str:
    known: Mapping[str, str] = {
        "ssr_db": "level of speaker 1 over speaker 2 (SSR) [dB]",
        "sexes": "sexes of the speakers",
        "scene": "scene class",
        "decay": "reverberation: decay",
        "location": "indoor or outdoor (reverberation indoors only)",
    }
    return title_of(key) if key == _HIDDEN else known.get(key, key.replace("_", " "))


def pick_column(groups: Sequence[Group], wanted: str) -> str:
    """Select the score that the report shows.

    Raises:
        ConfigError: If a run lacks it.
    """
    for group in groups:
        for run in group.runs:
            if wanted not in run.evaluation.columns:
                known = ", ".join(run.evaluation.columns)
                raise ConfigError(f"report: {run.name} has no score '{wanted}'. It has: {known}.")
    return wanted
