"""Signals that ask a command to stop: it leaves its blocks in order, so that nothing half-written stays."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the request of a scheduler or ``kill``, and a closed terminal."""

_FIRST, _LAST = 1, 3
"""The signal that stops a command, and the one that ends it at once, whatever it is doing."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to stop.

    Args:
        received: The signal.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received.name)
        self.received = received


class _Signals:
    """The signals that came, and the steps during which they wait."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self.count = 0
        self.held = 0
        self.waiting = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        self.first = self.first or signal.Signals(number)
        self.count += 1
        if self.count >= _LAST:
            os._exit(128 + number)
        if self.count > _FIRST:
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, b"Stopping; once more ends it at once.\n")
        elif self.held:
            self.waiting = True
        else:
            raise Interrupted(self.first)

    def release(self) -> None:
        if self.waiting and not self.held and self.first is not None:
            self.waiting = False
            raise Interrupted(self.first)


_signals = _Signals()


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within the block, each of ``STOPPING`` raises ``Interrupted`` in the main thread; a third ends all.

    A signal that was ignored before stays so (``nohup``, commands in the background of a script).
    """
    global _signals
    if threading.current_thread() is not threading.main_thread():  # signals never reach another
        yield
        return
    _signals = _Signals()
    taken = {number: signal.getsignal(number) for number in heeded(STOPPING)}
    for number in taken:
        signal.signal(number, lambda number, frame: _signals.receive(number, frame))
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
        _signals = _Signals()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let signals wait until the end of the block, a step of milliseconds that must not be cut in two."""
    if threading.current_thread() is not threading.main_thread():  # signals never reach another
        yield
        return
    _signals.held += 1
    try:
        yield
    finally:
        _signals.held -= 1
    _signals.release()


def heed() -> None:
    """In a thread that signals never reach: end as the main thread does where one has asked for it.

    Raises:
        Interrupted: There, if a signal came.
    """
    if threading.current_thread() is not threading.main_thread() and _signals.first is not None:
        raise Interrupted(_signals.first)


def received() -> signal.Signals | None:
    """The first signal that asked this command to stop; None if there was none."""
    return _signals.first


def heeded(numbers: tuple[signal.Signals, ...]) -> tuple[signal.Signals, ...]:
    """Those signals that whoever started this process did not tell it to ignore."""
    return tuple(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)
