"""An evaluation on disk: a journal while it runs, then a table and a summary; and its sounds, read again.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from polsess.audio import Samples
from polsess.data import Corpus, Example, Split, create_corpus, parse_corpus_config
from polsess.evaluation.baselines import list_baselines
from polsess.evaluation.conversations import scored_recording
from polsess.evaluation.estimate_files import FolderSystem
from polsess.evaluation.onnx_systems import OnnxSystem
from polsess.evaluation.opening import open_model
from polsess.evaluation.results import Evaluation, Row, columns_of_predictors, digest_of
from polsess.evaluation.score_table import TableFormat, find_table, read_table, write_table
from polsess.evaluation.summary_file import SUMMARY, plain_settings, read_summary, summary_of
from polsess.evaluation.systems import ModelSystem, System
from polsess.evaluation.timeline_table import TIMELINES, read_timelines, write_timelines
from polsess.files import write_text
from polsess.journal import Journal
from polsess.metrics import SCORES
from polsess.metrics.utterance import Utterance
from polsess.schema import Schema, parse
from polsess.tasks import Task

JOURNAL = "journal.jsonl"
ESTIMATES = "estimates"
"""Folder beside the table for the estimates, where they are kept."""


class EvaluationFolder:
    """The files of an evaluation while it runs: the settings and each finished row go to a journal.

    Args:
        folder: Folder of the evaluation; made if needed.
        settings: Settings of the evaluation; files of other settings are not continued.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = plain_settings(settings)
        self._journal = Journal(folder / JOURNAL)

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds the table and the summary."""
        return (self.folder / SUMMARY).is_file()

    @property
    def is_complete(self) -> bool:
        """Whether it is finished and no utterance failed."""
        return self.is_finished and not read_summary(self.folder).get("num_failed")

    def discard(self) -> None:
        """Remove the journal, the table and the summary."""
        self._remove_results()
        self._journal.remove()

    def reopen(self, rows: Iterable[Row]) -> None:
        """Take back a finished evaluation: from now on these rows are in the journal, and nowhere else."""
        self._journal.remove()
        self._journal.append(self.settings, *(row.to_plain() for row in rows))
        self._remove_results()

    def _remove_results(self) -> None:
        (self.folder / SUMMARY).unlink(missing_ok=True)  # first: without it, the journal counts
        while table := find_table(self.folder):
            table.unlink()
        (self.folder / TIMELINES).unlink(missing_ok=True)

    def restore(self) -> list[Row]:
        """The rows written so far; an unfinished last line of the journal is removed.

        Raises:
            FileExistsError: If the folder holds another evaluation.
            ValueError: If the journal is damaged.
        """
        if self.is_finished:
            self._check(read_summary(self.folder).get("settings"))
            return list(read_evaluation(self.folder).rows)
        try:
            lines = self._journal.restore()
            rows = [Row.from_plain(line) for line in lines[1:]]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self._journal.path}: damaged; start anew with --overwrite.") from None
        if lines:
            self._check(lines[0])
        return rows

    def append(self, row: Row) -> None:
        """Write a row to the journal, which begins with the settings."""
        begin = [] if self._journal.path.is_file() else [self.settings]
        self._journal.append(*begin, row.to_plain())

    def finish(self, evaluation: Evaluation, table_format: TableFormat = "csv") -> None:
        """Write the table and the summary, and remove the journal."""
        write_table(evaluation, self.folder, table_format)
        write_timelines(self.folder, (row.timelines for row in evaluation.rows if row.timelines))
        write_text(self.folder / SUMMARY, json.dumps(summary_of(evaluation), indent=2) + "\n")
        self._journal.remove()

    def _check(self, found: Any) -> None:
        if found == self.settings:
            return
        known = found if isinstance(found, dict) else {}
        keys = [*self.settings, *(key for key in known if key not in self.settings)]
        changed = [key for key in keys if known.get(key) != self.settings.get(key)]
        what = f"with other settings (different: {', '.join(changed)})"
        if changed == ["data"]:
            what = "of data whose files have changed since (names, sizes or times)"
            if "data" not in known:
                what = "of an earlier version, which did not note the state of the data"
        raise FileExistsError(
            f"{self.folder}: holds an evaluation {what}. Choose another folder with -o, or pass --overwrite "
            "to evaluate again."
        )


def find_evaluations(folder: Path) -> list[Path]:
    """The folder itself, or the finished evaluations in it, sorted.

    Raises:
        FileNotFoundError: If there is none.
    """
    if (folder / SUMMARY).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.rglob(SUMMARY))
    if not found:
        raise FileNotFoundError(f"{folder}: no finished evaluation in it; run polsess evaluate first.")
    return found


def read_evaluation(folder: Path) -> Evaluation:
    """Read a finished evaluation.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a file is not what this library wrote.
    """
    summary = read_summary(folder)
    settings = summary.get("settings")
    if not isinstance(settings, dict) or not {"system", "metrics"} <= settings.keys():
        raise ValueError(f"{folder / SUMMARY}: not the summary of an evaluation.")
    checked = parse(_Summary, summary, str(folder / SUMMARY))
    if (table := find_table(folder)) is None:
        raise FileNotFoundError(f"{folder}: no scores.csv or scores.parquet beside its {SUMMARY}.")
    timelines = read_timelines(folder)
    rows = tuple(
        replace(row, timelines=timelines.get(row.identifier))
        for row in read_table(table, (*SCORES, *columns_of_predictors(settings)))
    )
    origin = {key: value for key, value in checked.origin.model_dump().items() if value is not None}
    try:
        evaluation = Evaluation(checked.settings.system, checked.settings.metrics, rows, settings, origin)
    except ValueError as error:
        raise ValueError(f"{table}: {error}") from None
    if checked.num_utterances not in (None, len(rows)):
        raise ValueError(
            f"{table}: holds {len(rows)} of {checked.num_utterances} utterances; evaluate again with "
            "--overwrite."
        )
    if checked.list_hash not in (None, evaluation.list_hash):
        raise ValueError(
            f"{table}: holds other utterances than {SUMMARY} was made from; evaluate again with --overwrite."
        )
    return evaluation


class _Stored(Schema):
    """Part of a summary from an untrusted source; keys of other versions are ignored."""

    model_config = ConfigDict(extra="ignore")


class _Predictor(_Stored):
    name: str
    outputs: tuple[str, ...]


class _Settings(_Stored):
    system: str
    metrics: tuple[str, ...]
    identity: str = ""
    corpus: dict[str, Any] = Field(default_factory=dict)
    split: Split = Split.TEST
    task: Task = Task.SB
    seed: int = 0
    sample_rate: int = Field(default=8000, ge=1, le=768_000)
    predictors: tuple[_Predictor, ...] = ()
    pesq_mode: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)


class _SeparatorOptions(_Stored):
    gate: str = "auto"
    num_speakers: int | tuple[int, int] | None = None
    detector: str | None = None
    embedder: str | None = None
    enhancer: str | None = None


class _Origin(_Stored):
    model: str | None = None
    parameters: int | None = Field(default=None, ge=0)
    macs_per_second: float | None = Field(default=None, ge=0)
    estimates: str | None = None
    system: str | None = None
    baseline: str | None = None
    separator: _SeparatorOptions | None = None


class _Summary(_Stored):
    settings: _Settings
    origin: _Origin = _Origin()
    num_utterances: int | None = None
    list_hash: str | None = None


@dataclass(frozen=True)
class UtteranceSounds:
    """The sounds of one utterance."""

    row: Row
    """Its scores."""
    mixture: Samples
    """``[T]``."""
    references: Samples
    """``[C, T]``."""
    estimates: Samples
    """``[C, T]`` in the order of the references, at the level of the system's output."""
    sample_rate: int
    """Sample rate in Hz."""


