"""The benchmark of models: every round visits all of them, each in fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polsess.benchmark.journal import Journal, Plan, Preparation, Step, Visit
from polsess.benchmark.results import ModelResult, Result, Settings, Skip
from polsess.benchmark.tables import write_outputs
from polsess.benchmark.visits import PROCESS, visit_model
from polsess.folder_lock import locked
from polsess.machine import load_average
from polsess.models import list_models, parse_model_config
from polsess.publication import temporary_folder
from polsess.schema import ConfigError, parse
from polsess.workers import Worker, WorkerError

Progress = Callable[[int, int, str], None]
"""Receives the number of steps done, the number of all steps, and a description of the next one."""


@dataclass(frozen=True)
class Variant:
    """A model of the registry with fresh weights (``config``), or one with its own (``source``)."""

    name: str
    config: dict[str, Any] | None = None
    source: str | None = None


def parse_variants(
    names: Sequence[str], preset: str | None = None, sources: Sequence[str] = ()
) -> list[Variant]:
    """Return the models that the names and sources mean.

    Args:
        names: ``MODEL`` or ``MODEL:PRESET``; with none of these and no sources, every registered model.
        preset: For all names that have none of their own.
        sources: Weights in any format.

    Raises:
        ConfigError: If a model or preset is unknown, or a name comes twice.
    """
    chosen = list(names) or ([] if sources else list_models())
    variants = [_from_registry(name, preset) for name in chosen]
    variants += [Variant(Path(source).name or source, source=source) for source in sources]
    seen = [variant.name for variant in variants]
    for name in seen:
        if seen.count(name) > 1:
            raise ConfigError(f"{name}: named twice; name every model once.")
    return variants


def _from_registry(name: str, preset: str | None) -> Variant:
    model, _, own = name.partition(":")
    data: dict[str, Any] = {"model_type": model}
    if own or preset:
        data["preset"] = own or preset
    config = parse_model_config(data, name)
    label = f"{model}:{data['preset']}" if "preset" in data else model
    return Variant(label, config=config.model_dump(mode="json"))


def run_models(
    variants: Sequence[Variant], settings: Settings, journal: Journal, progress: Progress
) -> Result:
    """Measure the visits that the journal lacks, and collect all of them."""
    done = {(visit.round, visit.name) for variant in variants for visit in journal.visits(variant.name)}
    steps = interleave([variant.name for variant in variants], settings.rounds)
    by_name = {variant.name: variant for variant in variants}
    with temporary_folder(journal.path.parent) as workplace:
        for index, (round_number, name) in enumerate(steps):
            progress(index, len(steps), f"{name}, round {round_number} of {settings.rounds}")
            if (round_number, name) in done:
                continue
            folder = workplace / name.replace(":", "-")
            preparation = _prepare(by_name[name], folder, settings, journal)
            if preparation.facts is not None:
                visit = visit_model(
                    name, folder, preparation.facts, settings, round_number, journal.visits(name)
                )
                journal.add(Step(visit=visit))
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
    """Measure models, or continue an interrupted run, and write the result files.

    Args:
        variants: Models to measure.
        settings: Lengths, modes and limits.
        folder: Folder that receives the files.
        progress: Receives every step.
        overwrite: Whether to remove another run from the folder.

    Raises:
        ConfigError: If the folder holds another run.
        FolderInUseError: If another process measures into the folder.
    """
    plan = Plan(settings=settings, names=tuple(variant.name for variant in variants))
    with locked(folder, "polsess benchmark"):
        journal = Journal(plan, folder, overwrite=overwrite)
        result = run_models(variants, settings, journal, progress)
        write_outputs(result, folder)
    return result


def interleave(names: Sequence[str], rounds: int) -> list[tuple[int, str]]:
    """Return round and name of every visit: A, B, A, B, so that a slow minute affects all models."""
    return [(number, name) for number in range(1, rounds + 1) for name in names]


def _prepare(variant: Variant, folder: Path, settings: Settings, journal: Journal) -> Preparation:
    """Write the weights for the visits, in a process of its own, since a model may fail."""
    known = journal.preparation(variant.name)
    if folder.exists() and known:
        return known
    if known and known.failure:
        return known
    preparation = Preparation(name=variant.name)
    try:
        with Worker(PROCESS, threads=settings.threads, allocator=settings.allocator) as worker:
            facts = worker.ask("prepare", config=variant.config, source=variant.source, folder=str(folder))
        preparation = parse(Preparation, {"name": variant.name, "facts": facts})
    except WorkerError as error:
        preparation = Preparation(name=variant.name, failure=str(error))
    if known is None:
        journal.add(Step(preparation=preparation))
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
    """Return the last reason for every case."""
    last = {(skip.mode, skip.seconds): skip for visit in visits for skip in visit.skips}
    return list(last.values())
