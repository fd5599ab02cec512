"""Comparison with other toolkits: the same weights, outputs compared first, passes interleaved."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.peers.networks import PEERS
from benchmarks.peers.results import Agreement, PeerResult, PeersResult, write_outputs
from polsess.benchmark.journal import Plan, StepJournal
from polsess.benchmark.results import Settings, Skip, Timing
from polsess.benchmark.running import Progress
from polsess.benchmark.visits import Case, ask_to_run, cases, expected_seconds
from polsess.folder_lock import locked
from polsess.machine import load_average
from polsess.measurement import WARM_UP_SECONDS
from polsess.schema import ConfigError, suggest
from polsess.workers import Worker, WorkerError

OURS = (sys.executable, str(Path(__file__).with_name("ours.py")))
THEIRS = Path(__file__).with_name("theirs.py")
AGREEMENT_SECONDS = 1.0
MAX_RELATIVE_ERROR = 1e-4
ORDER = ("ours", "theirs", "theirs", "ours")
_TIMEOUT_SECONDS = 600.0


def select_peers(names: Sequence[str], toolkits: Sequence[str]) -> list[str]:
    """Select the peers' networks of some architectures in some toolkits; without names, all of them.

    Raises:
        ConfigError: If a toolkit is unknown or a name has no counterpart there.
    """
    known = sorted({peer.toolkit for peer in PEERS.values()})
    for toolkit in toolkits:
        if toolkit not in known:
            raise ConfigError(f"--against: unknown toolkit '{toolkit}'." + suggest(toolkit, known, "Known"))
    offered = [name for name, peer in PEERS.items() if peer.toolkit in toolkits]
    chosen = [name for name in offered if not names or {name, PEERS[name].model_type} & set(names)]
    for name in names:
        if not any(name in {each, PEERS[each].model_type} for each in chosen):
            what = f"{name}: {' and '.join(toolkits)} have no such network that is read here."
            raise ConfigError(what + suggest(name, offered, "There are"))
    return chosen


def benchmark_peers(
    names: Sequence[str],
    toolkits: Sequence[str],
    settings: Settings,
    folder: Path,
    progress: Progress,
    *,
    python: Path | None = None,
    overwrite: bool = False,
) -> PeersResult:
    """Compare with other toolkits, or continue an interrupted run, and write the result files.

    Args:
        names: Architectures or keys of ``PEERS``; all of them if empty.
        toolkits: Names of the toolkits.
        settings: Settings of both sides.
        folder: Folder that receives the files.
        progress: Receives every step.
        python: Interpreter of the environment that has the toolkits; this one if left out.
        overwrite: Whether to remove another run from the folder.

    Raises:
        ConfigError: If a toolkit or a name is unknown.
        FileNotFoundError: If there is no such interpreter.
    """
    if python is not None and not python.is_file():
        raise FileNotFoundError(f"--python {python}: no such file; name the Python of an environment.")
    chosen = select_peers(names, toolkits)
    command = (str(python or sys.executable), str(THEIRS))
    with locked(folder, "benchmarks/against.py"):
        return _compare_all(chosen, settings, folder, progress, command, overwrite=overwrite)


def _compare_all(
    chosen: Sequence[str],
    settings: Settings,
    folder: Path,
    progress: Progress,
    command: Sequence[str],
    *,
    overwrite: bool,
) -> PeersResult:
    plan = Plan(settings=settings, names=tuple(chosen))
    journal = StepJournal(plan, PeerResult, folder, overwrite=overwrite)
    done = {peer.name for peer in journal.entries}
    for index, name in enumerate(chosen):
        progress(index, len(chosen), name)
        if name not in done:
            journal.add(compare_peer(name, settings, command))
    progress(len(chosen), len(chosen), "done")
    conditions = journal.conditions.model_copy(update={"load_after": load_average()})
    found = {peer.name: peer for peer in journal.entries}
    result = PeersResult(
        conditions=conditions, settings=settings, peers=tuple(found[name] for name in chosen)
    )
    write_outputs(result, folder)
    return result


def compare_peer(name: str, settings: Settings, peer_command: Sequence[str]) -> PeerResult:
    """Compare one network; there are no times unless both sides give the same outputs.

    Args:
        name: A key of ``PEERS``.
        settings: Lengths, modes and limits of the measurement.
        peer_command: Command that runs the peer's process.
    """
    comparison = Comparison(name, settings, peer_command)
    try:
        with tempfile.TemporaryDirectory(prefix="polsess-peer-") as workplace:
            comparison.run(Path(workplace))
    except WorkerError as error:
        comparison.refused = str(error)
    return comparison.result()


class Comparison:
    """Both sides of one network, in two processes that alternate."""

    def __init__(self, name: str, settings: Settings, peer_command: Sequence[str]) -> None:
        self.name, self.settings, self.peer_command = name, settings, peer_command
        self.left = settings.budget_seconds
        self.loaded: dict[str, Any] = {}
        self.precision = {"ours": "float32", "theirs": "float32"}
        self.agreement: Agreement | None = None
        self.refused = ""
        self.timings: dict[str, list[Timing]] = {"ours": [], "theirs": []}
        self.skips: list[Skip] = []

    def run(self, workplace: Path) -> None:
        """Compare the outputs, then the costs; every mode in fresh processes."""
        for mode in self.settings.modes:
            with ExitStack() as stack:
                sides = self._start(stack, workplace)
                rest = {
                    side: worker.ask("rest", seconds=WARM_UP_SECONDS)["rest_bytes"]
                    for side, worker in sides.items()
                }  # before anything longer, whose memory the process may keep
                if self.agreement is None:
                    self._compare_outputs(sides, workplace)
                if self.refused:
                    return
                for case in cases(self.settings, mode):
                    self._measure(sides, case, rest)

    def result(self) -> PeerResult:
        """Return the result so far."""
        return PeerResult(
            name=self.name,
            toolkit_version=self.loaded.get("version", ""),
            peer_torch=self.loaded.get("torch", ""),
            agreement=self.agreement,
            refused=self.refused,
            ours=tuple(self.timings["ours"]),
            theirs=tuple(self.timings["theirs"]),
            skips=tuple(self.skips),
        )

    def _start(self, stack: ExitStack, workplace: Path) -> dict[str, Worker]:
        settings, state, folder = self.settings, workplace / "state.pt", workplace / "ours"
        both: dict[str, Any] = {
            "threads": settings.threads,
            "device": settings.device,
            "precision": settings.precision,
        }
        theirs = Worker(self.peer_command, threads=settings.threads, allocator=settings.allocator)
        stack.enter_context(theirs)
        self.loaded = theirs.ask("load", name=self.name, state=str(state), **both)
        if not folder.exists():
            with Worker(OURS, threads=settings.threads) as converter:  # its memory must not count as ours
                converter.ask("convert", name=self.name, state=str(state), folder=str(folder))
        ours = stack.enter_context(Worker(OURS, threads=settings.threads, allocator=settings.allocator))
        self.precision["ours"] = ours.ask("load", folder=str(folder), **both)["precision"]
        self.precision["theirs"] = self.loaded.get("precision", "float32")
        return {"ours": ours, "theirs": theirs}

    def _compare_outputs(self, sides: dict[str, Worker], workplace: Path) -> None:
        """Refuse a ratio if the outputs of both in float32 differ."""
        file = str(workplace / "estimate.pt")
        sides["theirs"].ask("estimate", seconds=AGREEMENT_SECONDS, file=file)
        found = sides["ours"].ask("agree", file=file)
        self.agreement = Agreement(seconds=AGREEMENT_SECONDS, **found)
        if not self.agreement.relative_error <= MAX_RELATIVE_ERROR:  # also if it is not a number
            self.refused = (
                f"the outputs differ: relative error {self.agreement.relative_error:.1e}, "
                f"at most {MAX_RELATIVE_ERROR:.0e} is taken for equal"
            )

    def _measure(self, sides: dict[str, Worker], case: Case, rest: dict[str, int | None]) -> None:
        """Measure rounds of ours, theirs, theirs, ours, as many as fit into the budget."""
        expected = [
            expected_seconds(case, _of_mode(timings, case)) or 0.0 for timings in self.timings.values()
        ]
        if 3 * sum(expected) > self.left:  # a pass each and a round
            reason = f"passes of about {max(expected):.0f} s do not fit into the time budget of the network"
            self.skips.append(Skip(mode=case.mode, seconds=case.seconds, reason=reason))
            return
        try:
            slowest = max(self._pass(worker, case)["wall"][0] for worker in sides.values())
            for number in range(1, self.settings.rounds + 1):
                if number > 1 and 4 * slowest > self.left:
                    return
                self._round(sides, case, rest, number)
        except WorkerError as error:
            self.skips.append(Skip(mode=case.mode, seconds=case.seconds, reason=str(error)))

    def _round(self, sides: dict[str, Worker], case: Case, rest: dict[str, int | None], number: int) -> None:
        answers = [(side, self._pass(sides[side], case)) for side in ORDER]
        for side in sides:
            own = [answer for name, answer in answers if name == side]
            peaks = [answer["peak_bytes"] for answer in own if answer["peak_bytes"] is not None]
            wall, cpu = ([answer[key][0] for answer in own] for key in ("wall", "cpu"))
            peak = max(peaks, default=None)
            timing = case.timing(number, wall, cpu, peak, rest[side])
            self.timings[side].append(timing.model_copy(update={"precision": self.precision[side]}))

    def _pass(self, worker: Worker, case: Case) -> dict[str, Any]:
        start = time.monotonic()
        try:
            return ask_to_run(worker, case, 1, _TIMEOUT_SECONDS)
        finally:
            self.left -= time.monotonic() - start


def _of_mode(timings: Sequence[Timing], case: Case) -> list[Timing]:
    return [timing for timing in timings if timing.mode == case.mode]
