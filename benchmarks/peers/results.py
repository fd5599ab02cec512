"""Results of the comparison with other toolkits: stored observations, ratios round by round, tables.

The file has the keys of the benchmark's result file, with ``peers`` in place of ``models``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from polsess.benchmark.results import Conditions, Mode, Settings, Skip, Timing, read_result_of
from polsess.benchmark.summary import Spread, grown_bytes, percentile, spread
from polsess.benchmark.tables import (
    MISSING,
    Table,
    flat,
    optional_text,
    range_text,
    render_tables,
    save_outputs,
    seconds_text,
    skip_rows,
    table_of_figures,
)
from polsess.schema import Schema


class Agreement(Schema):
    """How far our estimate is from the peer's on the same weights and the same mixture."""

    seconds: float
    max_error: float
    relative_error: float
    si_snr_db: float


class PeerResult(Schema):
    """One network of another toolkit and ours with its weights.

    ``ours`` and ``theirs`` have a timing per round, of two passes each, in the order ours, theirs,
    theirs, ours. ``refused`` says why there is no ratio.
    """

    name: str
    toolkit_version: str = ""
    peer_torch: str = ""
    agreement: Agreement | None = None
    refused: str = ""
    ours: tuple[Timing, ...] = ()
    theirs: tuple[Timing, ...] = ()
    skips: tuple[Skip, ...] = ()


class PeersResult(Schema):
    """A run of the comparison."""

    format_version: Literal[1] = 1
    conditions: Conditions
    settings: Settings
    peers: tuple[PeerResult, ...]


def read_peers(path: Path) -> PeersResult:
    """Read a result file.

    Raises:
        FileNotFoundError: If there is none.
        ConfigError: If it is no result of a comparison.
    """
    return read_result_of(PeersResult, path, "python benchmarks/against.py -o FOLDER")


@dataclass(frozen=True)
class Ratio:
    """A peer's time over ours, of one mode and length, by the clock that ``clock`` names.

    Attributes:
        times: Over the rounds; above 1 we are faster.
        ours: Median seconds of a pass.
        theirs: Likewise.
        precision: What ours ran in.
        their_precision: Likewise.
        memory: Their growth of memory over ours; None where it was not told or nothing grew.
    """

    mode: Mode
    seconds: float
    clock: str
    times: Spread
    ours: float
    theirs: float
    memory: float | None
    precision: str
    their_precision: str


def ratios(peer: PeerResult, settings: Settings) -> list[Ratio]:
    """Return the ratios of every mode and length; none for a peer that was refused."""
    if peer.refused:
        return []
    # CPU seconds of one thread are disturbed less by other programs.
    clock = "cpu" if settings.device == "cpu" and settings.threads == 1 else "wall"
    measured = dict.fromkeys((timing.mode, timing.seconds) for timing in peer.ours)
    return [_ratio(peer, mode, seconds, clock) for mode, seconds in measured]


def _ratio(peer: PeerResult, mode: Mode, seconds: float, clock: str) -> Ratio:
    ours, theirs = (
        [timing for timing in side if timing.mode == mode and timing.seconds == seconds]
        for side in (peer.ours, peer.theirs)
    )
    rounds = zip(ours, theirs, strict=True)
    quotients = [sum(_clock(other, clock)) / sum(_clock(own, clock)) for own, other in rounds]
    grown, their_grown = (grown_bytes(side).get(seconds) for side in (ours, theirs))
    return Ratio(
        mode=mode,
        seconds=seconds,
        clock=clock,
        times=spread(quotients),
        ours=percentile([each for timing in ours for each in _clock(timing, clock)], 50),
        theirs=percentile([each for timing in theirs for each in _clock(timing, clock)], 50),
        memory=their_grown / grown if grown and their_grown else None,
        precision=ours[0].precision,
        their_precision=theirs[0].precision,
    )


def _clock(timing: Timing, clock: str) -> tuple[float, ...]:
    return timing.cpu if clock == "cpu" else timing.wall


def write_outputs(result: PeersResult, folder: Path) -> None:
    """Write the files of a finished run and remove its journal."""
    table = table_of_figures(
        [
            {"network": peer.name, **flat(asdict(ratio)), "refused": peer.refused}
            for peer in result.peers
            for ratio in ratios(peer, result.settings)
        ]
    )
    save_outputs(result, table, render(result), folder)


def render(result: PeersResult) -> str:
    """Return conditions and tables in Markdown, ending with a newline."""
    found = [peers_table(result), agreement_table(result)]
    rows = tuple(row for peer in result.peers for row in skip_rows(peer.name, peer.skips))
    left_out = Table("Left out", ("model", "what", "reason"), rows)
    return render_tables(result.conditions, result.settings, [*found, left_out] if rows else found)


def peers_table(result: PeersResult) -> Table:
    """Ratios of time and memory to the peers."""
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
                    f"{ratio.mode}, {ratio.seconds:g} s{_reduced(ratio)}",
                    f"{ratio.times.median:.2f}",
                    range_text(ratio.times),
                    seconds_text(ratio.theirs),
                    seconds_text(ratio.ours),
                    optional_text(ratio.memory),
                    str(ratio.times.count),
                )
            )
    return Table("Against other toolkits", header, tuple(rows))


def _reduced(ratio: Ratio) -> str:
    """The precision of both where it is not float32 alone."""
    if ratio.precision == ratio.their_precision == "float32":
        return ""
    return f", ours {ratio.precision} and theirs {ratio.their_precision}"


def agreement_table(result: PeersResult) -> Table:
    """Differences of the outputs; a network beyond the limit has no ratio."""
    header = ("network", "largest error", "relative error", "SI-SNR dB of ours re theirs", "verdict")
    rows = []
    for peer in result.peers:
        found = peer.agreement
        numbers = (MISSING, MISSING, MISSING)
        if found:
            numbers = (f"{found.max_error:.0e}", f"{found.relative_error:.0e}", f"{found.si_snr_db:.0f}")
        rows.append((f"`{peer.name}`", *numbers, f"refused: {peer.refused}" if peer.refused else "equal"))
    return Table("Agreement of the outputs", header, tuple(rows))
