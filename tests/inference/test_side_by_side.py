"""Calls side by side: results in order, few at once, errors that reach the caller, nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import Samples
from polsess.inference import Separator
from polsess.inference.passes import Course, Passes
from polsess.inference.side_by_side import ONE_THREAD, Threads, side_by_side
from polsess.inference.torch_networks import TorchEstimator, torch_threads
from tests.inference.oracle import FunctionModel
from tests.inference.scripted import RATE, ScriptedDetector, ScriptedEmbedder, in_band
from tests.inference.test_gated import CONVERSATION

CPU = torch.device("cpu")
TWO = Threads(2, lambda _: None)
SECONDS = 20.0
"""After which a test that waits for what does not come fails."""


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_two_run_at_once_and_results_come_in_order() -> None:
    second_is_done = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(SECONDS)
        if item == 1:
            second_is_done.set()
        return 10 * item

    assert list(side_by_side(call, range(7), TWO)) == [0, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(("threads", "items"), [(ONE_THREAD, 5), (TWO, 1), (TWO, 0)])
def test_what_gains_nothing_from_threads_stays_in_the_thread_of_the_caller(
    threads: Threads, items: int
) -> None:
    callers = list(side_by_side(lambda _: threading.current_thread(), range(items), threads))
    assert callers == [threading.current_thread()] * items


def test_items_are_taken_shortly_before_their_turn_in_one_thread() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            assert threading.current_thread() is threading.main_thread()
            taken.append(item)
            yield item

    for result in side_by_side(lambda item: item, items(), TWO):
        assert len(taken) <= result + 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_reaches_the_caller_and_ends_the_others(error: type[BaseException]) -> None:
    begun: list[int] = []

    def call(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise error("of the fourth")
        return item

    results: list[int] = []
    with pytest.raises(error, match="of the fourth"):
        results += side_by_side(call, range(1000), TWO)
    assert len(begun) < 10


def test_whoever_takes_no_more_results_ends_the_calls() -> None:
    begun: list[int] = []
    for result in side_by_side(begun.append, range(1000), TWO):
        assert result is None
        break
    assert len(begun) < 10


@pytest.mark.usefixtures("two_threads")
def test_each_call_has_its_share_of_the_threads_of_torch_which_stay_as_they_were() -> None:
    both, begun_elsewhere = threading.Barrier(2), []

    def call(item: int) -> int:
        both.wait(SECONDS)
        if item == 0:
            other = threading.Thread(target=lambda: begun_elsewhere.append(torch.get_num_threads()))
            other.start()
            other.join()
        return torch.get_num_threads()

    assert list(side_by_side(call, range(4), torch_threads(CPU))) == [1, 1, 1, 1]
    assert torch.get_num_threads() == 2
    assert begun_elsewhere == [2]
    assert torch_threads(torch.device("cuda")).calls == 1
    torch.set_default_dtype(torch.float64)
    try:
        assert torch_threads(CPU).calls == 1
    finally:
        torch.set_default_dtype(torch.float32)
    assert Threads(64, lambda _: None).calls == 4


def two_voices(mixture: Tensor) -> Tensor:
    return torch.stack([in_band(mixture, 0), in_band(mixture, 1)], 1)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("options", [{"gate": "always"}, {"gate": "never", "segment_seconds": 5.0}])
def test_a_recording_comes_out_as_with_one_thread(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polsess.inference.hearing._BLOCK_SECONDS", 2.0)
    if options["gate"] == "always":
        enhancer = FunctionModel(lambda sound: 0.9 * sound.unsqueeze(1), 1)
        networks = {"detector": ScriptedDetector(), "embedder": ScriptedEmbedder(), "enhancer": enhancer}
        options = options | networks
    results = []
    for number in (1, 2):
        torch.set_num_threads(number)
        shares: list[float] = []
        separator = Separator(FunctionModel(two_voices), device="cpu", **options)  # type: ignore[arg-type]
        results.append(separator.separate(CONVERSATION.sum(0), RATE, progress=shares.append))
        assert shares == sorted(shares)
    torch.testing.assert_close(results[0].sources, results[1].sources, rtol=0, atol=1e-6)
    turns = [result.timeline.turns if result.timeline else () for result in results]
    assert [replace(turn, confidence=None) for turn in turns[0]] == [
        replace(turn, confidence=None) for turn in turns[1]
    ]


@pytest.mark.parametrize("passes_that_fit", [None, 2, 1])
def test_batches_of_a_course_go_through_the_network_side_by_side_where_the_memory_holds_them(
    passes_that_fit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier, names = threading.Barrier(2), set()

    def estimate(mixture: Tensor) -> Tensor:
        names.add(threading.current_thread().name)
        if passes_that_fit != 1:
            barrier.wait(SECONDS)
        return 2 * mixture.unsqueeze(1)

    free = None if passes_that_fit is None else passes_that_fit * 2 * 8192 * 800
    monkeypatch.setattr("polsess.inference.passes.free_memory", lambda: free)
    monkeypatch.setattr("polsess.inference.passes.process_memory", lambda: None)
    batches = [np.full((1, length), length, np.float32) for length in (800, 640, 700, 800)]

    def course() -> Course[list[Samples] | None]:
        estimates = yield batches
        yield None
        return estimates

    passes = Passes(TorchEstimator(FunctionModel(estimate, 1).eval(), CPU), 1, TWO)
    estimates = passes.alone(course())
    assert estimates is not None
    for batch, estimated in zip(batches, estimates, strict=True):
        np.testing.assert_array_equal(estimated, 2 * batch[:, None])
    assert len(names) == (1 if passes_that_fit == 1 else 2)


@pytest.mark.usefixtures("two_threads")
def test_a_pass_that_fails_beside_another_ends_the_recording() -> None:
    def broken(mixture: Tensor) -> Tensor:
        if len(model.calls) >= 3:
            raise RuntimeError("in the third piece")
        return torch.stack([mixture, mixture], 1)

    model = FunctionModel(broken)
    separator = Separator(model, device="cpu", gate="never", segment_seconds=0.5, overlap=0.0)
    with pytest.raises(RuntimeError, match="in the third piece"):
        separator.separate(torch.randn(20 * RATE), RATE)
    assert len(model.calls) < 10
    assert torch.get_num_threads() == 2
