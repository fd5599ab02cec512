"""Answers: planted opinions come back, planted bad listeners are excluded, bad files are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polsess.evaluation import SavedEvaluation
from polsess.listening import Anchor, Kind, analyse, read_answers, read_key, save_analysis
from polsess.listening.results import plot_ratings, report
from polsess.schema import ConfigError
from tests.listening.planted import SYSTEMS, answers, noisy, small_test, write_answers

FIRST, SECOND = SYSTEMS
MEANS = {"reference": 100.0, FIRST: 78.0, SECOND: 63.0, "mixture": 20.0, "low": 15.0, "mid": 40.0}


@pytest.mark.parametrize("kind", list(Kind))
def test_planted_means_come_back_and_a_careless_listener_is_excluded(
    evaluations: list[SavedEvaluation], tmp_path: Path, kind: Kind
) -> None:
    key = small_test(evaluations, kind=kind, clips=4).key
    files = [answers(key, f"L{number}", noisy(MEANS, number)) for number in range(9)]
    careless = answers(key, "sleepy", lambda condition: 60.0 if condition == "reference" else 80.0)
    found = analyse(read_answers([write_answers(tmp_path / "answers", *files, careless)], key), key)
    assert found.excluded == {"sleepy"}
    assert {each.listener for each in found.counted} == {f"L{number}" for number in range(9)}
    scale = {Kind.MUSHRA: "quality", Kind.AB: "preference", Kind.P835: "overall"}[kind]
    expected = {Kind.MUSHRA: 78.0, Kind.AB: 1.0, Kind.P835: 4.0}[kind]
    best = found.summaries[scale, FIRST]
    assert best.mean == pytest.approx(expected, abs=1.5 if kind is Kind.MUSHRA else 0.25)
    assert best.low <= best.mean <= best.high
    pair = next(
        each for each in found.pairs if {each.first, each.second} == {*SYSTEMS} and each.scale == scale
    )
    assert pair.difference.is_shown
    assert pair.verdict.startswith(f"{FIRST} is better than {SECOND} by")
    text = report(found)
    assert "9 of 10 listeners" in text
    assert "Excluded: sleepy " in text


def test_equal_systems_show_no_difference(evaluations: list[SavedEvaluation], tmp_path: Path) -> None:
    key = small_test(evaluations, clips=4).key
    means = {**MEANS, SECOND: MEANS[FIRST]}
    files = [answers(key, f"L{number}", noisy(means, number)) for number in range(8)]
    found = analyse(read_answers([write_answers(tmp_path / "a", *files)], key), key)
    pair = next(each for each in found.pairs if {each.first, each.second} == {*SYSTEMS})
    assert pair.verdict.endswith("no difference shown.")
    few = analyse(read_answers([tmp_path / "a" / f"answers-L{number}.json" for number in range(3)], key), key)
    assert all("(too few listeners: 3)" in each.verdict for each in few.pairs)
    assert "Nobody is excluded" in report(few)


def test_the_reference_may_be_missed_in_15_percent_of_the_trials(
    evaluations: list[SavedEvaluation], tmp_path: Path
) -> None:
    key = small_test(evaluations, clips=4).key
    file = answers(key, "once", noisy(MEANS, 1))
    trial = key.trials[1]
    hidden = next(each.id for each in trial.stimuli if each.condition == "reference")
    file["trials"][1]["ratings"][hidden] = 90
    assert not analyse(read_answers([write_answers(tmp_path / "a", file)], key), key).excluded
    file["trials"][1]["ratings"][hidden] = 89
    with pytest.raises(
        ConfigError, match=r"no listener passes the screening: once rated .* below 90 in 1 of 4"
    ):
        analyse(read_answers([write_answers(tmp_path / "b", file)], key), key)
    file["trials"][1]["ratings"][hidden] = 100
    training = next(each.id for each in key.trials[0].stimuli if each.condition == "reference")
    file["trials"][0]["ratings"][training] = 0
    assert not analyse(read_answers([write_answers(tmp_path / "c", file)], key), key).excluded


def test_no_difference_counts_half_and_controls_do_not_count(
    evaluations: list[SavedEvaluation], tmp_path: Path
) -> None:
    key = small_test(evaluations, kind=Kind.AB, anchors=(Anchor.MIXTURE,), clips=4).key
    files = [
        answers(key, f"L{n}", lambda name: {"reference": 9, "mixture": 1}.get(name, 5)) for n in range(6)
    ]
    found = analyse(read_answers([write_answers(tmp_path / "a", *files)], key), key)
    assert found.summaries["preference", FIRST].mean == 0.75  # all against the mixture, half of the other
    assert found.summaries["preference", "mixture"].mean == 0.0
    assert ("preference", "reference") not in found.summaries
    equal = next(each for each in found.pairs if {each.first, each.second} == {*SYSTEMS})
    assert equal.counts == (0, 24, 0)
    assert not equal.difference.is_shown


def test_files_of_results(evaluations: list[SavedEvaluation], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    key = small_test(evaluations, kind=Kind.P835, clips=2).key
    files = [answers(key, f"L{number}", noisy(MEANS, number)) for number in range(3)]
    found = analyse(read_answers([write_answers(tmp_path / "a", *files)], key), key)
    save_analysis(found, tmp_path / "out")
    plot_ratings(found, tmp_path / "out" / "ratings.png")
    ratings = (tmp_path / "out" / "ratings.csv").read_text().splitlines()
    assert len(ratings) == 1 + 3 * 8 * 3  # listeners, sounds, scales
    assert (tmp_path / "out" / "results.md").read_text() == report(found)
    assert len((tmp_path / "out" / "pairs.csv").read_text().splitlines()) == 1 + 3 * 3
    assert (tmp_path / "out" / "ratings.png").read_bytes()[:4] == b"\x89PNG"


def _set(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(file: dict[str, Any]) -> None:
        place: Any = file
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _set(["trials", 1, "ratings", "a"], 101),
            r"trials\.1\.ratings\.a: .*less than or equal to 100, got 101",
        ),
        (_set(["trials", 1, "ratings", "a"], "90"), r"trials\.1\.ratings\.a: .*valid integer"),
        (_set(["trials", 1, "ratings", "a"], None), r"trials\.1\.ratings\.a: "),
        (
            _set(["trials", 1, "ratings", "z"], 5),
            r"trials\.t001\.ratings: expected a, b, c, d, e, f, got a.* z",
        ),
        (_set(["trials", 1, "trial"], "t002"), r"trials: t002 answered twice"),
        (_set(["trials", 1, "trial"], "t9"), r"trials: t9 not in the key"),
        (lambda file: file["trials"].pop(2), r"trials: t002 missing; the listener has not finished"),
        (_set(["test"], "0000"), r"test: answers '0000', but the key is of"),
        (_set(["kind"], "ab"), r"kind: answers 'ab', but the key is of 'mushra'"),
        (_set(["listener"], "../../etc"), r"listener: .*pattern"),
        (_set(["admin"], True), r"admin: unknown key"),
        (_set(["trials"], {"a": 1}), r"trials: .*(array|tuple)"),
    ],
)
def test_bad_answers_are_refused_with_file_and_key(
    evaluations: list[SavedEvaluation], tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    key = small_test(evaluations, clips=2).key
    file = answers(key, "L1", noisy(MEANS, 1))
    change(file)
    (tmp_path / "bad.json").write_text(json.dumps(file))
    with pytest.raises(ConfigError, match=rf"bad\.json.*{message}"):
        read_answers([tmp_path / "bad.json"], key)


@pytest.mark.parametrize("grade", [0, 6, 3.5])
def test_grades_outside_the_scale_are_refused(
    evaluations: list[SavedEvaluation], tmp_path: Path, grade: float
) -> None:
    key = small_test(evaluations, kind=Kind.P835, clips=1).key
    file = answers(key, "L1", noisy(MEANS, 1))
    file["trials"][0]["ratings"]["overall"] = grade
    with pytest.raises(ConfigError, match=r"trials\.0\.ratings\.overall"):
        read_answers([write_answers(tmp_path / "a", file)], key)
    other = small_test(evaluations, kind=Kind.AB, clips=1).key
    choice = answers(other, "L1", noisy(MEANS, 1))
    choice["trials"][1]["choice"] = "both"
    with pytest.raises(ConfigError, match=r"trials\.t001\.choice: expected a, b, none, got 'both'"):
        read_answers([write_answers(tmp_path / "b", choice)], other)


def test_files_that_are_no_answers(evaluations: list[SavedEvaluation], tmp_path: Path) -> None:
    key = small_test(evaluations, clips=1).key
    file = answers(key, "L1", noisy(MEANS, 1))
    write_answers(tmp_path, file)
    (tmp_path / "copy.json").write_text(json.dumps(file))
    with pytest.raises(
        ConfigError, match=r"copy\.json: listener: 'L1' has answered in .*answers-L1\.json too"
    ):
        read_answers([tmp_path], key)
    for text in (
        "{",
        '{"seconds": NaN}',
        "[" * 100_000,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ):
        (tmp_path / "copy.json").write_text(text)
        with pytest.raises(ConfigError, match=r"copy\.json: not readable as JSON"):
            read_answers([tmp_path / "copy.json"], key)
    (tmp_path / "copy.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"copy\.json: expected an object"):
        read_answers([tmp_path / "copy.json"], key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no \.json in"):
        read_answers([tmp_path / "empty"], key)


def test_damaged_keys(evaluations: list[SavedEvaluation], tmp_path: Path) -> None:
    data = small_test(evaluations, clips=1).key.model_dump(mode="json")
    data["trials"] = data["trials"] * 2
    (tmp_path / "key.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=r"key\.json: trials: an id comes twice"):
        read_key(tmp_path / "key.json")
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"key\.json\.test: missing"):
        read_key(tmp_path / "key.json")
