"""The entry point of evaluation: scores every utterance of a corpus for one system.

The network processes one whole utterance at a time. Estimates are scored as float32, before any rounding to
a file.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polsess.audio import Samples
from polsess.data import Corpus
from polsess.dependencies import require
from polsess.evaluation.results import Evaluation, Row, digest_of
from polsess.evaluation.score_table import TableFormat
from polsess.evaluation.storage import ESTIMATES, EvaluationFolder, read_evaluation
from polsess.evaluation.systems import FolderSystem, System, write_estimates
from polsess.folder_lock import locked
from polsess.machine import installed_version
from polsess.metrics import SCORES, PredictorConfig, Scores, check_predictor, resolve_metrics
from polsess.metrics.perceptual import PESQ_MODES
from polsess.metrics.pool import Job, ScorePool, default_workers
from polsess.schema import ConfigError

Progress = Callable[[int, int], None]
"""Called with the number of utterances done and the total number."""


def evaluate(
    system: System,
    corpus: Corpus,
    *,
    metrics: Iterable[str] | None = None,
    predictors: Sequence[PredictorConfig] = (),
    num_workers: int | None = 0,
    folder: Path | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    table_format: TableFormat = "csv",
    save_estimates: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a system on a corpus.

    Args:
        system: A model or a folder of estimates.
        corpus: One split under one task.
        metrics: Names from ``METRICS``; None for all that are installed.
        predictors: Networks that score without a reference.
        num_workers: Processes for the metrics; 0 computes them here, None chooses by their
            number. Scripts that use processes must run under ``if __name__ == "__main__":``.
        folder: Receives the table and ``summary.json``; an interrupted evaluation in it is continued.
        limit: Number of utterances to evaluate, from the first; None for all.
        overwrite: Remove earlier results from the folder.
        table_format: Format of the table.
        save_estimates: Keep the estimates in ``folder/estimates/<identifier>/s1.wav`` …, in the order of the
            references and at the level of the system, as 32-bit floats.
        progress: Called after every utterance.

    Raises:
        ConfigError: If system and corpus do not fit.
        FileExistsError: If the folder holds an evaluation with other settings, or one without the estimates
            that are to be kept.
        FolderInUseError: If another process evaluates into the folder.
    """
    if table_format == "parquet":
        require("pyarrow", "The table as Parquet")
    check_fit(system, corpus)
    chosen = resolve_metrics(metrics)
    _check_predictors(predictors)
    total = min(len(corpus), limit or len(corpus))
    if num_workers is None:
        num_workers = default_workers(chosen, total)
    settings = describe(system, corpus, chosen, total, predictors)
    scoring = (num_workers, corpus.config.sample_rate, chosen, tuple(predictors))
    if folder is None:
        rows = list(_rows(system, corpus, range(total), scoring, progress))
        return Evaluation(system.name, chosen, tuple(rows), settings, system.origin)
    files = EvaluationFolder(folder, settings)
    keep = folder / ESTIMATES if save_estimates else None
    # Reading what is finished needs no right to write.
    with nullcontext() if files.is_finished and not overwrite else locked(folder, "polsess evaluate"):
        if overwrite:
            files.discard()
        rows = files.restore()
        if rows and keep is not None and not keep.is_dir():
            raise FileExistsError(f"{folder}: holds scores without estimates; pass --overwrite to make both.")
        for row in _rows(system, corpus, range(len(rows), total), scoring, progress, keep):
            files.append(row)
            rows.append(row)
        if files.is_finished:
            return read_evaluation(folder)
        evaluation = Evaluation(system.name, chosen, tuple(rows), settings, system.origin)
        files.finish(evaluation, table_format)
    return evaluation


