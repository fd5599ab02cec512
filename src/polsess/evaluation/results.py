"""The results of evaluations: one row per utterance, pooled by utterance, never by averages of averages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from polsess.data import Example
from polsess.data.speaker_names import is_speaker_key, speakers_in
from polsess.evaluation.timeline_table import Timelines
from polsess.metrics import METRICS, WORD_ERRORS, Scores, Summary, columns_of, group_by_condition, summarise
from polsess.schema import parse

_MAX_STRATA = 30


@dataclass(frozen=True)
class Row:
    """One utterance of an evaluation."""

    identifier: str
    scores: Scores
    seconds: float = math.nan
    """Duration."""
    content: str = ""
    """What ``digest_of`` gives; equal digests are the same utterance."""
    metadata: Mapping[str, str | float] = field(default_factory=dict)
    """Conditions of the mixture, e.g. its speakers."""
    failure: str = ""
    """Reason why there is nothing to score, e.g. a file that cannot be read."""
    separation_seconds: float = math.nan
    """Time that the system took to compute its estimates; NaN for estimates in files."""
    timelines: Timelines | None = None
    """Who talks when, in truth and by the system, where the corpus knows the truth."""

    def to_plain(self) -> dict[str, Any]:
        """Plain data for a line of JSON."""
        plain = asdict(replace(self, timelines=None))
        return plain | {"timelines": self.timelines.model_dump(mode="json") if self.timelines else None}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Row:
        """Restore a row from the result of ``to_plain``.

        Raises:
            KeyError: If a part is missing.
            TypeError: If a part is unknown.
        """
        scores = dict(data["scores"])
        scores["values"] = {name: tuple(values) for name, values in scores["values"].items()}
        scores["permutation"] = tuple(scores["permutation"])
        timelines = data.get("timelines")
        known = None if timelines is None else parse(Timelines, timelines, "timelines")
        return cls(**{**data, "scores": Scores(**scores), "timelines": known})

    def value(self, column: str) -> float:
        """The mean of a score over the sources; not a number where there is none."""
        return math.nan if self.failure else self.scores.mean(column)

    def reason(self, column: str) -> str:
        """Reason why a score is not a number."""
        return self.failure or self.scores.reasons.get(column, "")

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers in the mixture, as far as the conditions name them."""
        return speakers_in(self.metadata)

    @property
    def clusters(self) -> tuple[str, ...]:
        """Clusters of the utterance: its speakers where they are known, else itself alone."""
        return self.speakers or (self.identifier,)


@dataclass(frozen=True)
class Evaluation:
    """The rows of one system on one list of utterances; ``+`` joins two lists of the same system."""

    system: str
    """Name of the model or of the folder of estimates."""
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the evaluation, for the record."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Source of the estimates and size of the model: see ``System.origin``."""

    def __post_init__(self) -> None:
        identifiers = [row.identifier for row in self.rows]
        if len(set(identifiers)) < len(identifiers):
            twice = next(each for each in identifiers if identifiers.count(each) > 1)
            raise ValueError(f"Evaluation of {self.system}: the utterance '{twice}' comes twice.")

    def __add__(self, other: Evaluation) -> Evaluation:
        """The utterances of both.

        Raises:
            ValueError: If the systems or metrics differ, or an utterance is in both.
        """
        if (self.system, self.metrics) != (other.system, other.metrics):
            raise ValueError(
                f"Evaluations can be joined if system and metrics agree; got {self.system} with "
                f"{', '.join(self.metrics)} and {other.system} with {', '.join(other.metrics)}."
            )
        return replace(self, rows=self.rows + other.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores in the table."""
        known = columns_of(name for name in METRICS if name in self.metrics)
        heard = WORD_ERRORS if self.settings.get("transcriber") else ()
        return (*known, *heard, *columns_of_predictors(self.settings))

    @property
    def num_failed(self) -> int:
        """Utterances that could not be read or that the model failed on."""
        return sum(bool(row.failure) for row in self.rows)

    @property
    def seconds_per_utterance(self) -> dict[str, float]:
        """Mean time of the separation and of each metric, as far as this process measured it."""
        taken = [row.separation_seconds for row in self.rows if math.isfinite(row.separation_seconds)]
        found = {"separation": float(np.mean(taken))} if taken else {}
        measured = [row.scores.seconds for row in self.rows if row.scores.seconds]
        names = dict.fromkeys(name for each in measured for name in each)
        return found | {name: float(np.mean([each.get(name, 0.0) for each in measured])) for name in names}

    @property
    def list_hash(self) -> str:
        """Digest of the utterances and their audio, in any order; paired tests need equal ones."""
        lines = sorted(f"{row.identifier} {row.content}" for row in self.rows)
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]

    def values(self, column: str) -> list[float]:
        """One score of every utterance."""
        return [row.value(column) for row in self.rows]

    def summary(self, column: str) -> Summary:
        """Mean, median, interval and failures of one score."""
        return summarise(
            self.values(column),
            [row.clusters for row in self.rows],
            [row.reason(column) for row in self.rows],
        )

    def strata(self, key: str) -> dict[str, Evaluation]:
        """The evaluation split by a condition: a key of the metadata, or a score such as ``si_snr_mixture``.

        Numbers of many values are split at their quartiles. Utterances without the condition are left out.
        """
        groups = group_by_condition([_condition(row, key) for row in self.rows])
        return {
            label: replace(self, rows=tuple(self.rows[index] for index in indices))
            for label, indices in groups.items()
        }

    def condition_keys(self) -> list[str]:
        """Conditions that split the utterances into more than one group, not too many, some of several."""
        every = dict.fromkeys(key for row in self.rows for key in row.metadata)
        keys = [key for key in every if not is_speaker_key(key)]
        candidates = [*keys, *(["si_snr_mixture"] if "si_snr_mixture" in self.columns else [])]
        most = min(_MAX_STRATA, len(self.rows) - 1)
        return [key for key in candidates if 1 < len(self.strata(key)) <= most]


def digest_of(example: Example) -> str:
    """Digest of references and mixture, and after a dash that of turns and words where they are known.

    Equal digests are the same utterance.
    """
    signals = torch.cat([example.references, example.mixture.unsqueeze(0)]).contiguous().numpy()
    digest = hashlib.sha256(signals.tobytes()).hexdigest()[:12]
    if not example.timeline and example.transcript is None:
        return digest
    turns = [(turn.start, turn.end, turn.speaker) for turn in example.timeline]
    truth = hashlib.sha256(repr((turns, example.transcript)).encode(errors="surrogateescape"))
    return f"{digest}-{truth.hexdigest()[:8]}"


def columns_of_predictors(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the networks that an evaluation's settings name."""
    return tuple(
        f"{each['name']}_{output}" for each in settings.get("predictors", ()) for output in each["outputs"]
    )


def _condition(row: Row, key: str) -> str | float | None:
    if key == "sexes" and "sexes" in row.metadata:
        return "same" if len(set(str(row.metadata["sexes"]))) == 1 else "different"
    if key in row.metadata:
        return row.metadata[key]
    value = row.value(key) if key in row.scores.values else math.nan
    return None if math.isnan(value) else value
