"""The page knows no system, holds the same bytes for the same seed, and everything it needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from polsess.audio import read_audio
from polsess.evaluation import SavedEvaluation
from polsess.listening import Anchor, Clips, Kind, ListeningPlan, export_webmushra, read_key, save_test
from polsess.listening.pages import render
from polsess.schema import ConfigError, parse
from tests.listening.planted import RATE, SYSTEMS, small_test

CONDITIONS = {*SYSTEMS, "reference", "mixture", "low", "mid"}


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_names_a_system(evaluations: list[SavedEvaluation], tmp_path: Path, kind: Kind) -> None:
    test = small_test(evaluations, kind=kind)
    save_test(test, tmp_path)
    page = (tmp_path / "test.html").read_text()
    for trial in data_of(page)["trials"]:
        trial["stimuli"] = dict.fromkeys(trial["stimuli"], "")
        assert set(trial) == {"id", "training", "reference", "stimuli"}
    for secret in (
        *SYSTEMS,
        *(word for name in SYSTEMS for word in name.split("-")),
        "item0",
        "item1",
        "item2",
    ):
        assert secret not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.json", "test.html"]
    assert read_key(tmp_path / "key.json") == test.key


def test_letters_do_not_follow_conditions(evaluations: list[SavedEvaluation]) -> None:
    trials = small_test(evaluations).key.trials
    named = {tuple(each.condition for each in trial.stimuli) for trial in trials}
    assert len(trials) == 5
    assert len(named) > 2
    assert all(set(order) == CONDITIONS for order in named)


def test_the_same_seed_gives_the_same_bytes(evaluations: list[SavedEvaluation]) -> None:
    pages = [render(small_test(evaluations, seed=seed)) for seed in (7, 7, 8)]
    assert pages[0] == pages[1]
    assert data_of(pages[0])["test"] != data_of(pages[2])["test"]


def test_the_page_holds_the_sounds_of_the_key(evaluations: list[SavedEvaluation], tmp_path: Path) -> None:
    test = small_test(evaluations, clips=2)
    for trial, shown in zip(test.trials, data_of(render(test))["trials"], strict=True):
        assert (shown["id"], shown["training"]) == (trial.key.id, trial.key.training)
        hidden = next(each.id for each in trial.key.stimuli if each.condition == "reference")
        assert shown["stimuli"][hidden] == shown["reference"]
        for letter, wav in shown["stimuli"].items():
            (tmp_path / "a.wav").write_bytes(base64.b64decode(wav))
            samples, rate = read_audio(tmp_path / "a.wav")
            assert rate == RATE
            np.testing.assert_allclose(samples[0].numpy() * 2**15, trial.sounds[letter], atol=0.51)


def test_the_title_cannot_break_out(evaluations: list[SavedEvaluation]) -> None:
    page = render(small_test(evaluations, clips=1, title="</title><script>alert(1)</script>{{data}}&"))
    assert "<script>alert" not in page
    assert page.count("&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;{{data}}&amp;") == 2


def test_only_our_script_may_run_and_nothing_is_loaded(evaluations: list[SavedEvaluation]) -> None:
    page = render(small_test(evaluations, clips=1))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(", page)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", script)
    assert {"page.html", "page.css", "page.js", "player.js"} <= {
        path.name for path in (files("polsess.listening") / "assets").iterdir()
    }


def test_a_key_is_not_overwritten_by_accident(evaluations: list[SavedEvaluation], tmp_path: Path) -> None:
    save_test(small_test(evaluations, clips=1), tmp_path)
    save_test(small_test(evaluations, clips=1), tmp_path)
    other = small_test(evaluations, clips=1, seed=1)
    with pytest.raises(FileExistsError, match="key of another test"):
        save_test(other, tmp_path)
    save_test(other, tmp_path, overwrite=True)
    assert read_key(tmp_path / "key.json").test == other.key.test


def test_pairs_and_their_controls(evaluations: list[SavedEvaluation]) -> None:
    key = small_test(evaluations, kind=Kind.AB, anchors=(Anchor.MIXTURE,)).key
    training, *counted = key.trials
    assert {each.condition for each in training.stimuli} == {"reference", "mixture"}
    assert training.training
    controls = [trial for trial in counted if trial.control]
    pairs = [frozenset(each.condition for each in trial.stimuli) for trial in counted if not trial.control]
    assert len(controls) == 2
    assert len(pairs) == 4 * 3
    assert set(map(len, pairs)) == {2}
    assert not any("reference" in pair for pair in pairs)


def test_one_sound_at_a_time(evaluations: list[SavedEvaluation]) -> None:
    test = small_test(evaluations, kind=Kind.P835, clips=2)
    assert [trial.key.training for trial in test.trials] == [True] * 4 + [False] * 8
    assert all(trial.reference is None and len(trial.sounds) == 1 for trial in test.trials)
    assert set(test.key.conditions) == {*SYSTEMS, "reference", "mixture"}


def test_webmushra(evaluations: list[SavedEvaluation], tmp_path: Path) -> None:
    test = small_test(evaluations, clips=2)
    found = yaml.safe_load(export_webmushra(test, tmp_path).read_text())
    assert found["testId"] == test.key.test
    welcome, training, (order, *pages), finish = found["pages"]
    assert (welcome["type"], order, finish["type"]) == ("generic", "random", "finish")
    assert training["name"] == "Training"
    for page, trial in zip([training, *pages], test.trials, strict=True):
        assert page["type"] == "mushra"
        assert (page["createAnchor35"], page["createAnchor70"]) == (False, False)
        hidden = next(each.id for each in trial.key.stimuli if each.condition == "reference")
        assert set(page["stimuli"]) == set(trial.sounds) - {hidden}
        for path in (page["reference"], *page["stimuli"].values()):
            assert read_audio(tmp_path / path)[0].shape == (1, len(trial.sounds[hidden]))
    names = " ".join(str(path) for path in tmp_path.rglob("*")) + str(found)
    assert not any(name in names for name in SYSTEMS)
    with pytest.raises(ConfigError, match="expected a test of kind mushra, got ab"):
        export_webmushra(small_test(evaluations, kind=Kind.AB, clips=1), tmp_path)


def test_too_little_and_too_much(evaluations: list[SavedEvaluation]) -> None:
    with pytest.raises(ConfigError, match="--clips: expected 9 and one for training, but the data gives 5"):
        small_test(evaluations, clips=9)
    with pytest.raises(ConfigError, match=r"--item 'item7': not among them. Did you mean"):
        small_test(evaluations, items=("item7",))
    with pytest.raises(ConfigError, match="needs two evaluations, or --anchor mixture"):
        small_test(evaluations[:1], kind=Kind.AB)
    with pytest.raises(ConfigError, match="two evaluations are of one name"):
        Clips([evaluations[0], evaluations[0]])
    with pytest.raises(ConfigError, match="only 'mixture' can be added"):
        parse(ListeningPlan, {"kind": "ab", "anchors": ["low"]})


def test_chosen_items_are_the_ones_that_count(evaluations: list[SavedEvaluation]) -> None:
    training, *counted = small_test(evaluations, items=("item1",)).key.trials
    assert {trial.item for trial in counted} == {"item1"}
    assert training.item != "item1"
