"""What was measured of a model on one corpus: kept in its ``config.json``, printed in its card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from polsess.schema import Schema
from polsess.text_tables import counted, markdown, number

_LOCATIONS = ("root", "folder", "manifest", "metadata")
"""Keys of a corpus that say where it lies."""


class MeasuredScore(Schema):
    """One score of all utterances."""

    column: str
    """Its name in tables of scores, e.g. ``si_snri``."""
    title: str
    """Its name with its unit."""
    mean: float
    interval_95: tuple[float, float] | None = None
    """Bounds of the 95 % interval of the mean; None where there are too few independent utterances."""
    median: float
    count: int = Field(ge=0)
    """Number of utterances with a value."""
    caution: str = ""
    """Why the interval is rough or missing; empty where it is neither."""


class MeasuredResult(Schema):
    """The scores of a model on one corpus."""

    corpus: dict[str, Any]
    """Settings of the corpus that are not the defaults, without the folders of a machine."""
    split: str
    task: str
    seed: int
    sample_rate: int = Field(ge=1)
    """In Hz."""
    num_utterances: int = Field(ge=0)
    num_failed: int = Field(default=0, ge=0)
    list_hash: str
    """Digest of the utterances and their sounds."""
    metrics: tuple[str, ...]
    scores: tuple[MeasuredScore, ...]
    options: tuple[str, ...] = ()
    """Words of ``polsess evaluate`` that were given besides."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of the packages that computed the scores."""

    @property
    def corpus_name(self) -> str:
        """The kind of corpus, and the name of its folder or file."""
        return name_of_corpus(self.corpus)


def name_of_corpus(corpus: Mapping[str, Any]) -> str:
    """The kind of corpus, and the name of its folder or file, e.g. ``folder my_set``."""
    places = [str(corpus[key]) for key in _LOCATIONS if corpus.get(key)]
    return " ".join(
        [str(corpus.get("corpus_type", "corpus")), *(re.split(r"[/\\]", places[0])[-1:] if places else [])]
    )


def results_section(results: Sequence[MeasuredResult], name: str) -> str:
    """The results as Markdown: tables, and how to measure them again.

    Args:
        results: One or more.
        name: The model as a command takes it.
    """
    parts = ["## Measured"]
    for index, each in enumerate(results):
        file = "data.yaml" if len(results) == 1 else f"data{index + 1}.yaml"
        parts += [_facts(each), _table(each), _again(each, file, name)]
    return "\n\n".join(parts)


def hub_index(results: Sequence[MeasuredResult], name: str, pipeline: str) -> list[dict[str, Any]]:
    """The results as the hub's front matter holds them under ``model-index``."""
    found = [
        {
            "task": {"type": pipeline, "name": each.task},
            "dataset": {
                "type": str(each.corpus.get("corpus_type", "corpus")),
                "name": each.corpus_name,
                "split": each.split,
            },
            "metrics": [
                {"type": score.column, "value": round(score.mean, 4), "name": score.title}
                for score in each.scores
            ],
        }
        for each in results
    ]
    return [{"name": name, "results": found}]


def _facts(result: MeasuredResult) -> str:
    failed = f", of which {result.num_failed} could not be evaluated" if result.num_failed else ""
    versions = ", ".join(f"{one_cell(key)} {one_cell(value)}" for key, value in result.versions.items())
    return (
        f"{one_cell(result.corpus_name)}, split {one_cell(result.split)}, task {one_cell(result.task)}: "
        f"{counted(result.num_utterances, 'utterance')}{failed} at {result.sample_rate} Hz, "
        f"list `{one_cell(result.list_hash)}`{f' ({versions})' if versions else ''}."
    )


def _table(result: MeasuredResult) -> str:
    rows = [
        [
            one_cell(each.title, keep="[]"),
            number(each.mean),
            f"{number(each.interval_95[0])} to {number(each.interval_95[1])}" if each.interval_95 else "-",
            number(each.median),
            str(each.count),
        ]
        for each in result.scores
    ]
    table = markdown(["score", "mean", "95 % interval", "median", "n"], rows)
    cautions = dict.fromkeys(one_cell(each.caution) for each in result.scores if each.caution)
    return "\n\n".join([table, *(f"Caution: {caution}." for caution in cautions)])


def _again(result: MeasuredResult, file: str, name: str) -> str:
    data = {"corpus": result.corpus, "task": result.task, "seed": result.seed}
    lines = yaml.safe_dump(data, sort_keys=False, allow_unicode=True).replace("```", "")
    words = ["polsess", "evaluate", "-m", name, "-d", file, "--split", result.split]
    words += ["--metrics", ",".join(result.metrics), *result.options]
    return (
        f"To measure it again, with this as `{file}`:\n\n```yaml\n{lines}```\n\n"
        f"```\n{' '.join(one_cell(word) for word in words)}\n```"
    )


def one_cell(text: str, keep: str = "") -> str:
    """Text from a file, so that it cannot leave its cell of a Markdown table."""
    barred = "".join(character for character in "|<>`[]" if character not in keep)
    return " ".join(re.sub(f"[{re.escape(barred)}]", " ", text).split())
