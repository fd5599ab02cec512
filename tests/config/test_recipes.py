"""Every experiment in configs/ is read, and one step of it is run at a tiny size."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.checkpoints import BUNDLED_MODELS, load_model, read_checkpoint
from polsess.cli.main import app
from polsess.config import load_config, parse_config, read_settings
from polsess.data.mini import make_mini
from polsess.models import Network, list_models
from polsess.models.bsrnn import BSRNN
from polsess.models.speakers.resnet import ResNetConfig
from polsess.tasks import SEPARATION_TASKS, Task
from polsess.training import dry_run
from polsess.training.monitor import monitor_of
from polsess.training.run import train
from scripts.resize_network import change_rate

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def names_in(path: Path) -> tuple[str, ...]:
    """Model, task and corpus by the name of a recipe; names of models may hold underscores."""
    match = re.fullmatch(rf"(.+?)_({'|'.join(task.lower() for task in Task)})_(.+)", path.stem)
    assert match is not None
    return match.groups()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two tones in training and validation, one mixture each."""
    folder = tmp_path_factory.mktemp("tones")
    lines = ["path,speaker,sex,split"]
    time = torch.arange(2000) / 8000
    for split in ("train", "val"):
        for speaker in range(2):
            write_audio(
                folder / f"{split}{speaker}.wav", 0.3 * torch.sin((2000 + 900 * speaker) * time), 8000
            )
            lines.append(f"{split}{speaker}.wav,{split}{speaker},F,{split}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return {
        "corpus_type": "speech_clips",
        "metadata": str(folder / "metadata.csv"),
        "segment_seconds": 0.1,
        "examples_per_epoch": 2,
        "evaluation_examples": 2,
    }


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `polsess data fetch mini` was typed."""
    folder = tmp_path_factory.mktemp("mini")
    make_mini(folder / "data")
    return folder


def tiny(settings: dict[str, Any]) -> dict[str, Any]:
    """The smallest network of a recipe's architecture, one that counts speakers where the recipe's does."""
    counts = str(settings["model"].get("preset")).startswith("variable")
    counting = {"variable_sources": True} if counts else {}
    return {"model_type": settings["model"]["model_type"], "preset": "tiny", **counting}


@every_config
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_experiment_passes_a_dry_run_on_the_mini_sets(
    path: Path, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mini)
    monkeypatch.setattr(dry_run, "_STEPS", 1)
    monkeypatch.setattr(dry_run, "_VALIDATED", 1)
    settings = read_settings(path)
    settings["model"] = tiny(settings)
    separates = Task(settings["task"]) in SEPARATION_TASKS
    settings["data"]["batch_size"] = 1 if separates else 2  # embeddings are normalised over the batch
    settings["data"]["corpus"]["segment_seconds"] = 0.25 if separates else 3.0
    if settings["data"]["corpus"]["corpus_type"] == "polsess":
        settings["data"]["corpus"].pop("sample_rate", None)  # the mini set has 8 kHz
    settings.setdefault("training", {})["device"] = "cpu"
    found = dry_run.rehearse(parse_config(settings))
    assert found.parameters > 0
    assert found.step_seconds > 0
    assert [split.examples > 0 for split in found.data] == [True, True]


def test_the_mini_sets_are_made_once_and_name_no_folder_of_this_machine(mini: Path) -> None:
    said: list[str] = []
    assert make_mini(mini / "data", said.append) == []
    assert len(said) == 7
    (table,) = (mini / "data" / "polsess" / "train").glob("*.csv")
    assert str(mini) not in table.read_text()
    assert {path.name for path in (mini / "data").iterdir()} == {
        *("speech", "noise", "rir", "polsess", "wsj0-mix", "wham", "Libri2Mix")
    }
    for folder in (mini / "data").iterdir():
        assert "Allison Smith" in (folder / "ORIGIN.md").read_text()


@every_config
def test_every_experiment_is_read_and_named_after_what_it_is(path: Path) -> None:
    config = load_config(path)
    model, task, corpus = names_in(path)
    assert model == config.model.model_type
    assert task == config.task.lower()
    assert corpus.startswith(config.data.corpus.corpus_type)


def weightless(config: BaseModel) -> dict[str, Any]:
    """Settings of a network but for those that are in no weight."""
    return config.model_dump(exclude={"num_shifts", "dropout"})


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_the_command_on_the_card_of_every_bundled_model_builds_that_network(name: str) -> None:
    card = (ROOT / "src/polsess/assets/models" / name / "README.md").read_text()
    command = re.search(
        r"Recipe: `(?:polsess train (?:-c|--config) (?:configs/)?(\w+)(?:\.yaml)?|python (\S+\.py))([^`]*)`",
        card,
    )
    assert command is not None, f"{name}: its card has no line with 'Recipe: `polsess train -c ...'"
    recipe, script, words = command.groups()
    shipped = read_checkpoint(name)
    if script == "scripts/resize_network.py":
        source, _, option, rate = words.split()
        assert option == "--rate"
        made = change_rate(load_model(source, kind=BSRNN), int(rate))
        weights = load_model(name).state_dict()
        assert weightless(made.config) == weightless(shipped.config)
        assert all(torch.equal(weights[key], tensor) for key, tensor in made.state_dict().items())
        return
    if script is not None:
        assert (ROOT / script).is_file()
        assert shipped.config == ResNetConfig()
        return
    overrides = [word for word in words.split() if "=" in word]
    config = load_config(ROOT / "configs" / f"{recipe}.yaml", overrides)
    assert config.task == shipped.task
    assert weightless(config.model) == weightless(shipped.config)


@every_config
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_step_of_every_experiment(path: Path, corpus: dict[str, Any], tmp_path: Path) -> None:
    settings = read_settings(path)
    settings["model"] = tiny(settings)
    task = Task(settings["task"])
    if task is not Task.SB and task in SEPARATION_TASKS:  # without noise there is nothing to enhance
        for split in ("train", "val"):
            write_audio(tmp_path / f"noise/{split}/hiss.wav", 0.05 * torch.randn(4000), 8000)
        corpus = {**corpus, "noise": [{"source": str(tmp_path / "noise")}]}
    kind = settings["data"]["corpus"]["corpus_type"]
    if kind == "conversations":  # of the same clips
        corpus = {**corpus, "corpus_type": kind, "segment_seconds": 1.0, "conversation_seconds": 2.0}
    elif kind == "single_speakers":
        corpus = {**corpus, "corpus_type": kind, "segment_seconds": 3.0, "evaluation_examples": 4}
    rate = {"sample_rate": 16000} if settings["data"]["corpus"].get("sample_rate") == 16000 else {}
    settings["data"] = {"corpus": {**corpus, **rate}, "batch_size": 2}
    config = parse_config(settings)
    changes = {"max_epochs": 1, "device": "cpu", "validation_strata": None}  # tones have no variants
    one_epoch = config.training.model_copy(update=changes)
    result = train(config.model_copy(update={"training": one_epoch}), tmp_path / "run", progress=False)
    assert result.skipped_steps == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "1"
    columns = ("train_loss", monitor_of(config.task).column)
    assert torch.tensor([float(row[key]) for key in columns]).isfinite().all()
    assert float(row["gradient_norm"]) > 0


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_an_experiment_that_is_shown_is_one_to_train(form: str, tmp_path: Path) -> None:
    words = ["config", "show", "-c", "dprnn_sb_polsess", "training.max_epochs=3", "--format", form]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    (tmp_path / f"mine.{form}").write_text(shown.stdout)
    again = load_config(tmp_path / f"mine.{form}")
    assert again == load_config(CONFIGS[0].with_name("dprnn_sb_polsess.yaml"), ["training.max_epochs=3"])


def test_keys_are_shown_whole_on_a_narrow_terminal() -> None:
    words = ["config", "show", "-c", "dprnn_sb_polsess", "training.max_epochs=3"]
    lines = CliRunner().invoke(app, words, env={"COLUMNS": "40"}).stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["data.corpus.same_speaker_pairs"] == ["default", "True"]
    assert rows["training.max_epochs"] == ["command", "line", "3"]
    assert rows["training.optimizer.plateau_patience"] == ["dprnn_sb_polsess.yaml", "3"]
    assert rows["dprnn_sb_polsess.yaml:"][0].endswith("dprnn_sb_polsess.yaml")


@pytest.mark.release
def test_every_model_has_a_recipe() -> None:
    assert {names_in(path)[0] for path in CONFIGS} == set(list_models(Network))
