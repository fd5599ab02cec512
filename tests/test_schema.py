from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polsess.config import explain_config, load_config, parse_config
from polsess.models import create_model, list_models, list_presets
from polsess.schema import ConfigError, Schema
from polsess.tasks import Task
from polsess.yaml_files import parse_yaml

FILE = """
model: {model_type: MODEL}
data: {corpus: {corpus_type: speech_clips, metadata: m.csv}}
"""
EXPERIMENT: dict[str, Any] = {
    "model": {"model_type": "blstm", "preset": "tiny"},
    "data": {"corpus": {"corpus_type": "speech_clips", "metadata": "clips.csv"}},
}


def with_model(**values: Any) -> dict[str, Any]:
    return {**EXPERIMENT, "model": {**EXPERIMENT["model"], **values}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            with_model(hiden_size=3),
            r"model\.hiden_size: unknown key of BLSTMConfig\. Did you mean 'hidden_size'\?",
        ),
        (with_model(hidden_size="3"), r"model\.hidden_size: .*integer, got '3'"),
        (with_model(hidden_size=True), r"model\.hidden_size: .*integer, got True"),
        (with_model(hidden_size=0), r"model\.hidden_size: .*greater than or equal to 1"),
        (with_model(preset="tny"), r"model\.preset: unknown preset 'tny'.* Did you mean 'tiny'\?"),
        (with_model(model_type="blsm"), r"Unknown model 'blsm'\. Did you mean 'blstm'\?"),
        (with_model(num_sources=3), r"model\.num_sources is 3, but task SB has 2"),
        ({**EXPERIMENT, "task": "XX"}, r"task: Input should be 'ES', 'EB', 'SB', 'OSD' or 'SV'"),
        ({**EXPERIMENT, "trainig": {}}, r"trainig: unknown key of Config\. Did you mean 'training'\?"),
        (
            {**EXPERIMENT, "training": {"optimizer": {"lr": 1}}},
            r"training\.optimizer\.lr: unknown key of Opt",
        ),
        ({"data": EXPERIMENT["data"]}, r"model: missing"),
        (
            with_model(sample_rate=16000),
            r"model\.sample_rate is 16000 Hz, but data\.corpus\.sample_rate is 8000",
        ),
        (
            {**EXPERIMENT, "training": {"early_stopping_patience": 2}},
            r"early_stopping_patience \(2\) must exceed",
        ),
    ],
)
def test_mistakes_name_the_key_and_the_remedy(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(data)


def test_many_mistakes_are_counted() -> None:
    with pytest.raises(ConfigError) as told:
        parse_config({**EXPERIMENT, **{f"key{n}": 1 for n in range(30)}})
    assert len(str(told.value).splitlines()) == 9
    assert str(told.value).endswith("... and 22 mistakes more.")


def test_the_string_below_a_field_describes_it() -> None:
    class Node(Schema):
        width: int = 3
        """How wide it is,
        in samples."""
        depth: int = 1

    class Leaf(Node):
        depth: int = 2
        """How deep."""

    fields = Leaf.model_json_schema()["properties"]
    assert fields["width"]["description"] == "How wide it is,\nin samples."
    assert fields["depth"]["description"] == "How deep."
    assert "description" not in Node.model_json_schema()["properties"]["depth"]


@pytest.mark.parametrize(("task", "sources"), [("ES", 1), ("EB", 1), ("SB", 2)])
def test_the_task_decides_the_sources(task: str, sources: int) -> None:
    config = parse_config({**EXPERIMENT, "task": task})
    assert config.task is Task(task)
    assert config.model.model_dump()["num_sources"] == sources


def test_three_speakers_make_three_sources() -> None:
    corpus = {**EXPERIMENT["data"]["corpus"], "num_speakers": 3}
    model = parse_config({**EXPERIMENT, "data": {"corpus": corpus}}).model
    assert model.model_dump()["num_sources"] == 3


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(FILE.replace("MODEL", "blstm, preset: tiny"))
    config = load_config(path, ["training.optimizer.learning_rate=1e-4", "model.dropout=0.2"])
    assert config.training.optimizer.learning_rate == 1e-4
    origins = {key: origin for key, _, origin in explain_config(path, ["model.dropout=0.2"])}
    assert origins["model.dropout"] == "command line"
    assert origins["model.model_type"] == str(path)
    assert origins["seed"] == "default"


def test_another_model_type_drops_the_old_model_s_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(FILE.replace("MODEL", "other, depth: 3"))
    assert load_config(path, ["model.model_type=blstm"]).model.model_type == "blstm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "file.yaml: line 2: the key 'a' comes twice"),
        ("a: !!python/object/apply:os.system [echo]", "file.yaml: line 1: could not determine a constructor"),
        ("a: !new:x.y {}", "file.yaml: line 1: could not determine a constructor"),
        ("a: [1", "file.yaml: line 1"),
        ("[" * 5000 + "]" * 5000, "file.yaml: more than 64 levels"),
        ("a" * 2_000_000, "file.yaml: larger than"),
    ],
)
def test_hostile_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "file.yaml")


def test_numbers_are_read_as_yaml_1_2_does() -> None:
    assert parse_yaml("[1e-3, 2.5E+4, 1, '1e-3']", "x") == [1e-3, 2.5e4, 1, "1e-3"]


def test_create_model_and_lists() -> None:
    assert "blstm" in list_models()
    assert "tiny" in list_presets("blstm")
    model = create_model("blstm", preset="tiny", num_sources=3)
    assert create_model(model.config).output_sources == 3
    assert create_model(model.config, num_sources=1).output_sources == 1
