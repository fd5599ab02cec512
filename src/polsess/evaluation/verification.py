"""Reproduction of a published score: published weights and test set, scored with our metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polsess.checkpoints import Published, list_published, load_model
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.evaluation.results import Evaluation
from polsess.evaluation.runner import Progress, evaluate
from polsess.evaluation.systems import ModelSystem
from polsess.inference import pick_device
from polsess.metrics import Summary
from polsess.schema import ConfigError, suggest
from polsess.tasks import Task
from polsess.text_tables import counted

Mode = Literal["min", "max"]
COLUMN = "si_snri"
"""Score that the catalogue states for every publication."""
_PUBLISHED_MODE: Mode = "min"


@dataclass(frozen=True)
class Benchmark:
    """A test set that scores are published on."""

    corpus: Mapping[str, Any]
    """Its configuration, without root and rate."""
    task: Task = Task.SB
    num_utterances: int | None = 3000
    """Size of the whole test set; None where it is not known."""


BENCHMARKS: Mapping[str, Benchmark] = {
    "wsj0-2mix": Benchmark({"corpus_type": "wsj0_mix", "num_speakers": 2}),
    "wsj0-3mix": Benchmark({"corpus_type": "wsj0_mix", "num_speakers": 3}),
    "wham-clean": Benchmark({"corpus_type": "wham", "mixture": "mix_clean"}),
    "wham-noisy": Benchmark({"corpus_type": "wham", "mixture": "mix_both"}),
    "whamr": Benchmark({"corpus_type": "whamr", "mixture": "mix_both"}),
    "libri1mix": Benchmark({"corpus_type": "libri_mix", "mixture": "mix_single"}, Task.ES, None),
    "libri2mix-clean": Benchmark({"corpus_type": "libri_mix", "num_speakers": 2, "mixture": "mix_clean"}),
    "libri2mix-noisy": Benchmark({"corpus_type": "libri_mix", "num_speakers": 2, "mixture": "mix_both"}),
    "libri3mix-clean": Benchmark({"corpus_type": "libri_mix", "num_speakers": 3, "mixture": "mix_clean"}),
    "libri3mix-noisy": Benchmark({"corpus_type": "libri_mix", "num_speakers": 3, "mixture": "mix_both"}),
}
"""The test sets of the catalogue by name."""


@dataclass(frozen=True)
class Verification:
    """A measured score beside the published one."""

    published: Published
    evaluation: Evaluation
    deviations: tuple[str, ...]
    """Differences between the conditions of the measurement and the published ones."""

    @property
    def measured(self) -> Summary:
        """SI-SNRi in dB."""
        return self.evaluation.summary(COLUMN)

    @property
    def difference(self) -> float:
        """Measured score minus published score, in dB."""
        score = self.published.score
        return math.nan if score is None else self.measured.mean - score

    @property
    def passed(self) -> bool:
        """Whether the score is the published one, under the published conditions."""
        return not self.deviations and abs(self.difference) <= self.published.tolerance_db


def find_published(name: str, benchmark: str | None = None) -> Published:
    """The publication of a name that has a score on a benchmark.

    Args:
        name: A hub id, the part after its owner, or an architecture such as ``sepformer``.
        benchmark: A key of ``BENCHMARKS``; None where the name alone is enough.

    Raises:
        ConfigError: If there is none or several; the message lists similar names.
    """
    if benchmark is not None and benchmark not in BENCHMARKS:
        raise ConfigError(
            f"verify: unknown corpus '{benchmark}'." + suggest(benchmark, list(BENCHMARKS), "Available")
        )
    wanted = name.lower()
    named = [
        each
        for each in list_published()
        if wanted in (each.hub_id.lower(), each.hub_id.rpartition("/")[2].lower(), each.model_type)
    ]
    if not named:
        known = dict.fromkeys(word for each in list_published() for word in (each.model_type, each.hub_id))
        raise ConfigError(
            f"verify: nothing published is called '{name}'." + suggest(name, list(known), "Known")
        )
    found = [each for each in named if each.benchmark is not None and benchmark in (None, each.benchmark)]
    if not found:
        scores = [
            f"{each.hub_id} on {each.benchmark or each.corpus}" for each in named if each.score is not None
        ]
        where = f"Scores are known of {', '.join(scores)}." if scores else "No card states one."
        raise ConfigError(f"verify: no score of {name} on {benchmark or 'any corpus'} is known. {where}")
    if len(found) > 1:
        choices = ", ".join(f"{each.hub_id} ({each.benchmark})" for each in found)
        raise ConfigError(f"verify: '{name}' may be one of {choices}; write which, or --corpus.")
    return found[0]


def verify(
    published: Published,
    root: Path,
    *,
    model: str | None = None,
    mode: Mode = "min",
    device: str = "auto",
    limit: int | None = None,
    num_workers: int | None = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure a published score again.

    Args:
        published: Publication that has a score.
        root: The corpus's folder.
        model: Weights to measure in place of the published ones, e.g. a copy on disk.
        mode: Mode of the mixtures; published scores are of ``min``.
        device: Device of the model.
        limit: Number of utterances to evaluate, from the first; None for all.
        num_workers: Processes for the metrics, as in ``evaluate``.
        folder: Receives the table and the summary; an interrupted evaluation in it is continued.
        progress: Called after every utterance.

    Raises:
        ConfigError: If the model does not fit the corpus.
        CheckpointError: If the weights cannot be loaded.
        FileNotFoundError: If the corpus is not there, or not in this mode or at this rate.
    """
    benchmark = BENCHMARKS[str(published.benchmark)]
    settings = {"root": str(root), "sample_rate": published.sample_rate, "mode": mode}
    config = parse_corpus_config({**benchmark.corpus, **settings}, "corpus")
    corpus = create_corpus(config, Split.TEST, benchmark.task)
    source = model or published.hub_id
    system = ModelSystem(load_model(source), published.hub_id.rpartition("/")[2], pick_device(device), source)
    if system.num_sources != corpus.num_sources:
        raise ConfigError(
            f"verify: {source} gives {counted(system.num_sources or 0, 'estimate')}, but "
            f"{published.benchmark} has {counted(corpus.num_sources, 'reference')}."
        )
    evaluation = evaluate(
        system,
        corpus,
        metrics=("si_snr",),
        limit=limit,
        num_workers=num_workers,
        folder=folder,
        progress=progress,
    )
    return Verification(published, evaluation, tuple(_deviations(published, evaluation, mode)))


def _deviations(published: Published, evaluation: Evaluation, mode: Mode) -> list[str]:
    found = []
    if mode != _PUBLISHED_MODE:
        found.append(f"mixtures are '{mode}', the published score is of '{_PUBLISHED_MODE}'")
    scored = evaluation.summary(COLUMN).count
    complete = BENCHMARKS[str(published.benchmark)].num_utterances or len(evaluation.rows)
    if scored != complete:
        found.append(f"{scored} utterances have a score, the test set has {complete}")
    return found
