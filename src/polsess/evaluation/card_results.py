"""Finished evaluations as the card of their model tells them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from polsess.checkpoints.conversion import without_folders
from polsess.checkpoints.measured import MeasuredResult, MeasuredScore
from polsess.data import parse_corpus_config
from polsess.evaluation.results import Evaluation
from polsess.evaluation.storage import as_evaluated, read_evaluation
from polsess.evaluation.summary_file import SUMMARY
from polsess.evaluation.systems import LISTENERS, ModelSystem
from polsess.metrics import METRICS, title_of
from polsess.models import SeparationModel
from polsess.schema import ConfigError

_HIDDEN = "si_snr_mixture"


def measured_result(folder: Path, model: SeparationModel, source: str | Path) -> MeasuredResult:
    """What an evaluation found of a model.

    Args:
        folder: Of a finished evaluation.
        model: The model that was evaluated.
        source: Its path or id, for the error.

    Raises:
        FileNotFoundError: If there is no evaluation.
        ConfigError: If it was of another model, or says nothing of its data.
    """
    evaluation = read_evaluation(folder)
    settings = evaluation.settings
    if missing := {"corpus", "split", "task", "seed", "sample_rate"} - settings.keys():
        raise ConfigError(f"{folder / SUMMARY}: settings.{min(missing)}: missing; evaluate again.")
    try:
        as_evaluated(ModelSystem(model, evaluation.system), evaluation, source, folder)
    except ValueError as error:
        raise ConfigError(f"{error} Evaluate this one.") from None
    return MeasuredResult(
        corpus=_shareable(settings["corpus"], f"{folder / SUMMARY}: settings.corpus"),
        split=settings["split"],
        task=settings["task"],
        seed=settings["seed"],
        sample_rate=settings["sample_rate"],
        num_utterances=len(evaluation.rows),
        num_failed=evaluation.num_failed,
        list_hash=evaluation.list_hash,
        metrics=tuple(name for name in METRICS if name in evaluation.metrics),
        scores=_scores(evaluation),
        options=_options(evaluation),
        versions=settings.get("versions", {}),
    )


def _scores(evaluation: Evaluation) -> tuple[MeasuredScore, ...]:
    found = []
    for column in evaluation.columns:
        summary = evaluation.summary(column)
        if column != _HIDDEN and summary.count:
            interval = (summary.low, summary.high) if math.isfinite(summary.low) else None
            found.append(
                MeasuredScore(
                    column=column,
                    title=title_of(column),
                    mean=summary.mean,
                    interval_95=interval,
                    median=summary.median,
                    count=summary.count,
                    caution=summary.caution,
                )
            )
    return tuple(found)


def _options(evaluation: Evaluation) -> tuple[str, ...]:
    """What else to type after `polsess evaluate`, so that it does the same."""
    words: list[str] = []
    separator = evaluation.origin.get("separator")
    if separator:
        words += ["--gate", str(separator.get("gate", "auto"))]
        if speakers := separator.get("num_speakers"):
            words += [
                "--speakers",
                str(speakers) if isinstance(speakers, int) else "-".join(map(str, speakers)),
            ]
        for option in LISTENERS:
            words += [f"--{option}", Path(separator[option]).name] if separator.get(option) else []
    elif any(row.timelines is not None for row in evaluation.rows):
        words.append("--one-pass")
    if collar := evaluation.settings.get("collar_seconds"):
        words += ["--collar", f"{collar:g}"]
    return (*words, "--limit", str(len(evaluation.rows)))


def _shareable(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings of a corpus that are not the defaults, with names in place of a machine's paths."""
    config = parse_corpus_config(settings, where)
    chosen = config.model_dump(mode="json", exclude_defaults=True)
    return {"corpus_type": settings["corpus_type"], **without_folders(chosen)}
