"""The tables of a result, as header and rows of text; ``polsess.text_tables`` draws them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from polsess.benchmark.results import Facts, ModelResult, PeerResult, Result
from polsess.benchmark.spread import Spread
from polsess.benchmark.summary import Cost, costs, memory_exponent, ratios, time_exponent
from polsess.text_tables import markdown

_NONE = "-"


@dataclass(frozen=True)
class Table:
    """A titled table."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """With its title as a heading; a line of text where there are no rows."""
        body = markdown(self.header, self.rows) if self.rows else "Nothing was measured."
        return f"### {self.title}\n\n{body}\n"


def tables(result: Result) -> list[Table]:
    """Every table that has something to show."""
    found = [sizes_table(result), time_table(result), memory_table(result), training_table(result)]
    found = found if result.models else []
    if result.peers:
        found += [peers_table(result), agreement_table(result)]
    left_out = left_out_table(result)
    return [*found, left_out] if left_out.rows else found


def sizes_table(result: Result) -> Table:
    """Parameters, MACs by kind, look-ahead, file and loading."""
    kinds = _kinds(result)
    header = ("model", "parameters", "GMAC/s", *kinds, "Hz", "look-ahead", "file MB", "load s")
    rows = []
    for model in result.models:
        facts = model.facts
        if facts is None:
            continue
        load = _time(_median(model.load_seconds)) if model.load_seconds else _NONE
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
    """Latency and real-time factor of every length, and how CPU time grows."""
    header = ["model"]
    for seconds in result.settings.seconds:
        header += [f"{seconds:g} s: latency (p95) s", "quartiles", "RTF", "CPU s"]
    rows = []
    for model in result.models:
        found, exponent = costs(model, "inference"), time_exponent(model)
        cells = [cell for seconds in result.settings.seconds for cell in _time_cells(found.get(seconds))]
        rows.append((f"`{model.name}`", *cells, _optional(exponent)))
    return Table("Inference: time", (*header, "growth of CPU time"), tuple(rows))


def memory_table(result: Result) -> Table:
    """Peak and growth above the loaded model of every length, and the power of the growth."""
    header = ["model"]
    for seconds in result.settings.seconds:
        header += [f"{seconds:g} s: peak MB", "above rest MB"]
    rows = []
    for model in result.models:
        found = costs(model, "inference")
        cells = [cell for seconds in result.settings.seconds for cell in _memory_cells(found.get(seconds))]
        rows.append((f"`{model.name}`", *cells, _optional(memory_exponent(model))))
    return Table("Inference: memory", (*header, "exponent"), tuple(rows))


def training_table(result: Result) -> Table:
    """A step there and back with the optimiser."""
    settings = result.settings
    header = ("model", "step s", "quartiles", "CPU s", "steps", "peak MB", "above rest MB")
    rows = []
    for model in result.models:
        for cost in costs(model, "training").values():
            times = (_time(cost.latency.median), _range(cost.latency), _time(cost.cpu.median))
            rows.append((f"`{model.name}`", *times, str(cost.latency.count), *_memory_cells(cost)))
    title = f"Training: a step of {settings.training_batch} x {settings.training_seconds:g} s"
    return Table(title, header, tuple(rows))


def peers_table(result: Result) -> Table:
    """How many times as fast as the peer."""
    header = (
        "network",
        "what",
        "times as fast",
        "quartiles",
        "peer s",
        "ours s",
        "peer / our memory",
        "rounds",
    )
    rows = []
    for peer in result.peers:
        for ratio in ratios(peer, result.settings):
            rows.append(
                (
                    f"`{peer.name}`",
                    f"{ratio.mode}, {ratio.seconds:g} s",
                    f"{ratio.times.median:.2f}",
                    _range(ratio.times),
                    _time(ratio.theirs),
                    _time(ratio.ours),
                    _optional(ratio.memory),
                    str(ratio.times.count),
                )
            )
    return Table("Against other toolkits", header, tuple(rows))


def agreement_table(result: Result) -> Table:
    """How equal the outputs are; a network that is not has no ratio."""
    header = ("network", "largest error", "relative error", "SI-SNR dB of ours re theirs", "verdict")
    rows = []
    for peer in result.peers:
        found = peer.agreement
        numbers = (_NONE, _NONE, _NONE)
        if found:
            numbers = (f"{found.max_error:.0e}", f"{found.relative_error:.0e}", f"{found.si_snr_db:.0f}")
        rows.append((f"`{peer.name}`", *numbers, f"refused: {peer.refused}" if peer.refused else "equal"))
    return Table("Agreement of the outputs", header, tuple(rows))


def left_out_table(result: Result) -> Table:
    """What was not measured, and why."""
    rows = [(f"`{model.name}`", "everything", model.failure) for model in result.models if model.failure]
    measured: list[ModelResult | PeerResult] = [*result.models, *result.peers]
    for each in measured:
        rows += [(f"`{each.name}`", f"{skip.mode}, {skip.seconds:g} s", skip.reason) for skip in each.skips]
    return Table("Left out", ("model", "what", "reason"), tuple(rows))


def full_table(result: Result) -> Table:
    """Every figure in plain units for other programs: a row per model, or per ratio to a peer."""
    rows = [_figures(model, result) for model in result.models]
    rows += [
        {"network": peer.name, **_flat(asdict(ratio)), "refused": peer.refused}
        for peer in result.peers
        for ratio in ratios(peer, result.settings)
    ]
    header = tuple(dict.fromkeys(key for row in rows for key in row))
    cells = tuple(tuple(_text(row.get(key)) for key in header) for row in rows)
    return Table("All figures", header, cells)


def _figures(model: ModelResult, result: Result) -> dict[str, object]:
    facts = model.facts.model_dump() if model.facts else {}
    by_kind = {f"macs_{kind}": macs for kind, macs in facts.pop("macs_by_kind", {}).items()}
    found: dict[str, object] = {"name": model.name, **facts, **by_kind}
    found["load_seconds"] = _median(model.load_seconds) if model.load_seconds else None
    found |= {"time_exponent": time_exponent(model), "memory_exponent": memory_exponent(model)}
    for mode in result.settings.modes:
        for seconds, cost in costs(model, mode).items():
            figures = _flat(asdict(cost))
            found |= {f"{mode}_{seconds:g}s_{figure}": value for figure, value in figures.items()}
    skips = [f"{skip.mode} {skip.seconds:g} s: {skip.reason}" for skip in model.skips]
    return found | {"left_out": "; ".join([*([model.failure] if model.failure else []), *skips])}


def _flat(figures: dict[str, Any]) -> dict[str, object]:
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
    """How far an estimate looks ahead, in milliseconds; ``all`` is the whole utterance."""
    if not facts.causal or facts.look_ahead_samples is None:
        return "all"
    return f"{1000 * facts.look_ahead_samples / facts.sample_rate:.1f} ms"


def _kinds(result: Result) -> list[str]:
    """Kinds of arithmetic that some model has, those with most first."""
    sums: dict[str, float] = {}
    for model in result.models:
        for kind, macs in (model.facts.macs_by_kind if model.facts else {}).items():
            sums[kind] = sums.get(kind, 0.0) + macs
    return [kind for kind, total in sorted(sums.items(), key=lambda item: -item[1]) if total > 0]


def _time_cells(cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return (_NONE,) * 4
    latency = f"{_time(cost.latency.median)} ({_time(cost.p95)})"
    return latency, _range(cost.latency), _time(cost.realtime_factor), _time(cost.cpu.median)


def _memory_cells(cost: Cost | None) -> tuple[str, ...]:
    values = (cost.peak_bytes, cost.grown_bytes) if cost else (None, None)
    return tuple(_NONE if value is None else f"{value / 1e6:.0f}" for value in values)


def _range(values: Spread) -> str:
    return f"{_time(values.low)}-{_time(values.high)}"


def _time(value: float) -> str:
    """Three digits, for times and ratios from milliseconds to minutes."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _giga(macs: float) -> str:
    return f"{macs / 1e9:.2f}"


def _optional(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _median(values: tuple[float, ...]) -> float:
    return sorted(values)[len(values) // 2]
