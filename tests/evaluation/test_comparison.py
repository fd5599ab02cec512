from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polsess.evaluation import Evaluation, Row
from polsess.evaluation.comparison import (
    Contender,
    compare,
    extremes_table,
    parse_contenders,
    report,
    save_comparison,
    systems_table,
)
from polsess.evaluation.storage import EvaluationFolder
from polsess.metrics import Scores
from polsess.schema import ConfigError

COLUMNS = ("si_snr", "si_snri", "si_snr_mixture")


def evaluation(name: str, effect: float, seed: int = 0, count: int = 40, rate: int = 8000) -> Evaluation:
    difficulty = np.random.default_rng(99).normal(10, 2, 60)[:count]
    values = difficulty + effect + np.random.default_rng([seed, len(name)]).normal(0, 0.2, count)
    rows = tuple(
        Row(
            f"u{index}",
            Scores(dict.fromkeys(COLUMNS, (float(value),)), {}, (0,)),
            1.0,
            "d",
            {"speakers": f"{index // 2}-x{index // 2}"},
        )
        for index, value in enumerate(values)
    )
    settings = {"system": name, "metrics": ["si_snr"], "sample_rate": rate, "task": "SB"}
    return Evaluation(name, ("si_snr",), rows, settings)


def contender(name: str, effect: float, num_runs: int = 1) -> Contender:
    return Contender(name, tuple(evaluation(name, effect, seed) for seed in range(num_runs)))


def test_verdicts_on_every_pair() -> None:
    systems = [contender("a", 0.0), contender("bb", 0.0), contender("ccc", 0.5)]
    comparison = compare(systems)
    text = report(comparison)
    assert "a and bb: no difference shown." in text
    assert "ccc is better than a by 0." in text
    assert "ccc is better than bb by 0." in text
    assert f"40 utterances, list {systems[0].runs[0].list_hash}" in text
    assert "another training seed would change is not covered" in text
    difference = comparison.pairs[0][2]
    assert difference.num_clusters == 20


def test_too_few_utterances_are_said_so() -> None:
    few = [Contender(name, (evaluation(name, effect, count=6),)) for name, effect in (("a", 0), ("bb", 9))]
    assert "no difference shown (too few independent speakers or utterances: 3)" in report(compare(few))


def test_the_largest_differences_are_listed_first() -> None:
    first, second = contender("a", 0.0), contender("bb", 5.0)
    _, rows = extremes_table("si_snri", first, second, 4)
    listed = [abs(float(row[3])) for row in rows]
    differences = np.abs(second.values("si_snri") - first.values("si_snri"))[0]
    assert listed == pytest.approx(sorted(differences, reverse=True)[:4], abs=0.006)


def test_runs_of_a_system_are_averaged_by_utterance() -> None:
    comparison = compare([contender("a", 0.0, 3), contender("bb", 0.5, 3)])
    assert "cover other training runs" in report(comparison)
    header, rows = systems_table(comparison)
    assert rows[0][header.index("runs")] == "3"
    expected = np.std([np.mean(run.values("si_snri")) for run in comparison.contenders[0].runs], ddof=1)
    assert rows[0][header.index("std of runs")] == f"{expected:.2f}"


def test_lists_must_be_the_same_audio() -> None:
    first, second = contender("a", 0.0), contender("bb", 0.0)
    (run,) = second.runs
    changed = replace(run.rows[3], content="another mixture")
    other = replace(second, runs=(replace(run, rows=(*run.rows[:3], changed, *run.rows[:3:-1])),))
    with pytest.raises(ConfigError, match="39 are the same everywhere, of 40, 40"):
        compare([first, other])
    comparison = compare([first, other], common=True)
    assert comparison.pairs[0][2].count == 39
    ids = [[row.identifier for row in each.runs[0].rows] for each in comparison.contenders]
    assert ids[0] == ids[1]  # paired although the second list stood in another order