def check_fit(system: System, corpus: Corpus) -> None:
    """Refuse a system that was made for another rate or another number of sources.

    Raises:
        ConfigError: With what to change.
    """
    rate = corpus.config.sample_rate
    if system.sample_rate not in (None, rate):
        raise ConfigError(
            f"{system.name} was made for {system.sample_rate} Hz, the data is read at {rate} Hz. "
            f"Read it at the model's rate: corpus.sample_rate={system.sample_rate}."
        )
    if system.num_sources is not None and system.num_sources < corpus.num_sources:
        advice = (
            "Pass --task ES (the first speaker) or --task EB (the sum of the speakers)."
            if system.num_sources == 1
            else f"Choose a model with {corpus.num_sources} output(s), or another --task."
        )
        raise ConfigError(
            f"{system.name} gives {system.num_sources} estimate(s), but task {corpus.task} of this data has "
            f"{corpus.num_sources} reference(s). {advice}"
        )


def _check_predictors(predictors: Sequence[PredictorConfig]) -> None:
    columns = [*SCORES, *(column for each in predictors for column in each.columns)]
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise ConfigError(f"predictors: two scores would be called '{twice[0]}'; choose another name.")
    for predictor in predictors:
        check_predictor(predictor)


def describe(
    system: System,
    corpus: Corpus,
    metrics: tuple[str, ...],
    total: int,
    predictors: Sequence[PredictorConfig] = (),
) -> dict[str, Any]:
    """The settings that decide the result; equal settings give equal scores."""
    rate = corpus.config.sample_rate
    packages: dict[str, object] = {
        "pesq": "pesq" in metrics,
        "pystoi": {"stoi", "estoi"} & {*metrics},
        "torch": True,
    }
    packages["onnxruntime"] = predictors
    return {
        "system": system.name,
        "identity": system.identity,
        "corpus": corpus.config.model_dump(mode="json"),
        "split": str(corpus.split),
        "task": str(corpus.task),
        "seed": corpus.seed,
        "sample_rate": rate,
        "num_utterances": total,
        "metrics": list(metrics),
        **({"predictors": [each.model_dump(mode="json") for each in predictors]} if predictors else {}),
        "pesq_mode": PESQ_MODES.get(rate) if "pesq" in metrics else None,
        "versions": {
            "python": platform.python_version(),
            **{
                package: installed_version(package) or "unknown" for package, used in packages.items() if used
            },
        },
    }


def _rows(
    system: System,
    corpus: Corpus,
    indices: range,
    scoring: tuple[int, int, tuple[str, ...], tuple[PredictorConfig, ...]],
    progress: Progress | None,
    keep: Path | None = None,
) -> Iterator[Row]:
    """Rows in the corpus's order; the network works on the next utterance while the last is scored."""
    if progress is not None:
        progress(indices.start, indices.stop)
    with ScorePool(*scoring) as pool:
        jobs = (_prepare(system, corpus, index, keep is not None) for index in indices)
        for done, ((row, estimates), scores) in enumerate(pool.map(jobs), start=indices.start + 1):
            if keep is not None and estimates is not None:
                rest = [index for index in range(len(estimates)) if index not in scores.permutation]
                ordered = estimates[[*scores.permutation, *rest]]
                write_estimates(keep, row.identifier, ordered, corpus.config.sample_rate)
            yield replace(row, scores=scores)
            if progress is not None:
                progress(done, indices.stop)


def _prepare(system: System, corpus: Corpus, index: int, keep: bool) -> Job[tuple[Row, Samples | None]]:
    """Read an utterance and separate it; a failure is noted in its row and the others go on.

    The job carries the row and, where they are kept, the estimates ``[K, T]``.
    """
    try:
        example = corpus.example(0, index)
    except (ValueError, OSError) as error:
        failed = Row(f"{corpus.split}-{index:05d}", Scores({}), failure=_one_line(error))
        return Job((failed, None), None)
    row = Row(
        identifier=example.identifier,
        scores=Scores({}),
        seconds=len(example.mixture) / corpus.config.sample_rate,
        content=digest_of(example),
        metadata=dict(example.metadata),
    )
    start = time.perf_counter()
    try:
        estimates = system.estimate(example)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        return Job((replace(row, failure=_one_line(error)), None), None)
    if not isinstance(system, FolderSystem):
        row = replace(row, separation_seconds=time.perf_counter() - start)
    estimates = np.atleast_2d(estimates)
    return Job(
        (row, estimates if keep else None), (estimates, example.references.numpy(), example.mixture.numpy())
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
