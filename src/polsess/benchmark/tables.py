"""The tables of a result and the files that a finished run writes: JSON, CSV, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polsess.benchmark.journal import JOURNAL, RESULT
from polsess.benchmark.results import Conditions, Facts, ModelResult, Result, Settings, Skip, result_text
from polsess.benchmark.summary import (
    Cost,
    Spread,
    costs,
    memory_exponent,
    stream_cost,
    time_exponent,
)
from polsess.costs import MAC_SECONDS
from polsess.files import write_texts
from polsess.schema import Schema
from polsess.text_tables import comma_separated, markdown

TABLE, DOCUMENT, PICTURE = "results.csv", "results.md", "pareto.png"

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """A titled table."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table below its title as a heading, or a line of text without rows."""
        body = markdown(self.header, self.rows) if self.rows else "Nothing was measured."
        return f"### {self.title}\n\n{body}\n"


def write_outputs(result: Result, folder: Path) -> None:
    """Write the files of a finished run and remove its journal."""
    save_outputs(result, full_table(result), render(result), folder)


def save_outputs(result: Schema, table: Table, document: str, folder: Path) -> None:
    """Write a result, its table and its document together, and remove the journal."""
    texts = {
        RESULT: result_text(result),
        TABLE: comma_separated(table.header, table.rows),
        DOCUMENT: document,
    }
    write_texts({folder / name: text for name, text in texts.items()})
    (folder / JOURNAL).unlink(missing_ok=True)


def render(result: Result) -> str:
    """Return conditions and tables in Markdown, ending with a newline."""
    apart = [f"- {line}\n" for model in result.models if (line := _measured_apart(model, result))]
    head, tail = render_tables(result.conditions, result.settings, tables(result)).split("\n\n", 1)
    return f"{head}\n{''.join(apart)}\n{tail}"


def render_tables(conditions: Conditions, settings: Settings, chosen: Sequence[Table]) -> str:
    """Return the conditions as a list, then the tables; in Markdown, ending with a newline."""
    head = "\n".join(f"- {line}" for line in describe_conditions(conditions, settings))
    return "\n".join([head + "\n", *(table.markdown() for table in chosen)])


def describe_conditions(conditions: Conditions, settings: Settings) -> list[str]:
    """Return the conditions as sentences."""
    load = "unknown"
    if conditions.load_before is not None and conditions.load_after is not None:
        load = f"{conditions.load_before:.1f} before, {conditions.load_after:.1f} after"
    memory = "" if conditions.memory_gib is None else f", {conditions.memory_gib:.0f} GiB"
    kernels = "in use where a model has one" if conditions.kernels else "not in use"
    products = conditions.products and f"; products by {conditions.products}"
    gflops = conditions.matrix_gflops
    peak = "" if gflops is None else f"; matrix peak {gflops:.0f} GFLOP/s of one processor"
    return [
        f"Machine: {conditions.processor}, {conditions.num_processors} processors{memory}, "
        f"{conditions.system}; device {conditions.device}.",
        f"Date: {conditions.date}; load average {load}.",
        f"Software: polsess {conditions.polsess}, PyTorch {conditions.torch}, Python {conditions.python}; "
        f"C++ kernels {kernels}{products}{peak}.",
        f"Settings: {settings.threads} thread(s), precision {settings.precision}, batch 1, "
        f"allocator {settings.allocator}, "
        f"{settings.rounds} round(s), at most {settings.budget_seconds:g} s per network.",
    ]


def _measured_apart(model: ModelResult, result: Result) -> str:
    """Where, when and under what load a model was measured apart from the others; empty if it was not."""
    if model.conditions is None or model.settings is None:
        return ""
    before, after = model.conditions.load_before, model.conditions.load_after
    processor, gflops = result.other_processor(model), model.conditions.matrix_gflops
    peak = "" if gflops is None else f", matrix peak {gflops:.0f} GFLOP/s"
    place = f"on **{processor}**{peak}, " if processor else ""
    compare = (
        "Times do not compare with the others."
        if processor
        else "CPU seconds compare; latencies need equal load."
    )
    return (
        f"Measured apart: `{model.name}`, {place}{model.conditions.date}; load average {before} before, "
        f"{after} after; at most {model.settings.budget_seconds:g} s. {compare}"
    )


def tables(result: Result) -> list[Table]:
    """Return every table that has something to show."""
    modes, found = result.settings.modes, [sizes_table(result)]
    found += [time_table(result), memory_table(result)] if "inference" in modes else []
    found += [training_table(result)] if "training" in modes else []
    return [*found, *(each for each in (streaming_table(result), left_out_table(result)) if each.rows)]


