"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from polsess.training.failures import TrainingStopped


class Preempted(TrainingStopped):
    """A signal asked the run to end; the last checkpoint holds everything."""

    def __init__(self, received: signal.Signals, checkpoint: Path) -> None:
        super().__init__(
            f"Stopped by {received.name}; {checkpoint} holds everything: continue with --resume."
        )
        self.received = received


class StopSignals:
    """Remembers a signal until the next step boundary; handlers do nothing else."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to SIGINT, SIGTERM and SIGUSR1 (preemption, SLURM's warning) within the block."""
        old = {number: signal.getsignal(number) for number in _STOPPING}
        self.install()
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals over, also from a library that has done so meanwhile."""
        for number in _STOPPING:
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once
        self.received = signal.Signals(number)


_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
