"""Systems side by side on one frozen list of utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polsess.evaluation.results import Evaluation, columns_of_predictors
from polsess.evaluation.storage import find_evaluations, read_evaluation
from polsess.files import write_texts
from polsess.metrics import (
    SCORES,
    WORD_ERRORS,
    Difference,
    correct_after_holm,
    lower_is_better,
    paired_difference,
    title_of,
    unit_of,
)
from polsess.schema import ConfigError, suggest
from polsess.text_tables import comma_separated, latex, markdown, number

_DIARIZATION_ERRORS = tuple(name for name in SCORES if name == "der" or name.startswith("der_"))


@dataclass(frozen=True)
class Contender:
    """One system, with one evaluation per training run."""

    name: str
    runs: tuple[Evaluation, ...]

    def values(self, column: str) -> NDArray[np.float64]:
        """One score for every run and utterance, ``[R, N]``."""
        return np.array([run.values(column) for run in self.runs])


@dataclass(frozen=True)
class Comparison:
    """Every pair of systems on one score."""

    column: str
    contenders: tuple[Contender, ...]
    pairs: tuple[tuple[Contender, Contender, Difference], ...]

    @property
    def list_hash(self) -> str:
        """Digest of the list of utterances on which all systems were compared."""
        return self.contenders[0].runs[0].list_hash


def compare(contenders: Sequence[Contender], column: str = "si_snri", *, common: bool = False) -> Comparison:
    """Compare every pair of systems.

    Args:
        contenders: At least two.
        column: The score, a key of ``SCORES``.
        common: Compare on the utterances that all systems have; otherwise differing lists are an error.

    Raises:
        ConfigError: If the score is missing somewhere, or the lists or settings differ.
    """
    if len(contenders) < 2:
        raise ConfigError("Expected at least two systems.")
    _check_names(contenders)
    _check_conditions(contenders, column)
    for contender in contenders:
        for run in contender.runs:
            if column not in run.columns:
                known = suggest(column, list(run.columns), "It has")
                raise ConfigError(f"{contender.name}: no score '{column}'.{known}")
    aligned = _align(contenders, common)
    clusters = [row.clusters for row in aligned[0].runs[0].rows]
    pairs = list(combinations(aligned, 2))
    differences = correct_after_holm(
        [
            paired_difference(
                first.values(column),
                second.values(column),
                clusters,
                lower_is_better=lower_is_better(column),
            )
            for first, second in pairs
        ]
    )
    found = tuple((*pair, each) for pair, each in zip(pairs, differences, strict=True))
    return Comparison(column, tuple(aligned), found)


def parse_contenders(texts: Sequence[str]) -> list[Contender]:
    """Read the systems that a user names.

    Args:
        texts: Each ``FOLDER``, an evaluation or a folder that holds several, each a system by itself; or
            ``NAME=FOLDER,FOLDER`` for the runs of one system that differ in their seed.

    Raises:
        ConfigError: If a name cannot name a file, or a system has one folder twice.
        FileNotFoundError: If a folder holds no finished evaluation.
    """
    return [contender for text in texts for contender in _parse(text)]


def _parse(text: str) -> list[Contender]:
    name, equals, folders = text.rpartition("=")
    if equals and (not name or set(name) & set("/\\")):
        raise ConfigError(f"'{name}' is no name; write NAME=FOLDER or NAME=FOLDER,FOLDER.")
    found = [path for folder in folders.split(",") for path in find_evaluations(Path(folder))]
    places = [path.resolve() for path in found]
    if twice := [path for path, place in zip(found, places, strict=True) if places.count(place) > 1]:
        raise ConfigError(f"'{text}' names {twice[0]} twice; one evaluation is one training run.")
    runs = tuple(read_evaluation(path) for path in found)
    if equals or "," in folders:
        return [Contender(name or runs[0].system, runs)]
    systems = [run.system for run in runs]
    names = systems if len(set(systems)) == len(systems) else [path.as_posix() for path in found]
    return [Contender(name, (run,)) for name, run in zip(names, runs, strict=True)]


def report(comparison: Comparison, num_examples: int = 10) -> str:
    """The comparison as a Markdown document."""
    unit = unit_of(comparison.column)
    utterances = len(comparison.contenders[0].runs[0].rows)
    parts = [
        f"# {title_of(comparison.column)} on {utterances} utterances, list {comparison.list_hash}",
        markdown(*systems_table(comparison)),
        markdown(*pairs_table(comparison)),
        "\n".join(f"- {each.verdict(a.name, b.name, unit)}" for a, b, each in comparison.pairs),
        "Intervals (95 %) and p (t-test, corrected after Holm) allow for speakers that recur in other "
        f"utterances, where the data names them. {_seeds_note(comparison)}",
    ]
    for first, second, _ in comparison.pairs:
        table = markdown(*extremes_table(comparison.column, first, second, num_examples))
        parts.append(f"Where {first.name} and {second.name} differ most:\n\n{table}")
    return "\n\n".join(parts) + "\n"


def systems_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mean and median of every system, spread over its runs."""
    rows = []
    for contender in comparison.contenders:
        values = contender.values(comparison.column)
        per_utterance = values.mean(0)
        valid = per_utterance[np.isfinite(per_utterance)]
        of_runs = np.nanmean(values, axis=1) if len(valid) else np.full(len(values), np.nan)
        spread = number(float(np.std(of_runs, ddof=1))) if len(values) > 1 else "-"
        centre = [float(np.mean(valid)), float(np.median(valid))] if len(valid) else [np.nan, np.nan]
        rows.append([contender.name, *map(number, centre), str(len(valid)), str(len(values)), spread])
    return ["system", "mean", "median", "n", "runs", "std of runs"], rows