def sizes_table(result: Result) -> Table:
    """Parameters, MACs by kind, look-ahead, file and loading."""
    kinds = _kinds(result)
    header = ("model", "parameters", "GMAC/s", *kinds, "Hz", "look-ahead", "file MB", "load s")
    rows = []
    for model in result.models:
        facts = model.facts
        if facts is None:
            continue
        load = seconds_text(_median(model.load_seconds)) if model.load_seconds else MISSING
        by_kind = (_giga(facts.macs_by_kind.get(kind, 0.0)) for kind in kinds)
        rows.append(
            (
                f"`{model.name}`",
                f"{facts.parameters / 1e6:.2f} M",
                _giga(facts.macs_per_second),
                *by_kind,
                str(facts.sample_rate),
                look_ahead(facts),
                f"{facts.file_bytes / 1e6:.1f}",
                load,
            )
        )
    return Table("Size and arithmetic", header, tuple(rows))


def time_table(result: Result) -> Table:
    """Latency and real-time factor of every length, how CPU time grows, and the share of the matrix peak."""
    header = ["model"]
    for seconds in result.settings.seconds:
        header += [f"{seconds:g} s: latency (p95) s", "quartiles", "RTF", "CPU s"]
    rows = []
    for model in result.models:
        found, exponent = costs(model, "inference"), time_exponent(model)
        cells = [cell for seconds in result.settings.seconds for cell in _time_cells(found.get(seconds))]
        rows.append((_label(model), *cells, optional_text(exponent), _share_of_peak(model, result)))
    return Table("Inference: time", (*header, "growth of CPU time", "of matrix peak"), tuple(rows))


def _share_of_peak(model: ModelResult, result: Result) -> str:
    """Operations per CPU second, near the length they are counted on, as a share of those of large products.

    In longer mixtures attention has more of them.
    """
    found = costs(model, "inference")
    peak = (model.conditions or result.conditions).matrix_gflops
    if model.facts is None or not found or peak is None:
        return MISSING
    seconds, cost = min(found.items(), key=lambda each: abs(each[0] - MAC_SECONDS))
    return f"{100 * 2e-9 * model.facts.macs_per_second * seconds / cost.cpu.median / peak:.0f} %"


def _label(model: ModelResult) -> str:
    """The name, with the precision where it is reduced."""
    reduced = {timing.precision for timing in model.timings} - {"float32"}
    return " ".join((f"`{model.name}`", *(f"({precision})" for precision in sorted(reduced))))


def memory_table(result: Result) -> Table:
    """Peak and growth above the loaded model of every length, and the power of the growth."""
    header = ["model"]
    for seconds in result.settings.seconds:
        header += [f"{seconds:g} s: peak MB", "above rest MB"]
    rows = []
    for model in result.models:
        found = costs(model, "inference")
        cells = [cell for seconds in result.settings.seconds for cell in _memory_cells(found.get(seconds))]
        rows.append((f"`{model.name}`", *cells, optional_text(memory_exponent(model))))
    return Table("Inference: memory", (*header, "exponent"), tuple(rows))


def training_table(result: Result) -> Table:
    """Time and memory of a training step."""
    settings = result.settings
    header = ("model", "step s", "quartiles", "CPU s", "steps", "peak MB", "above rest MB")
    rows = []
    for model in result.models:
        for cost in costs(model, "training").values():
            times = (
                seconds_text(cost.latency.median),
                range_text(cost.latency),
                seconds_text(cost.cpu.median),
            )
            rows.append((f"`{model.name}`", *times, str(cost.latency.count), *_memory_cells(cost)))
    title = f"Training: a step of {settings.training_batch} x {settings.training_seconds:g} s"
    return Table(title, header, tuple(rows))


def streaming_table(result: Result) -> Table:
    """Latency, real-time factor and pushes of the networks that can stream."""
    settings = result.settings
    factors, times = ("RTF", "RTF (CPU)"), ("push ms", "p95 ms", "worst ms", "worst CPU ms")
    header = ("model", "latency ms", *factors, *times, "pushes")
    rows = []
    for model in result.models:
        cost = stream_cost(model)
        if cost is None:
            continue
        milliseconds = (1000 * each for each in (cost.push.median, cost.p95, cost.worst, cost.worst_cpu))
        rows.append(
            (
                f"`{model.name}`",
                f"{stream_latency_ms(model):.1f}",
                seconds_text(cost.realtime_factor),
                seconds_text(cost.cpu_factor),
                *map(seconds_text, milliseconds),
                str(cost.push.count),
            )
        )
    title = f"Streaming: {settings.streaming_seconds:g} s in pushes of {1000 * settings.push_seconds:g} ms"
    return Table(title, header, tuple(rows))


