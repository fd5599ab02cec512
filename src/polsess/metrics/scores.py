"""All scores of one utterance, with a reason for each missing one.

SI-SNR is SI-SDR with the means removed (Le Roux et al. 2019, https://arxiv.org/abs/1811.02508). An
improvement is the estimate's value minus that of the model's input, the mixture. Estimates are assigned to
references once, by the best mean SI-SNR, and keep that order for every metric.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from polsess.dependencies import is_installed, require
from polsess.metrics import conversation_columns, perceptual, speaker_counting
from polsess.metrics.conversations import Conversation
from polsess.metrics.perceptual import UndefinedScoreError
from polsess.metrics.predictors import PredictorConfig, predict
from polsess.metrics.utterance import CLEAN_MIXTURE_DB, Utterance
from polsess.schema import ConfigError, suggest


@dataclass(frozen=True)
class Score:
    """One column of a table of scores."""

    title: str
    """Title in tables."""
    unit: str
    """Empty for a score without a unit."""
    compute: Callable[[Utterance, int], float]
    """Its value for one source of an utterance; raises ``UndefinedScoreError``."""
    of_recording: bool = False
    """Whether it has one value for all sources together."""
    lower_is_better: bool = False


@dataclass(frozen=True)
class Scores:
    """The scores of one utterance: a value per column and source, not a number where there is a reason."""

    values: Mapping[str, tuple[float, ...]]
    """Values by column, one per reference."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Reasons by column for which at least one of its values is not a number."""
    permutation: tuple[int, ...] = ()
    """The index of the estimate that belongs to each reference."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Processor time that each metric took."""
    unassigned_db: float = math.nan
    """Level of the loudest estimate beyond the number of references, against the mixture."""

    def mean(self, column: str) -> float:
        """The mean over the sources; not a number when a source has no value."""
        values = self.values.get(column, ())
        return float(np.mean(values)) if values else math.nan


def score_utterance(
    estimates: ArrayLike,
    references: ArrayLike,
    mixture: ArrayLike,
    sample_rate: int,
    metrics: Iterable[str] | None = None,
    predictors: Sequence[PredictorConfig] = (),
    conversation: Conversation | None = None,
    num_speakers: int | None = None,
) -> Scores:
    """Score the estimates of one utterance.

    Args:
        estimates: ``[K, T]``, or ``[T]`` for one source; arrays or tensors, in any order and at any level. Of
            more estimates than references the best assignment is scored.
        references: ``[C, T]`` or ``[T]``.
        mixture: The model's input, ``[T]``.
        sample_rate: Sample rate in Hz.
        metrics: Names from ``METRICS``; None for all that the installed packages can compute and that the
            utterance is fit for.
        predictors: Networks that score without a reference.
        conversation: Who talks when, for the metric ``conversation``; references are then those of speakers
            who talk, and there may be none.
        num_speakers: How many speakers the system counted, for the metric ``count``.

    Raises:
        ValueError: If the shapes do not match. Silent, short or non-finite signals are no error: their scores
            are not a number, with a reason.
        ConfigError: If a metric is unknown.
        ModuleNotFoundError: If a metric that was asked for needs a package that is missing.
    """
    utterance = Utterance.create(estimates, references, mixture, sample_rate, conversation, num_speakers)
    values: dict[str, tuple[float, ...]] = {}
    reasons: dict[str, str] = {}
    seconds: dict[str, float] = {}
    given = metrics is not None
    for metric in resolve_metrics(
        metrics,
        conversations=given or conversation is not None,
        counts=given or num_speakers is not None,
    ):
        start = time.process_time()
        for column in METRICS[metric]:
            results = _values(SCORES[column], utterance)
            values[column] = tuple(value for value, _ in results)
            if found := dict.fromkeys(reason for _, reason in results if reason):
                reasons[column] = "; ".join(found)
        seconds[metric] = time.process_time() - start
    for predictor in predictors:
        start = time.process_time()
        table, found = _predictions(predictor, utterance)
        values |= dict(zip(predictor.columns, table, strict=True))
        reasons |= dict.fromkeys(predictor.columns, "; ".join(found)) if found else {}
        seconds[predictor.name] = time.process_time() - start
    return Scores(values, reasons, tuple(utterance.permutation), seconds, utterance.unassigned_db)