def test_what_cannot_be_compared() -> None:
    first = contender("a", 0.0)
    with pytest.raises(ConfigError, match="at least two"):
        compare([first])
    with pytest.raises(ConfigError, match="one name"):
        compare([first, first])
    with pytest.raises(ConfigError, match="sample_rate 8000, bb with 16000"):
        compare([first, Contender("bb", (evaluation("bb", 0.0, rate=16000),))])
    with pytest.raises(ConfigError, match=r"a: no score 'pesq'"):
        compare([first, contender("bb", 0.0)], "pesq")


@pytest.mark.parametrize(
    ("column", "metric", "key", "values"),
    [
        ("der", "conversation", "collar_seconds", (0.0, 0.25)),
        ("pesq", "pesq", "pesq_mode", ("nb", "wb")),
        ("cp_wer", "si_snr", "transcriber", ({"command": "a {wav}"}, {"command": "b {wav}"})),
        ("mos_all", "si_snr", "predictor", ("11", "22")),
    ],
)
def test_a_score_is_compared_under_its_own_conditions(
    column: str, metric: str, key: str, values: tuple[Any, Any]
) -> None:
    def run(name: str, value: Any) -> Contender:
        plain = evaluation(name, 0.0)
        predictors = [{"name": "mos", "outputs": ["all"], "path": name, "sha256": value}]
        changed = {"predictors": predictors} if key == "predictor" else {key: value}
        rows = tuple(
            replace(row, scores=replace(row.scores, values={**row.scores.values, column: (1.0,)}))
            for row in plain.rows
        )
        return Contender(
            name,
            (replace(plain, metrics=("si_snr", metric), rows=rows, settings={**plain.settings, **changed}),),
        )

    first, other = run("a", values[0]), run("bb", values[1])
    with pytest.raises(ConfigError, match=rf"a was evaluated with {key} .*, bb with "):
        compare([first, other], column)
    compare([first, other], "si_snri")  # which none of these concerns
    compare([first, run("ccc", values[0])], column)  # a predictor may lie elsewhere


def test_one_evaluation_is_one_training_run(tmp_path: Path) -> None:
    result = evaluation("one", 0.0)
    EvaluationFolder(tmp_path / "one", result.settings).finish(result)
    with pytest.raises(ConfigError, match=r"names .*one twice"):
        parse_contenders([f"a={tmp_path / 'one'},{tmp_path / '.' / 'one'}"])
    with pytest.raises(ConfigError, match="twice"):
        parse_contenders([f"a={tmp_path},{tmp_path / 'one'}"])


def test_folders_in_files_out(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1), ("three", 2)):
        result = evaluation(name, 0.1 * seed, seed)
        EvaluationFolder(tmp_path / name, result.settings).finish(result)
    (alone, joined) = parse_contenders(
        [str(tmp_path / "one"), f"both={tmp_path / 'two'},{tmp_path / 'three'}"]
    )
    assert (alone.name, joined.name, len(joined.runs)) == ("one", "both", 2)
    with pytest.raises(ConfigError, match="is no name"):
        parse_contenders([f"../x={tmp_path / 'two'}"])
    with pytest.raises(FileNotFoundError):
        parse_contenders([str(tmp_path / "four")])
    every = parse_contenders([str(tmp_path)])
    assert [each.name for each in every] == ["one", "three", "two"], "a folder that holds several"
    (pooled,) = parse_contenders([f"all={tmp_path}"])
    assert (pooled.name, len(pooled.runs)) == ("all", 3)
    comparison = compare([alone, joined])
    save_comparison(comparison, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "utterances.csv").read_text().splitlines()))
    assert len(rows) == 40
    assert float(rows[0]["both"]) == pytest.approx(
        np.mean([run.values("si_snri")[0] for run in joined.runs]), abs=1e-4
    )
    assert "both - one" in (tmp_path / "out" / "comparison.csv").read_text()
    assert (tmp_path / "out" / "comparison.tex").read_text().count(r"\toprule") == 2
