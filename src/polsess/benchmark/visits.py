"""One round of one model: fresh processes, lengths from short to long, within the remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polsess.benchmark.journal import Visit
from polsess.benchmark.results import Facts, Mode, Settings, Skip, Timing
from polsess.benchmark.summary import grown_bytes, percentile
from polsess.measurement import WARM_UP_SECONDS, expected_growth
from polsess.workers import Worker, WorkerError

PROCESS = (sys.executable, "-m", "polsess.benchmark.process")

LONG_SECONDS = 5.0  # a pass as long as that is not repeated within a visit
TARGET_SECONDS, MAX_PASSES = 2.0, 10
_GRACE_SECONDS = 60.0
_COMMANDS: dict[Mode, str] = {"inference": "infer", "training": "train", "streaming": "stream"}


@dataclass(frozen=True)
class Case:
    """One mode with one length of the mixtures, in seconds, and one batch size."""

    mode: Mode
    seconds: float
    batch: int = 1

    def timing(
        self,
        round_number: int,
        wall: Sequence[float],
        cpu: Sequence[float],
        peak_bytes: int | None,
        rest_bytes: int | None,
    ) -> Timing:
        """Return the observations of a round as a timing."""
        return Timing(
            mode=self.mode,
            round=round_number,
            seconds=self.seconds,
            batch=self.batch,
            wall=tuple(wall),
            cpu=tuple(cpu),
            peak_bytes=peak_bytes,
            rest_bytes=rest_bytes,
        )

    def is_of(self, timing: Timing) -> bool:
        """Return whether a timing is of this case."""
        return timing.mode == self.mode and timing.seconds == self.seconds


def cases(settings: Settings, mode: Mode) -> list[Case]:
    """Return the cases of a mode, from short to long."""
    if mode == "training":
        return [Case(mode, settings.training_seconds, settings.training_batch)]
    if mode == "streaming":
        return [Case(mode, settings.push_seconds)]
    return [Case(mode, seconds) for seconds in sorted(settings.seconds)]


def visit_model(
    name: str, folder: Path, facts: Facts, settings: Settings, round_number: int, earlier: Sequence[Visit]
) -> Visit:
    """Measure the cases that the budget allows; each round releases an equal part of it.

    Args:
        name: Name of the model.
        folder: Folder of its weights.
        facts: Of the model; a network that cannot stream is not asked to.
        settings: What to measure.
        round_number: From 1.
        earlier: The visits before.
    """
    released = settings.budget_seconds * round_number / settings.rounds
    left = released - sum(visit.spent_seconds for visit in earlier)
    visitor = _Visitor(settings, round_number, left)
    for mode in settings.modes:
        if mode == "streaming" and facts.stream_obstacle:
            visitor.leave_out(mode, facts.stream_obstacle)
            continue
        known = [timing for visit in earlier for timing in visit.timings if timing.mode == mode]
        with Worker(PROCESS, threads=settings.threads, allocator=settings.allocator) as worker:
            visitor.measure(worker, mode, folder, known)
    return Visit(
        name=name,
        round=round_number,
        spent_seconds=left - visitor.left,
        load_seconds=tuple(visitor.load_seconds),
        timings=tuple(visitor.timings),
        skips=tuple(visitor.skips),
    )


@dataclass
class _Visitor:
    """Observations of one visit; ``left`` are the seconds that passes may still take."""

    settings: Settings
    round_number: int
    left: float
    load_seconds: list[float] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    precision: str = "float32"
    """What the model chose of what was asked for."""

    def leave_out(self, mode: Mode, reason: str) -> None:
        """Record every case of a mode as left out."""
        self.skips += [
            Skip(mode=mode, seconds=case.seconds, reason=reason) for case in cases(self.settings, mode)
        ]

    def measure(self, worker: Worker, mode: Mode, folder: Path, known: Sequence[Timing]) -> None:
        """Measure every case of a mode in one process; after a failure longer ones are not tried."""
        known, failure, rest_bytes = list(known), "", None
        try:
            rest_bytes = self._load(worker, folder)
        except WorkerError as error:
            failure = str(error)
        for case in cases(self.settings, mode):
            reason = failure or _why_not(worker, case, known, self.left, self.settings.device)
            if not reason:
                try:
                    timing = self._run(worker, case, rest_bytes)
                except WorkerError as error:
                    reason = failure = str(error)
                else:
                    known.append(timing)
                    self.timings.append(timing)
            if reason:
                self.skips.append(Skip(mode=mode, seconds=case.seconds, reason=reason))

    def _load(self, worker: Worker, folder: Path) -> int | None:
        """Load and run once on a very short mixture; return the memory of the process at rest."""
        settings = self.settings
        loaded = worker.ask(
            "load",
            folder=str(folder),
            threads=settings.threads,
            device=settings.device,
            precision=settings.precision,
        )
        self.precision = loaded["precision"]
        self.load_seconds.append(loaded["load_seconds"])
        rest: int | None = worker.ask("rest", seconds=WARM_UP_SECONDS)["rest_bytes"]
        return rest

    def _run(self, worker: Worker, case: Case, rest_bytes: int | None) -> Timing:
        """Run a case; its first pass counts only if it is long. Of a stream every push counts."""
        if case.mode == "streaming":
            return self._stream(worker, case, rest_bytes)
        answer = self._ask(worker, case, 1, max(self.left, 0.0) + _GRACE_SECONDS)
        peak, first = answer["peak_bytes"], answer["wall"][0]
        if first < min(LONG_SECONDS, self.left):
            passes = max(1, min(MAX_PASSES, int(min(TARGET_SECONDS, self.left) / first)))
            answer = self._ask(worker, case, passes, 10 * first * passes + _GRACE_SECONDS)
            peak = None if peak is None else max(peak, answer["peak_bytes"])
        timing = case.timing(self.round_number, answer["wall"], answer["cpu"], peak, rest_bytes)
        return timing.model_copy(update={"precision": self.precision})

    def _stream(self, worker: Worker, case: Case, rest_bytes: int | None) -> Timing:
        passes = max(1, round(self.settings.streaming_seconds / case.seconds))
        answer = self._ask(worker, case, passes, max(self.left, 0.0) + _GRACE_SECONDS)
        peak = answer["peak_bytes"]
        return case.timing(self.round_number, answer["wall"], answer["cpu"], peak, rest_bytes)

    def _ask(self, worker: Worker, case: Case, passes: int, timeout_seconds: float) -> dict[str, Any]:
        start = time.monotonic()
        try:
            return ask_to_run(worker, case, passes, timeout_seconds)
        finally:
            self.left -= time.monotonic() - start


def ask_to_run(worker: Worker, case: Case, passes: int, timeout_seconds: float) -> dict[str, Any]:
    """Ask a worker for passes of a case."""
    return worker.ask(
        _COMMANDS[case.mode],
        timeout_seconds,
        seconds=case.seconds,
        batch=case.batch,
        passes=passes,
    )


def _why_not(worker: Worker, case: Case, timings: Sequence[Timing], left: float, device: str) -> str:
    """Return the reason why a case is left out; empty if it is measured."""
    expected = expected_seconds(case, timings)
    if expected is None:  # the shortest mixture is always tried
        return ""
    if expected > left:
        return f"a pass of about {expected:.0f} s does not fit into the time budget of the model"
    needed = expected_bytes(case, timings)
    free = worker.ask("free", device=device)["free_bytes"]
    if needed is not None and free is not None and needed > 0.9 * free:
        return f"needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
    return ""


def expected_seconds(case: Case, timings: Sequence[Timing]) -> float | None:
    """Expect the time of a pass from those of this length, else in proportion from a shorter one."""
    same = [wall for timing in timings if case.is_of(timing) for wall in timing.wall]
    if same:
        return percentile(same, 50)
    shorter = [timing for timing in timings if timing.seconds < case.seconds]
    if not shorter:
        return None
    longest = max(shorter, key=lambda timing: timing.seconds)
    return percentile(longest.wall, 50) * case.seconds / longest.seconds


def expected_bytes(case: Case, timings: Sequence[Timing]) -> float | None:
    """Expect the memory of a pass above the process at rest, by the growth seen at shorter lengths."""
    return expected_growth(grown_bytes(timings), case.seconds)