def pairs_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the difference of every pair."""
    some_left_out = any(difference.num_left_out for _, _, difference in comparison.pairs)
    rows = []
    for first, second, difference in comparison.pairs:
        rows.append(
            [
                f"{second.name} - {first.name}",
                number(difference.mean),
                f"{difference.p_value:.2g}",
                "yes" if difference.is_shown else "no",
                f"{number(difference.low)} to {number(difference.high)}",
                f"{100 * difference.share_better:.0f} %",
                str(difference.count),
                *([str(difference.num_left_out)] if some_left_out else []),
            ]
        )
    header = ["pair", "difference", "p", "shown", "95 % interval", "better on", "n"]
    return [*header, *(["left out"] if some_left_out else [])], rows


def extremes_table(
    column: str, first: Contender, second: Contender, num_examples: int
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the utterances with the largest differences either way, the largest first."""
    one, other = first.values(column).mean(0), second.values(column).mean(0)
    differences = other - one
    finite = np.flatnonzero(np.isfinite(differences))
    chosen = finite[np.argsort(-np.abs(differences[finite]), kind="stable")][:num_examples].tolist()
    identifiers = [row.identifier for row in first.runs[0].rows]
    rows = [
        [identifiers[index], *(number(float(each[index])) for each in (one, other, differences))]
        for index in chosen
    ]
    return ["utterance", first.name, second.name, "difference"], rows


def save_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.md``, ``comparison.csv``, ``comparison.tex`` and ``utterances.csv``."""
    tables = (systems_table(comparison), pairs_table(comparison))
    values = [contender.values(comparison.column).mean(0) for contender in comparison.contenders]
    rows = [
        [row.identifier, *(f"{each[index]:.6g}" if np.isfinite(each[index]) else "" for each in values)]
        for index, row in enumerate(comparison.contenders[0].runs[0].rows)
    ]
    header = ["identifier", *(contender.name for contender in comparison.contenders)]
    texts = {
        "comparison.md": report(comparison),
        "comparison.csv": comma_separated(*pairs_table(comparison)),
        "comparison.tex": "\n\n".join(latex(*table) for table in tables) + "\n",
        "utterances.csv": comma_separated(header, rows),
    }
    write_texts({folder / name: text for name, text in texts.items()})


def _seeds_note(comparison: Comparison) -> str:
    if all(len(contender.runs) > 1 for contender in comparison.contenders):
        return "The intervals cover other training runs too."
    return "Systems with one run: what another training seed would change is not covered."


def _check_names(contenders: Sequence[Contender]) -> None:
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise ConfigError(f"Two systems have one name ({', '.join(names)}); write NAME=FOLDER.")


def _check_conditions(contenders: Sequence[Contender], column: str) -> None:
    runs = [
        (contender.name, _conditions(run.settings, column))
        for contender in contenders
        for run in contender.runs
    ]
    name, mine = runs[0]
    for other, theirs in runs[1:]:
        for key, value in mine.items():
            if theirs[key] != value:
                raise ConfigError(f"{name} was evaluated with {key} {value}, {other} with {theirs[key]}.")


def _conditions(settings: Mapping[str, Any], column: str) -> dict[str, Any]:
    """The settings in which two evaluations must agree for one score of both to be compared."""
    keys = ["sample_rate", "task"]
    keys += ["pesq_mode"] if column == "pesq" else []
    keys += ["collar_seconds"] if column in _DIARIZATION_ERRORS else []
    keys += ["transcriber"] if column in WORD_ERRORS else []
    found = {key: settings.get(key) for key in keys}
    for predictor in settings.get("predictors", ()):
        if column in columns_of_predictors({"predictors": [predictor]}):
            found["predictor"] = {key: value for key, value in predictor.items() if key != "path"}
    return found


def _align(contenders: Sequence[Contender], common: bool) -> list[Contender]:
    """Align all evaluations to the same utterances in the same order."""
    tables = [
        {(row.identifier, row.content): row for row in run.rows}
        for contender in contenders
        for run in contender.runs
    ]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if not shared or (not common and any(len(table) > len(shared) for table in tables)):
        raise ConfigError(
            f"The lists of utterances differ; {len(shared)} are the same everywhere, of "
            f"{', '.join(str(len(table)) for table in tables)}, by name, sound, turns and words. Evaluate on "
            "the same data, or pass --common."
        )
    each = iter(tables)
    return [
        replace(
            contender,
            runs=tuple(
                replace(run, rows=tuple(table[key] for key in shared))
                for run, table in zip(contender.runs, each, strict=False)
            ),
        )
        for contender in contenders
    ]
