"""Rounds, budgets and processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polsess.benchmark import Settings, benchmark_models, parse_variants, read_result
from polsess.benchmark.running import interleave
from polsess.benchmark.summary import stream_cost
from polsess.benchmark.tables import tables
from polsess.benchmark.visits import Case, expected_bytes, expected_seconds
from polsess.cli.main import app
from polsess.workers import Worker, WorkerError
from tests.benchmark.builders import timing

QUICK = Settings(seconds=(0.05, 0.1), rounds=1, training_seconds=0.1, budget_seconds=60.0)


def test_models_take_turns() -> None:
    assert interleave(["a", "b"], 2) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_what_a_longer_mixture_takes_is_foreseen() -> None:
    known = [timing(1.0, 0.5, 100), timing(4.0, 2.0, 1600)]
    assert expected_seconds(Case("inference", 4.0), known) == 4.0  # the median of 2 and 6
    assert expected_seconds(Case("inference", 8.0), known) == 8.0
    assert expected_seconds(Case("inference", 0.5), known) is None
    assert expected_bytes(Case("inference", 8.0), known) == pytest.approx(6400)  # it grew with the square
    assert expected_bytes(Case("inference", 2.0), known[:1]) == pytest.approx(200)
    assert expected_bytes(Case("inference", 8.0), []) is None
    with_caches = [timing(1.0, 0.5, 1100), timing(2.0, 0.5, 1200)]  # 1000 do not grow
    assert expected_bytes(Case("inference", 8.0), with_caches) == pytest.approx(1800)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ((1, 4, 30), 3, 120)),
        (["--quick"], ((1, 4), 1, 20)),
        (["--quick", "--rounds", "3", "--budget-seconds", "300"], ((1, 4), 3, 300)),
        (["--quick", "--seconds", "1,4,30"], ((1, 4, 30), 1, 20)),
    ],
)
def test_quick_is_what_is_not_said_otherwise(
    words: list[str], expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Settings] = []

    def begun(variants: object, settings: Settings, *_: object, **__: object) -> None:  # noqa: ARG001
        found.append(settings)
        raise ValueError("enough")

    monkeypatch.setattr("polsess.benchmark.benchmark_models", begun)
    assert CliRunner().invoke(app, ["benchmark", "blstm:tiny", *words]).exit_code == 1
    assert [(each.seconds, each.rounds, each.budget_seconds) for each in found] == [expected]


def test_a_model_is_measured_in_fresh_processes_and_a_run_goes_on(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    variants = parse_variants(["sudormrf:tiny"])
    made = benchmark_models(variants, QUICK, tmp_path, lambda *step: steps.append(step))
    (model,) = made.models
    assert not model.failure
    (skip,) = model.skips
    assert skip.mode == "streaming"
    assert "sees whole recordings" in skip.reason
    assert model.facts is not None
    assert model.facts.file_bytes > 4 * model.facts.parameters > 0
    assert sum(model.facts.macs_by_kind.values()) == pytest.approx(model.facts.macs_per_second)
    assert [(each.mode, each.seconds) for each in model.timings] == [
        ("inference", 0.05),
        ("inference", 0.1),
        ("training", 0.1),
    ]
    assert all(each.wall and min(each.wall) > 0 for each in model.timings)
    assert len(model.load_seconds) == 2
    assert steps == [(0, 1, "sudormrf:tiny, round 1 of 1"), (1, 1, "done")]
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.csv", "results.md"}
    assert read_result(tmp_path / "results.json").models[0].name == "sudormrf:tiny"


def test_a_causal_network_is_measured_in_pushes(tmp_path: Path) -> None:
    settings = Settings(modes=("streaming",), rounds=2, streaming_seconds=0.2, push_seconds=0.02)
    made = benchmark_models(parse_variants(["gtcrn:tiny"]), settings, tmp_path, lambda *_: None)
    (model,) = made.models
    assert not model.skips
    assert model.facts is not None
    assert model.facts.stream_latency_samples == 511
    assert [(each.round, len(each.wall)) for each in model.timings] == [(1, 10), (2, 10)]
    cost = stream_cost(model)
    assert cost is not None
    wall = [each for timing in model.timings for each in timing.wall]
    assert cost.worst == pytest.approx(max(wall))
    assert cost.realtime_factor == pytest.approx(sum(wall) / 0.4, rel=1e-3)
    (streams,) = [each for each in tables(made) if each.title.startswith("Streaming")]
    assert streams.title == "Streaming: 0.2 s in pushes of 20 ms"
    assert streams.rows[0][:2] == ("`gtcrn:tiny`", "31.9")
    assert "streaming_worst" in (tmp_path / "results.csv").read_text().splitlines()[0]


def test_a_model_that_cannot_be_had_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    variants = parse_variants([], sources=[str(tmp_path / "broken.pt")])
    made = benchmark_models(variants, QUICK, tmp_path / "out", lambda *_: None)
    assert made.models[0].timings == ()
    assert "broken.pt" in made.models[0].failure
    assert "CheckpointError" in made.models[0].failure


def test_a_worker_that_ends_or_is_late_says_so() -> None:
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with (
        Worker((sys.executable, "-c", killed), threads=1) as worker,
        pytest.raises(WorkerError, match="SIGKILL, most likely because memory ran out"),
    ):
        worker.ask("infer")
    with (
        Worker((sys.executable, "-c", "raise SystemExit('no such thing')"), threads=1) as worker,
        pytest.raises(WorkerError, match="code 1: no such thing"),
    ):
        worker.ask("infer")
    with (
        Worker((sys.executable, "-c", "import time; time.sleep(60)"), threads=1) as worker,
        pytest.raises(WorkerError, match="stopped after 0 s"),
    ):
        worker.ask("infer", 0.2)
