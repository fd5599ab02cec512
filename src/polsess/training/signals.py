"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from polsess.interruption import STOPPING, heeded
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
        self._taken: tuple[signal.Signals, ...] = ()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block, take over Ctrl-C, SIGTERM, SIGHUP (a closed terminal) and SIGUSR1 (SLURM)."""
        old = {number: signal.getsignal(number) for number in heeded(_STOPPING)}
        self._taken = tuple(old)
        self.install()
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals over, also from a library that has done so meanwhile."""
        for number in self._taken:
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            # A KeyboardInterrupt would be caught by Lightning, which ends the program without a message.
            raise Preempted(signal.SIGINT, self.checkpoint, saved=False)
        self.received = signal.Signals(number)


_STOPPING = (*STOPPING, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