def resolve_metrics(
    names: Iterable[str] | None, *, conversations: bool = False, counts: bool = False
) -> tuple[str, ...]:
    """The metrics to compute, in the table's order.

    Args:
        names: Names from ``METRICS``; None for all that the installed packages can compute.
        conversations: Whether it is known who talks when, as the metric ``conversation`` needs.
        counts: Whether the system counts speakers, as the metric ``count`` needs.

    Raises:
        ConfigError: If a name is unknown, or needs what is not known.
        ModuleNotFoundError: If a metric that was asked for needs a package that is missing.
    """
    if names is None:
        possible = (name for name in METRICS if name not in missing_metrics())
        unfit = {CONVERSATION: not conversations, COUNT: not counts}
        return tuple(name for name in possible if not unfit.get(name))
    wanted = set(names)
    for name in sorted(wanted):
        if name not in METRICS:
            raise ConfigError(
                f"metrics: unknown metric '{name}'." + suggest(name, list(METRICS), "Available")
            )
        if name in missing_metrics():
            require(PACKAGES[name], f"The metric '{name}'")
    if CONVERSATION in wanted and not conversations:
        raise ConfigError(
            f"metrics: '{CONVERSATION}' needs data that says who talks when (RTTM files beside the mixtures, "
            "or the corpus 'conversations') and task SB."
        )
    if COUNT in wanted and not counts:
        raise ConfigError(f"metrics: '{COUNT}' needs a model that counts speakers.")
    return tuple(name for name in METRICS if name in wanted)


def missing_metrics() -> dict[str, str]:
    """The metrics that this installation cannot compute, with the package that each needs."""
    return {name: package for name, package in PACKAGES.items() if not is_installed(package)}


def columns_of(metrics: Iterable[str]) -> tuple[str, ...]:
    """The columns that metrics fill, in order."""
    return tuple(column for name in metrics for column in METRICS[name])


def _values(score: Score, utterance: Utterance) -> list[tuple[float, str]]:
    """Value and reason per source, or once for all of them."""
    if not score.of_recording and not utterance.num_sources:
        return [(math.nan, conversation_columns.NOBODY)]
    count = 1 if score.of_recording else utterance.num_sources
    return [_value(score, utterance, source) for source in range(count)]


def _value(score: Score, utterance: Utterance, source: int) -> tuple[float, str]:
    try:
        if not score.of_recording:
            utterance.check(source)
        return score.compute(utterance, source), ""
    except UndefinedScoreError as error:
        return math.nan, str(error)


def _predictions(
    predictor: PredictorConfig, utterance: Utterance
) -> tuple[list[tuple[float, ...]], dict[str, None]]:
    """Values by column and source, and reasons for missing ones."""
    rows: list[list[float]] = []
    reasons: dict[str, None] = {}
    for source in range(utterance.num_sources):
        try:
            utterance.check(source)
            estimate, reference = utterance.estimate(source), utterance.references[source]
            rows.append(predict(predictor, estimate, reference, utterance.sample_rate))
        except UndefinedScoreError as error:
            rows.append([math.nan] * len(predictor.outputs))
            reasons[str(error)] = None
    if not rows:
        return [(math.nan,)] * len(predictor.outputs), {conversation_columns.NOBODY: None}
    return list(zip(*rows, strict=True)), reasons


def title_of(column: str) -> str:
    """Title of a column in tables: its name with its unit."""
    return f"{name_of(column)} [{unit_of(column)}]" if unit_of(column) else name_of(column)


def name_of(column: str) -> str:
    """A column's display name; for a predictor, the name from its description."""
    return SCORES[column].title if column in SCORES else column.replace("_", " ")