class SavedEvaluation:
    """A finished evaluation with access to its sounds.

    The mixtures are read from the corpus that the summary names. The estimates are those that
    ``evaluate --save-estimates`` kept; otherwise they are read or computed again from the source that the
    summary names.

    Args:
        folder: Holds the table and ``summary.json``.
        device: Device of the model, if one has to run.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder = folder
        self.evaluation: Evaluation = read_evaluation(folder)
        self._device = device
        self._corpus: Corpus | None = None
        self._system: System | None = None

    def sounds(self, identifier: str) -> UtteranceSounds:
        """The sounds of an utterance.

        Raises:
            ValueError: If there is no such utterance, it has no estimates, or the data has changed since.
            OSError: If the corpus or the estimates no longer exist.
        """
        index = self._index(identifier)
        row = self.evaluation.rows[index]
        if row.failure:
            raise ValueError(f"{identifier}: has no estimates ({row.failure}).")
        example = self._example(index)
        if self._system is None:
            self._system = self._open_system()
        rate = int(self.evaluation.settings["sample_rate"])
        recording = scored_recording(example, self._system.estimate(example), rate)
        estimates, references = recording.estimates, recording.references
        chosen = list(row.scores.permutation) or list(range(len(references)))
        if (self.folder / ESTIMATES).is_dir():  # in the order of the references; of the system before 1.1
            known = recording.conversation
            utterance = Utterance.create(estimates, references, example.mixture, rate, known)
            chosen = utterance.permutation
        if len(chosen) != len(references) or max(chosen, default=0) >= len(estimates):
            raise ValueError(
                f"{identifier}: the permutation of its {len(references)} references names "
                f"{len(chosen)} of {len(estimates)} estimates; evaluate again with --overwrite."
            )
        ordered = estimates[chosen]
        return UtteranceSounds(row, example.mixture.numpy(), references, ordered, rate)

    def _index(self, identifier: str) -> int:
        for index, row in enumerate(self.evaluation.rows):
            if row.identifier == identifier:
                return index
        raise ValueError(f"{self.folder}: no utterance '{identifier}' in it.")

    def _example(self, index: int) -> Example:
        if self._corpus is None:
            settings = self.evaluation.settings
            if missing := {"corpus", "split", "task", "seed", "sample_rate"} - settings.keys():
                raise ValueError(
                    f"{self.folder / SUMMARY}: settings.{min(missing)}: missing; evaluate again."
                )
            config = parse_corpus_config(settings["corpus"], f"{self.folder}: corpus")
            self._corpus = create_corpus(
                config, Split(settings["split"]), Task(settings["task"]), settings["seed"]
            )
        example, row = self._corpus.example(0, index), self.evaluation.rows[index]
        # Earlier versions stored the digest of the sounds alone.
        if example.identifier != row.identifier or not digest_of(example).startswith(row.content):
            raise ValueError(
                f"{row.identifier}: the data has changed since {self.folder} was evaluated; evaluate anew."
            )
        return example

    def _open_system(self) -> System:
        origin = self.evaluation.origin
        if (self.folder / ESTIMATES).is_dir():
            return FolderSystem(self.folder / ESTIMATES)
        if "estimates" in origin:
            return FolderSystem(Path(origin["estimates"]), origin["system"])
        for baseline in list_baselines(int(self.evaluation.settings["sample_rate"]), conversations=True):
            if baseline.origin == origin:
                return baseline
        if "model" not in origin:
            raise ValueError(
                f"{self.folder}: does not say where the estimates came from; evaluate with --save-estimates."
            )
        system = open_model(origin["model"], self.evaluation.system, self._device)
        return as_evaluated(system, self.evaluation, origin["model"], self.folder)


def as_evaluated(
    system: ModelSystem | OnnxSystem, evaluation: Evaluation, source: str | Path, folder: Path
) -> ModelSystem | OnnxSystem:
    """A model as an evaluation ran it.

    Args:
        system: The model as such.
        evaluation: Of that very model.
        source: Its path or id, for the error.
        folder: The folder of the evaluation, for the error.

    Raises:
        ValueError: If the evaluation was of another model.
    """
    if "separator" in evaluation.origin:
        options = parse(_SeparatorOptions, evaluation.origin["separator"], "origin.separator")
        system = system.as_separate(**dict(options))
    if system.identity != evaluation.settings.get("identity"):
        raise ValueError(f"{source}: is another model now than {folder} evaluated.")
    return system
