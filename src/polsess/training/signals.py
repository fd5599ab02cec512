"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from polsess.training.failures import TrainingStopped, what_is_kept


class Preempted(TrainingStopped):
    """A signal asked the run to end.

    Args:
        received: The signal.
        checkpoint: The run's last.
        saved: Whether it was written for this, and holds everything.
    """

    def __init__(self, received: signal.Signals, checkpoint: Path, *, saved: bool = True) -> None:
        if saved:
            kept = f"{checkpoint} holds everything: continue with --resume."
        else:
            kept = f"Ended at once, without a save. {what_is_kept(checkpoint)}"
        super().__init__(f"Stopped by {received.name}; {kept}")
        self.received = received


class StopSignals:
    """Remembers a signal until the next step boundary; a second Ctrl-C ends the run at once.

    Args:
        checkpoint: The run's last, for the message.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block, take over Ctrl-C, SIGTERM, SIGHUP (a closed terminal) and SIGUSR1 (SLURM)."""
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
            # A KeyboardInterrupt would be caught by Lightning, which ends the program without a message.
            raise Preempted(signal.SIGINT, self.checkpoint, saved=False)
        self.received = signal.Signals(number)


_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
_STOPPING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