def stream_latency_ms(model: ModelResult) -> float:
    """Algorithmic latency of a network that streams, in milliseconds."""
    assert model.facts is not None
    assert model.facts.stream_latency_samples is not None
    return 1000 * model.facts.stream_latency_samples / model.facts.sample_rate


def left_out_table(result: Result) -> Table:
    """Measurements that are missing, with their reasons."""
    rows = [(f"`{model.name}`", "everything", model.failure) for model in result.models if model.failure]
    rows += [row for model in result.models for row in skip_rows(model.name, model.skips)]
    return Table("Left out", ("model", "what", "reason"), tuple(rows))


def skip_rows(name: str, skips: Sequence[Skip]) -> list[tuple[str, str, str]]:
    """A row for every measurement of a model that is missing."""
    return [(f"`{name}`", f"{skip.mode}, {skip.seconds:g} s", skip.reason) for skip in skips]


def full_table(result: Result) -> Table:
    """Every figure in plain units for other programs, a row per model."""
    rows = [_figures(model, result) for model in result.models]
    return table_of_figures(rows)


def table_of_figures(rows: Sequence[Mapping[str, object]]) -> Table:
    """A table with a column for every key of the rows."""
    header = tuple(dict.fromkeys(key for row in rows for key in row))
    cells = tuple(tuple(_text(row.get(key)) for key in header) for row in rows)
    return Table("All figures", header, cells)


def _figures(model: ModelResult, result: Result) -> dict[str, object]:
    facts = model.facts.model_dump() if model.facts else {}
    by_kind = {f"macs_{kind}": macs for kind, macs in facts.pop("macs_by_kind", {}).items()}
    found: dict[str, object] = {"name": model.name, **facts, **by_kind}
    found["load_seconds"] = _median(model.load_seconds) if model.load_seconds else None
    found |= {"time_exponent": time_exponent(model), "memory_exponent": memory_exponent(model)}
    for mode in (each for each in result.settings.modes if each != "streaming"):
        for seconds, cost in costs(model, mode).items():
            figures = flat(asdict(cost))
            found |= {f"{mode}_{seconds:g}s_{figure}": value for figure, value in figures.items()}
    if (streamed := stream_cost(model)) is not None:
        found |= {f"streaming_{figure}": value for figure, value in flat(asdict(streamed)).items()}
    skips = [f"{skip.mode} {skip.seconds:g} s: {skip.reason}" for skip in model.skips]
    return found | {"left_out": "; ".join([*([model.failure] if model.failure else []), *skips])}


def flat(figures: dict[str, Any]) -> dict[str, object]:
    """``{"latency": {"median": 1}}`` to ``{"latency_median": 1}``."""
    flat: dict[str, object] = {}
    for key, value in figures.items():
        flat |= (
            {f"{key}_{part}": each for part, each in value.items()}
            if isinstance(value, dict)
            else {key: value}
        )
    return flat


def look_ahead(facts: Facts) -> str:
    """Return the look-ahead of an estimate in milliseconds; ``all`` is the whole utterance."""
    if not facts.causal or facts.look_ahead_samples is None:
        return "all"
    return f"{1000 * facts.look_ahead_samples / facts.sample_rate:.1f} ms"


def _kinds(result: Result) -> list[str]:
    """Return the kinds of arithmetic that some model has, those with most MACs first."""
    sums: dict[str, float] = {}
    for model in result.models:
        for kind, macs in (model.facts.macs_by_kind if model.facts else {}).items():
            sums[kind] = sums.get(kind, 0.0) + macs
    return [kind for kind, total in sorted(sums.items(), key=lambda item: -item[1]) if total > 0]


def _time_cells(cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return (MISSING,) * 4
    latency = f"{seconds_text(cost.latency.median)} ({seconds_text(cost.p95)})"
    return (
        latency,
        range_text(cost.latency),
        seconds_text(cost.realtime_factor),
        seconds_text(cost.cpu.median),
    )


def _memory_cells(cost: Cost | None) -> tuple[str, ...]:
    values = (cost.peak_bytes, cost.grown_bytes) if cost else (None, None)
    return tuple(MISSING if value is None else f"{value / 1e6:.0f}" for value in values)


def range_text(values: Spread) -> str:
    """Quartiles of a spread, for a table."""
    return f"{seconds_text(values.low)}-{seconds_text(values.high)}"


def seconds_text(value: float) -> str:
    """Format a time or ratio with three digits."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _giga(macs: float) -> str:
    return f"{macs / 1e9:.2f}"


def optional_text(value: float | None) -> str:
    """Two decimals, or a dash for a value that is missing."""
    return MISSING if value is None else f"{value:.2f}"


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _median(values: tuple[float, ...]) -> float:
    return sorted(values)[len(values) // 2]