def unit_of(column: str) -> str:
    """A column's unit; empty where there is none."""
    return SCORES[column].unit if column in SCORES else ""


def lower_is_better(column: str) -> bool:
    """Whether a smaller value of a column is the better one."""
    return column in SCORES and SCORES[column].lower_is_better


def is_improvement(column: str) -> bool:
    """Whether a column says how many dB an estimate is better than the mixture."""
    return unit_of(column) == "dB" and column.endswith("i")


def _improvement(score: float, of_mixture: float) -> float:
    if of_mixture >= CLEAN_MIXTURE_DB:
        raise UndefinedScoreError("the mixture is the reference, nothing to improve")
    return score - of_mixture


def _pesq(utterance: Utterance, source: int) -> float:
    return perceptual.pesq(utterance.estimate(source), utterance.references[source], utterance.sample_rate)


def _stoi(utterance: Utterance, source: int) -> float:
    return perceptual.stoi(utterance.estimate(source), utterance.references[source], utterance.sample_rate)


def _estoi(utterance: Utterance, source: int) -> float:
    return perceptual.stoi(
        utterance.estimate(source), utterance.references[source], utterance.sample_rate, extended=True
    )


def _si_snr_improvement(utterance: Utterance, source: int) -> float:
    return _improvement(utterance.si_snr(source), utterance.si_snr_of_mixture(source))


def _sdr_improvement(utterance: Utterance, source: int) -> float:
    return _improvement(utterance.sdr(source), utterance.sdr_of_mixture(source))


def _by_transcriber(_: Utterance, __: int) -> float:
    raise UndefinedScoreError("no transcriber has listened")


SCORES: Mapping[str, Score] = {
    "si_snr": Score("SI-SNR", "dB", Utterance.si_snr),
    "si_snri": Score("SI-SNRi", "dB", _si_snr_improvement),
    "si_snr_mixture": Score("SI-SNR of the mixture", "dB", Utterance.si_snr_of_mixture),
    "sdr": Score("SDR", "dB", Utterance.sdr),
    "sdri": Score("SDRi", "dB", _sdr_improvement),
    "sir": Score("SIR", "dB", Utterance.interference),
    "sar": Score("SAR", "dB", Utterance.artefacts),
    "pesq": Score("PESQ", "", _pesq),
    "stoi": Score("STOI", "", _stoi),
    "estoi": Score("ESTOI", "", _estoi),
    **{
        name: Score(title, unit, compute, of_recording=True, lower_is_better=lower)
        for name, (title, unit, compute, lower) in conversation_columns.COLUMNS.items()
    },
    **{
        name: Score(title, unit, compute, of_recording=True)
        for name, (title, unit, compute) in speaker_counting.COLUMNS.items()
    },
    **{
        name: Score(title, "%", _by_transcriber, of_recording=True, lower_is_better=True)
        for name, title in {"cp_wer": "cpWER", "tcp_wer": "tcpWER"}.items()
    },
}
"""Every column of scores by its name."""

WORD_ERRORS = ("cp_wer", "tcp_wer")
"""Columns that belong to no metric: a recogniser has to listen (``polsess.evaluation.word_errors``)."""

CONVERSATION, COUNT = "conversation", "count"
METRICS: Mapping[str, tuple[str, ...]] = {
    "si_snr": ("si_snr", "si_snri", "si_snr_mixture"),
    "sdr": ("sdr", "sdri"),
    "sir": ("sir", "sar"),
    "pesq": ("pesq",),
    "stoi": ("stoi",),
    "estoi": ("estoi",),
    CONVERSATION: tuple(conversation_columns.COLUMNS),
    COUNT: tuple(speaker_counting.COLUMNS),
}
"""Metrics by name, with the columns that each fills."""

PACKAGES: Mapping[str, str] = {"pesq": "pesq", "stoi": "pystoi", "estoi": "pystoi"}
"""The optional package that a metric needs."""
