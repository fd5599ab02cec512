"""The entry point of evaluation: scores every utterance of a corpus for one system.

A system gets one whole utterance at a time. Estimates are scored as float32, before any rounding to
a file.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polsess.data import Corpus
from polsess.data.transcripts import Transcript
from polsess.dependencies import require
from polsess.evaluation.conversations import ScoredRecording, scored_recording, timelines_of
from polsess.evaluation.estimate_files import FolderSystem, write_estimates
from polsess.evaluation.results import Evaluation, Row, digest_of
from polsess.evaluation.score_table import TableFormat
from polsess.evaluation.storage import ESTIMATES, EvaluationFolder, read_evaluation
from polsess.evaluation.systems import Estimate, ModelSystem, System, counts_speakers
from polsess.evaluation.transcriber import Transcriber
from polsess.evaluation.word_errors import COLLAR_SECONDS, with_word_errors
from polsess.folder_lock import locked
from polsess.machine import installed_version
from polsess.metrics import (
    CONVERSATION,
    SCORES,
    PredictorConfig,
    Scores,
    check_predictor,
    resolve_metrics,
)
from polsess.metrics.perceptual import PESQ_MODES
from polsess.metrics.pool import Job, ScorePool, default_workers
from polsess.schema import ConfigError
from polsess.tasks import Task
from polsess.text_tables import counted

Progress = Callable[[int, int], None]
"""Called with the number of utterances done and the total number."""
Elsewhere = Callable[["RowMaker", Sequence[int]], Iterator[Row]]
"""Makes the rows of some utterances, in their order, on other machines."""


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
    collar_seconds: float = 0.0,
    transcriber: Transcriber | None = None,
    save_estimates: bool = False,
    elsewhere: Elsewhere | None = None,
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
        folder: Receives the table and ``summary.json``; an interrupted evaluation in it is continued, and
            of a finished one the utterances that failed are evaluated again.
        limit: Number of utterances to evaluate, from the first; None for all.
        overwrite: Remove earlier results from the folder.
        table_format: Format of the table.
        collar_seconds: Time around the true starts and ends of turns that the diarization error leaves out.
        transcriber: Listens to the tracks, for word errors (needs meeteval).
        save_estimates: Keep the estimates in ``folder/estimates/<identifier>/s1.wav`` …, in the order of the
            references and at the level of the system, as 32-bit floats.
        elsewhere: Spreads the work over other machines, see ``polsess.cluster``; None works here.
        progress: Called after every utterance.

    Raises:
        ConfigError: If system and corpus do not fit.
        FileExistsError: If the folder holds an evaluation with other settings or of data that has changed
            since, or one without the estimates that are to be kept.
        FolderInUseError: If another process evaluates into the folder.
    """
    if table_format == "parquet":
        require("pyarrow", "The table as Parquet")
    if transcriber is not None:
        require("meeteval", "Counting word errors")
    check_fit(system, corpus)
    chosen = resolve_metrics(metrics, conversations=has_conversations(corpus), counts=counts_speakers(system))
    _check_predictors(predictors)
    total = min(len(corpus), limit or len(corpus))
    if num_workers is None:
        num_workers = default_workers(chosen, total)
    settings = describe(system, corpus, chosen, total, predictors, collar_seconds, transcriber)
    scoring = (num_workers, corpus.config.sample_rate, chosen, tuple(predictors))
    run = RowMaker(system, corpus, scoring, collar_seconds, transcriber)
    if folder is None:
        rows = list(_make_rows(run, range(total), total, elsewhere, progress))
        return Evaluation(system.name, chosen, tuple(rows), settings, system.origin)
    files = EvaluationFolder(folder, settings)
    keep = folder / ESTIMATES if save_estimates else None
    # Reading what is finished needs no right to write.
    with nullcontext() if files.is_complete and not overwrite else locked(folder, "polsess evaluate"):
        if overwrite:
            files.discard()
        rows = files.restore()
        if rows and keep is not None and not keep.is_dir():
            raise FileExistsError(f"{folder}: holds scores without estimates; pass --overwrite to make both.")
        run = replace(run, keep=keep)
        if files.is_finished:
            failed = [index for index, row in enumerate(rows) if row.failure]
            if not _mend(failed, rows, _make_rows(run, failed, total, elsewhere, progress)):
                return read_evaluation(folder)
            files.reopen(rows)
        for row in _make_rows(run, range(len(rows), total), total, elsewhere, progress):
            files.append(row)
            rows.append(row)
        evaluation = Evaluation(system.name, chosen, tuple(rows), settings, system.origin)
        files.finish(evaluation, table_format)
    return evaluation


def _make_rows(
    run: RowMaker, indices: Sequence[int], total: int, elsewhere: Elsewhere | None, progress: Progress | None
) -> Iterator[Row]:
    """The rows of some utterances; all others of the total count as done."""
    report = progress or (lambda _done, _total: None)
    known = total - len(indices)
    report(known, total)
    made = run.rows(indices) if elsewhere is None else elsewhere(run, indices)
    for done, row in enumerate(made, start=known + 1):
        yield row
        report(done, total)


def _mend(failed: Sequence[int], rows: list[Row], made: Iterable[Row]) -> bool:
    """Put rows that were made again in place of those that failed; whether any of them did not fail again."""
    if not failed:
        return False
    warnings.warn(f"{counted(len(failed), 'utterance')} that failed before: evaluated again.", stacklevel=3)
    for index, row in zip(failed, made, strict=True):
        rows[index] = row
    return not all(rows[index].failure for index in failed)


