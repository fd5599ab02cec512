from __future__ import annotations

import math
import os
import sys
from typing import Any

import numpy as np
import pytest

from polsess.metrics import pool as pool_module
from polsess.metrics.pool import Job, ScorePool, default_workers
from polsess.processes import create_pool


class Bomb(np.ndarray[Any, Any]):
    """An array that ends the process which unpickles it, as a crash in compiled code would."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_crash_costs_one_utterance() -> None:
    signals = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    good = Job("good", (signals, signals, signals.sum(0)))
    bad = Job("bad", (signals, signals, signals.sum(0).view(Bomb)))
    nothing: Job[str] = Job("nothing", None)
    with ScorePool(1, 8000, ("si_snr",)) as pool:
        results = dict(pool.map([bad, nothing, good]))
    assert list(results) == ["bad", "nothing", "good"]
    assert results["bad"].reasons["si_snri"] == "si_snr crashed its process"
    assert all(math.isnan(value) for value in results["bad"].values["si_snri"])
    assert results["nothing"].values == {}
    assert results["good"].values["si_snr"] == (100.0, 100.0)


def test_processes_that_never_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "create_pool", lambda count, *_: create_pool(count, (), sys.exit))
    signals = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    with ScorePool(1, 8000, ("si_snr",)) as pool, pytest.raises(RuntimeError, match="__name__ == '__main__'"):
        list(pool.map([Job("good", (signals, signals, signals.sum(0)))]))


def test_processes_are_started_where_they_pay() -> None:
    assert default_workers(("si_snr",), 1000) == 0
    assert default_workers(("si_snr", "stoi"), 3) == 0
    assert default_workers(("si_snr", "stoi"), 1000) >= 1
