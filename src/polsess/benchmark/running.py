"""The benchmark of models: all in turn, round after round, every visit in fresh processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from polsess.benchmark.conditions import load_average
from polsess.benchmark.journal import Journal, Plan, Preparation, Visit, open_journal
from polsess.benchmark.outputs import write_outputs
from polsess.benchmark.process import OURS, Worker, WorkerError
from polsess.benchmark.results import ModelResult, Result, Settings, Skip
from polsess.benchmark.variants import Variant
from polsess.benchmark.visiting import ours_allocator, visit_model
from polsess.schema import parse

Progress = Callable[[int, int, str], None]
"""Steps done, steps in all, what comes next."""


def run_models(
    variants: Sequence[Variant], settings: Settings, journal: Journal, progress: Progress
) -> Result:
    """Measure what the journal does not hold yet, and put everything together."""
    done = {(visit.round, visit.name) for variant in variants for visit in journal.visits(variant.name)}
    steps = interleave([variant.name for variant in variants], settings.rounds)
    by_name = {variant.name: variant for variant in variants}
    with tempfile.TemporaryDirectory(prefix="polsess-benchmark-") as workplace:
        for index, (round_number, name) in enumerate(steps):
            progress(index, len(steps), f"{name}, round {round_number} of {settings.rounds}")
            if (round_number, name) in done:
                continue
            folder = Path(workplace) / name.replace(":", "-")
            preparation = _prepare(by_name[name], folder, settings, journal)
            if not preparation.failure:
                visit = visit_model(name, folder, settings, round_number, journal.visits(name))
                journal.add(visit=visit)
    progress(len(steps), len(steps), "done")
    conditions = journal.conditions.model_copy(update={"load_after": load_average()})
    models = tuple(_collect(variant, journal) for variant in variants)
    return Result(conditions=conditions, settings=settings, models=models)


def benchmark_models(
    variants: Sequence[Variant],
    settings: Settings,
    folder: Path,
    progress: Progress,
    *,
    overwrite: bool = False,
) -> Result:
    """Measure models, or go on where an interrupted run stopped, and write the files of ``outputs``.

    Args:
        variants: What to measure.
        settings: How.
        folder: Receives the files.
        progress: Told of every step.
        overwrite: Forget what the folder holds of another run.
    """
    plan = Plan(settings=settings, names=tuple(variant.name for variant in variants))
    journal = open_journal(plan, folder, overwrite=overwrite)
    result = run_models(variants, settings, journal, progress)
    write_outputs(result, folder)
    return result


def interleave(names: Sequence[str], rounds: int) -> list[tuple[int, str]]:
    """Round and name of every visit: A, B, A, B, so that a slow minute of the machine hits all alike."""
    return [(number, name) for number in range(1, rounds + 1) for name in names]


def _prepare(variant: Variant, folder: Path, settings: Settings, journal: Journal) -> Preparation:
    """Write the weights where the visits load them from; a process of its own, for a model may fail."""
    known = journal.preparation(variant.name)
    if folder.exists() and known:
        return known
    if known and known.failure:
        return known
    preparation = Preparation(name=variant.name)
    try:
        with Worker(OURS, threads=settings.threads, allocator=ours_allocator(settings)) as worker:
            facts = worker.ask("prepare", config=variant.config, source=variant.source, folder=str(folder))
        preparation = parse(Preparation, {"name": variant.name, "facts": facts})
    except WorkerError as error:
        preparation = Preparation(name=variant.name, failure=str(error))
    if known is None:
        journal.add(preparation=preparation)
    return preparation


def _collect(variant: Variant, journal: Journal) -> ModelResult:
    name = variant.name
    preparation = journal.preparation(name)
    assert preparation is not None
    visits = journal.visits(name)
    timings = tuple(timing for visit in visits for timing in visit.timings)
    measured = {(timing.mode, timing.seconds) for timing in timings}
    return ModelResult(
        name=name,
        own_weights=variant.source is not None,
        facts=preparation.facts,
        failure=preparation.failure,
        load_seconds=tuple(seconds for visit in visits for seconds in visit.load_seconds),
        timings=timings,
        skips=tuple(skip for skip in _last_skips(visits) if (skip.mode, skip.seconds) not in measured),
    )


def _last_skips(visits: Sequence[Visit]) -> list[Skip]:
    """The last reason for every case."""
    last = {(skip.mode, skip.seconds): skip for visit in visits for skip in visit.skips}
    return list(last.values())