def has_conversations(corpus: Corpus) -> bool:
    """Whether the corpus knows who talks when, and its references are the speakers."""
    return corpus.has_timelines and corpus.task is Task.SB


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
            else f"Choose a model with {counted(corpus.num_sources, 'output')}, or another --task."
        )
        raise ConfigError(
            f"{system.name} gives {counted(system.num_sources, 'estimate')}, but task {corpus.task} "
            f"of this data has {counted(corpus.num_sources, 'reference')}. {advice}"
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
    collar_seconds: float = 0.0,
    transcriber: Transcriber | None = None,
) -> dict[str, Any]:
    """The settings that decide the result; equal settings give equal scores."""
    rate = corpus.config.sample_rate
    packages: dict[str, object] = {
        "pesq": "pesq" in metrics,
        "pystoi": {"stoi", "estoi"} & {*metrics},
        "torch": True,
    }
    packages |= {"onnxruntime": predictors, "meeteval": transcriber}
    heard = {}
    if transcriber is not None:
        heard = {"command": transcriber.command, "collar_seconds": COLLAR_SECONDS}
    return {
        "system": system.name,
        "identity": system.identity,
        "corpus": corpus.config.model_dump(mode="json"),
        "split": str(corpus.split),
        "task": str(corpus.task),
        "seed": corpus.seed,
        "data": corpus.state(),
        "sample_rate": rate,
        "num_utterances": total,
        "metrics": list(metrics),
        **({"predictors": [each.model_dump(mode="json") for each in predictors]} if predictors else {}),
        **({"collar_seconds": collar_seconds} if CONVERSATION in metrics else {}),
        **({"transcriber": heard} if heard else {}),
        "pesq_mode": PESQ_MODES.get(rate) if "pesq" in metrics else None,
        "versions": {
            "python": platform.python_version(),
            **{
                package: installed_version(package) or "unknown" for package, used in packages.items() if used
            },
        },
    }


@dataclass(frozen=True)
class _Waiting:
    """One utterance whose scores are being computed."""

    row: Row
    estimate: Estimate | None = None
    recording: ScoredRecording | None = None
    transcript: Transcript | None = None


@dataclass(frozen=True)
class RowMaker:
    """One system on one corpus."""

    system: System
    corpus: Corpus
    scoring: tuple[int, int, tuple[str, ...], tuple[PredictorConfig, ...]]
    collar_seconds: float
    transcriber: Transcriber | None
    keep: Path | None = None
    """Folder for the estimates."""

    def rows(self, indices: Iterable[int]) -> Iterator[Row]:
        """Rows in the corpus's order; the network works on the next utterance while the last is scored."""
        with ScorePool(*self.scoring) as pool:
            jobs = (self._prepare(index) for index in indices)
            for waiting, scores in pool.map(jobs):
                yield self._finish(waiting, scores)

    def on(self, device: str) -> RowMaker:
        """The same on another device, with the metrics computed in the calling process."""
        system = self.system.on(device) if isinstance(self.system, ModelSystem) else self.system
        return replace(self, system=system, scoring=(0, *self.scoring[1:]))

    def failed(self, index: int, reason: str) -> Row:
        """The row of an utterance that could not be read or separated."""
        return Row(f"{self.corpus.split}-{index:05d}", Scores({}), failure=reason)

    def _prepare(self, index: int) -> Job[_Waiting]:
        """Read an utterance and separate it; a failure is noted in its row and the others go on."""
        corpus, rate = self.corpus, self.corpus.config.sample_rate
        try:
            example = corpus.example(0, index)
        except (ValueError, OSError) as error:
            return Job(_Waiting(self.failed(index, _one_line(error))), None)
        row = Row(
            identifier=example.identifier,
            scores=Scores({}),
            seconds=len(example.mixture) / rate,
            content=digest_of(example),
            metadata=dict(example.metadata),
        )
        start = time.perf_counter()
        try:
            estimate = self.system.estimate(example)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return Job(_Waiting(replace(row, failure=_one_line(error))), None)
        if self.transcriber is not None:
            by = "references" if example.transcript is None else "transcript"
            row = replace(row, metadata={**row.metadata, "true_words": by})
        if not isinstance(self.system, FolderSystem):
            row = replace(row, separation_seconds=time.perf_counter() - start)
        recording = scored_recording(example, estimate, rate, self.collar_seconds)
        signals = (recording.estimates, recording.references, example.mixture.numpy())
        waiting = _Waiting(row, estimate, recording, example.transcript)
        return Job(waiting, signals, (recording.conversation, estimate.num_speakers))

    def _finish(self, waiting: _Waiting, scores: Scores) -> Row:
        """The row with its scores; the estimates are written where they are kept."""
        row, estimate, recording = waiting.row, waiting.estimate, waiting.recording
        if estimate is None or recording is None:
            return replace(row, scores=scores)
        rate = self.corpus.config.sample_rate
        if self.transcriber is not None:
            tracks, references = recording.estimates, recording.references
            scores = with_word_errors(scores, self.transcriber, tracks, references, waiting.transcript, rate)
        row = replace(row, scores=scores)
        if self.keep is not None:
            rest = [index for index in range(len(recording.estimates)) if index not in scores.permutation]
            ordered = recording.estimates[[*scores.permutation, *rest]]
            write_estimates(self.keep, row.identifier, ordered, rate)
        return replace(row, timelines=timelines_of(row.identifier, estimate, recording, scores, rate))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
