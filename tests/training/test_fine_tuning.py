"""Starting from other weights, frozen parts, heads that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from polsess.checkpoints import CheckpointError, convert_checkpoint, load_model, save_model
from polsess.cli.main import app
from polsess.config import TrainingConfig, explain_config, load_config, parse_config
from polsess.files import sha256
from polsess.models import SeparationModel, create_model
from polsess.schema import ConfigError
from polsess.tasks import Task
from polsess.training.fine_tuning import freeze, frozen_norms, start_from
from polsess.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HEAD = ["to_masks.weight", "to_masks.bias"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model of two speakers that somebody trained."""
    torch.manual_seed(7)
    return save_model(create_model("blstm", preset="tiny"), tmp_path / "source", task="SB")


def with_training(experiment: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {**experiment, "training": {**experiment["training"], **training}}


def run(experiment: dict[str, Any], folder: Path, *, resume: bool = False, **training: Any) -> list[str]:
    said: list[str] = []
    config = parse_config(with_training(experiment, **training))
    train(config, folder, resume=resume, progress=False, say=said.append)
    return said


def checkpoint(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def start(
    model: SeparationModel, source: Path | str, task: Task = Task.SB, *, reset_head: bool = False
) -> Any:
    return start_from(model, TrainingConfig(init=str(source), reset_head=reset_head), task)


def test_a_run_begins_with_the_weights_it_was_given(
    experiment: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    said = run(experiment, tmp_path / "run", init=str(source), optimizer={"learning_rate": 1e-30})
    assert said == [f"Starting from {source} (polsess)."]
    theirs = load_model(source).state_dict()
    ours = checkpoint(tmp_path / "run")["state_dict"]
    for key, value in theirs.items():
        torch.testing.assert_close(ours[f"model.{key}"], value, atol=1e-6, rtol=0)


def test_the_draws_of_a_run_do_not_depend_on_its_origin(source: Path) -> None:
    torch.manual_seed(0)
    model = create_model("blstm", preset="tiny", num_sources=3)
    fresh_head, expected = model.to_masks.weight.clone(), torch.get_rng_state()  # type: ignore[union-attr, operator]
    origin = start(model, source, reset_head=True)
    assert torch.equal(torch.get_rng_state(), expected)
    assert origin.reset == HEAD
    assert torch.equal(model.get_parameter("to_masks.weight"), fresh_head)
    body = load_model(source).state_dict()
    assert all(torch.equal(model.state_dict()[key], body[key]) for key in body if key not in HEAD)


def test_a_head_of_other_sources_is_named_and_not_reset_unasked(source: Path) -> None:
    model = create_model("blstm", preset="tiny", num_sources=3)
    with pytest.raises(ConfigError, match=r"2 sources, the run 3; to_masks.weight, to_masks.bias .*--reset"):
        start(model, source)


@pytest.mark.parametrize("name", ["convtasnet", "sepreformer", "dprnn", "mossformer2", "tfgridnet"])
def test_the_head_is_found_in_other_architectures(name: str, tmp_path: Path) -> None:
    folder = save_model(create_model(name, preset="tiny"), tmp_path / name)
    model = create_model(name, preset="tiny", num_sources=3)
    origin = start(model, folder, reset_head=True)
    assert 0 < len(origin.reset) < len(model.state_dict()) / 4


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"model_type": "convtasnet", "preset": "tiny"}, "is a blstm, model.model_type is convtasnet"),
        (
            {"model_type": "blstm", "preset": "tiny", "hidden_size": 7},
            r"asks for .* Different: model.hidden_size is 7, in the checkpoint \d+",
        ),
        (
            {"model_type": "blstm", "preset": "tiny", "num_layers": 3, "num_sources": 3},
            "missing; .*model.num_layers is 3",
        ),
        (
            {"model_type": "blstm", "preset": "tiny", "sample_rate": 16000},
            "made for 8000 Hz.*sample_rate=8000",
        ),
    ],
    ids=["architecture", "width", "depth and sources", "rate"],
)
def test_other_networks_are_refused(source: Path, model: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        start(create_model(model), source, reset_head=True)


def test_what_else_differs_is_said(source: Path) -> None:
    model = create_model("blstm", preset="tiny", num_sources=2, dropout=0.4)
    origin = start(model, source, Task.EB)
    assert "model.dropout is 0.4, in the checkpoint" in origin.summary
    assert "trained for task SB, this run is EB" in origin.summary


def test_the_default_model_has_one_name_everywhere() -> None:
    default = load_model("default")
    model = create_model(default.config)
    origin = start(model, "default")
    assert all(torch.equal(value, default.state_dict()[key]) for key, value in model.state_dict().items())
    assert origin.sha256.keys() == {"config.json", "model.safetensors"}


def test_frozen_parts_stay_bit_equal_and_have_no_state(
    experiment: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    said = run(
        experiment,
        tmp_path / "run",
        init=str(source),
        freeze=["rnn.*", "norm.*"],
        ema_decay=0.9,
        optimizer={"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    )
    theirs, content = load_model(source).state_dict(), checkpoint(tmp_path / "run")
    trained = {key for key in theirs if key.startswith("to_masks")}
    assert trained == set(HEAD)
    assert "Training" in said[1]
    for part in ("state_dict", "current_model_state"):
        for key, value in theirs.items():
            same = torch.equal(content[part][f"model.{key}"], value)
            assert same == (key not in trained), (part, key)
    assert len(content["optimizer_states"][0]["state"]) == len(trained)


def test_a_fine_tuned_run_resumes_exactly_without_its_source(
    experiment: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"init": str(source), "freeze": ["rnn.*", "norm.*"], "ema_decay": 0.9}
    run(experiment, tmp_path / "through", max_epochs=3, **settings)
    run(experiment, tmp_path / "halves", max_epochs=1, **settings)
    for path in source.iterdir():
        path.unlink()
    assert run(experiment, tmp_path / "halves", max_epochs=3, resume=True, **settings)[0].startswith(
        "Training"
    )
    one, two = checkpoint(tmp_path / "through"), checkpoint(tmp_path / "halves")
    assert all(torch.equal(value, two["state_dict"][key]) for key, value in one["state_dict"].items())
    assert one["polsess_origin"] == two["polsess_origin"]


def test_what_a_model_was_started_from_stays_with_it(
    experiment: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    run(experiment, tmp_path / "run", init=str(source), max_epochs=1)
    folder = convert_checkpoint(tmp_path / "run", tmp_path / "saved")
    origin = json.loads((folder / "config.json").read_text())["provenance"]["started_from"]
    digest = sha256(source / "model.safetensors")
    assert origin["sha256"]["model.safetensors"] == digest
    assert f"model.safetensors {digest}" in (folder / "README.md").read_text()


def test_batch_norms_with_frozen_parameters_keep_their_statistics(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    experiment["model"] = {"model_type": "sepreformer", "preset": "tiny"}
    experiment["data"]["corpus"] |= {"segment_seconds": 0.1, "examples_per_epoch": 8}
    model = create_model("sepreformer", preset="tiny")
    assert frozen_norms(model) == []
    frozen = freeze(model, ["down_stages.*"])
    norms = frozen_norms(model)
    assert norms
    run(experiment, tmp_path / "run", max_epochs=1, freeze=["down_stages.*"])
    state = checkpoint(tmp_path / "run")["state_dict"]
    counts = {key: int(value) for key, value in state.items() if key.endswith("num_batches_tracked")}
    still = [key for key, count in counts.items() if count == 0]
    assert len(still) == len(norms)
    assert all(any(key[6:].startswith(name.rpartition(".")[0]) for name in frozen) for key in still)
    assert len(still) < len(counts)


def test_freezing_nothing_or_everything_is_a_mistake() -> None:
    model = create_model("blstm", preset="tiny")
    with pytest.raises(
        ConfigError, match=r"'to_mask.weight' matches no parameter. Did you mean 'to_masks.weight'"
    ):
        freeze(model, ["to_mask.weight"])
    with pytest.raises(ConfigError, match=r"'zzz' matches no parameter. Parts: .*to_masks\.\*"):
        freeze(model, ["zzz"])
    with pytest.raises(ConfigError, match="every parameter is frozen"):
        freeze(model, ["*"])


def test_without_a_model_section_the_checkpoint_describes_it(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    model = create_model("blstm", preset="tiny", num_sources=1, sample_rate=16000, hidden_size=11)
    source = save_model(model, tmp_path / "narrow", task="EB")
    corpus = experiment["data"]["corpus"]
    overrides = [f"data.corpus.{key}={value}" for key, value in corpus.items()]
    pairs = [*overrides, f"training.init={source}", "model.dropout=0.25"]
    config = load_config(None, pairs)
    assert (config.task, config.model.sample_rate) == (Task.EB, 16000)
    assert config.model.model_dump()["num_sources"] == 1
    assert config.data.corpus.sample_rate == 16000
    assert (config.model.hidden_size, config.model.dropout) == (11, 0.25)  # type: ignore[attr-defined]
    origins = {key: origin for key, _, origin in explain_config(None, pairs)}
    assert origins["model.hidden_size"] == str(source)
    assert origins["model.dropout"] == "command line"


def test_the_options_of_the_command(experiment: dict[str, Any], source: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps({key: value for key, value in experiment.items() if key != "model"}))
    arguments = [
        "train",
        "-c",
        str(path),
        "--init",
        str(source),
        "--freeze",
        "rnn.*",
        "-o",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(app, [*arguments, "training.max_epochs=1"])
    assert result.exit_code == 0, result.output
    assert "Starting from" in result.output
    assert "Training" in result.output
    again = CliRunner().invoke(
        app, ["train", "-o", str(tmp_path / "run"), "--resume", "training.max_epochs=2"]
    )
    assert again.exit_code == 0, again.output
    assert "2 epochs" in again.output
    wrong = CliRunner().invoke(app, ["train", "-c", str(path), "--init", str(tmp_path / "none")])
    assert wrong.exit_code == 3
    assert "no such file or folder" in wrong.output
    useless = CliRunner().invoke(app, ["train", "-c", str(path), "--reset-head", "model.model_type=blstm"])
    assert useless.exit_code == 2
    assert "reset_head needs init" in useless.output
