from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.checkpoints import load_model, save_model
from polsess.cli.main import app
from polsess.config import OptimizerConfig, TrainingConfig, load_config, parse_config
from polsess.data import Batch
from polsess.losses import LossConfig
from polsess.models import create_model, list_models
from polsess.models.blstm import BLSTM
from polsess.schema import ConfigError
from polsess.training.callbacks import EpochBar
from polsess.training.objectives.separation import SeparationObjective
from polsess.training.optimizers import create_optimizer
from polsess.training.run import train
from polsess.training.schedule import LearningRate
from polsess.training.trainer import reduces_precision
from tests.processors import skipped_without_bfloat16

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(
    experiment: dict[str, Any], folder: Path, *, resume: bool = False, **training: Any
) -> list[dict[str, str]]:
    config = parse_config({**experiment, "training": {**experiment["training"], **training}})
    train(config, folder, resume=resume, progress=False)
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def test_a_run_learns_and_leaves_everything_behind(experiment: dict[str, Any], tmp_path: Path) -> None:
    rows = run(experiment, tmp_path / "run", max_epochs=12)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["val_si_snri"]) > 5.0
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) - 5.0
    best = weights(tmp_path / "run", "best.ckpt")
    assert best["polsess_config"]["model"]["model_type"] == "blstm"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["max_epochs"] == 12
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    model = load_model(tmp_path / "run")
    for key, value in model.state_dict().items():
        assert torch.equal(value, best["state_dict"][f"model.{key}"])


def test_max_epochs_is_a_total_and_resume_continues_exactly(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    through = run(experiment, tmp_path / "through", max_epochs=4)
    run(experiment, tmp_path / "halves", max_epochs=2)
    halves = run(experiment, tmp_path / "halves", max_epochs=4, resume=True)
    assert [row["epoch"] for row in halves] == ["1", "2", "3", "4"]
    assert [row["val_si_snri"] for row in halves] == [row["val_si_snri"] for row in through]
    one, two = (weights(tmp_path / name, "last.ckpt")["state_dict"] for name in ("through", "halves"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_same_seed_gives_the_same_run(experiment: dict[str, Any], tmp_path: Path) -> None:
    one, two = (run(experiment, tmp_path / name) for name in ("one", "two"))
    assert [row["val_si_snri"] for row in one] == [row["val_si_snri"] for row in two]


@pytest.mark.parametrize(
    ("name", "precision", "flags", "expected"),
    [
        ("dprnn", "auto", {"avx512_bf16"}, True),
        ("dprnn", "auto", {"avx2"}, False),
        ("dprnn", "float32", {"avx512_bf16"}, False),
        ("blstm", "auto", {"avx512_bf16"}, False),  # its steps are slower in it without tiles
        ("blstm", "auto", {"avx512_bf16", "amx_bf16"}, True),
        ("lstmtasnet", "auto", {"avx512_bf16", "amx_bf16"}, True),
        ("dptnet", "auto", {"avx512_bf16"}, True),
        ("convtasnet", "auto", {"avx512_bf16", "amx_bf16"}, False),
        ("blstm", "bfloat16", {"avx2"}, True),
    ],
)
def test_a_cpu_trains_in_bfloat16_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str, flags: set[str], expected: bool
) -> None:
    monkeypatch.setattr("polsess.precision.processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr("polsess.training.trainer.multiplies_in_tiles", lambda _: "amx_bf16" in flags)
    config = TrainingConfig(precision=precision, device="cpu")  # type: ignore[arg-type]
    assert reduces_precision(config, create_model(name, preset="tiny")) is expected


def test_steps_in_bfloat16_are_validated_in_float32(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, original = set(), BLSTM.estimate_sources

    def look(self: BLSTM, mixture: torch.Tensor) -> torch.Tensor:
        seen.add((self.training, torch.is_autocast_enabled("cpu")))
        return original(self, mixture)

    monkeypatch.setattr(BLSTM, "estimate_sources", look)
    with skipped_without_bfloat16():
        run(experiment, tmp_path / "run", precision="bfloat16", max_epochs=1)
    assert seen == {(True, True), (False, False)}


def test_the_weight_average_is_what_is_kept(experiment: dict[str, Any], tmp_path: Path) -> None:
    run(experiment, tmp_path / "run", ema_decay=0.9)
    kept = weights(tmp_path / "run", "last.ckpt")
    assert any(
        not torch.equal(kept["state_dict"][k], v)
        for k, v in kept["current_model_state"].items()
        if k in kept["state_dict"]
    )


def test_the_rate_falls_on_a_plateau_and_the_run_ends(experiment: dict[str, Any], tmp_path: Path) -> None:
    optimizer = {"learning_rate": 1e-30, "plateau_patience": 0, "plateau_factor": 0.1}
    rows = run(experiment, tmp_path / "run", max_epochs=30, optimizer=optimizer, early_stopping_patience=2)
    assert len(rows) < 30
    assert 0.0 < float(rows[-1]["learning_rate"]) < 1e-30


@pytest.mark.parametrize("task", ["ES", "EB"])
def test_one_source_tasks_train(experiment: dict[str, Any], tmp_path: Path, task: str) -> None:
    for split in ("train", "val"):  # without noise there is nothing to enhance
        write_audio(tmp_path / f"noise/{split}/hiss.wav", 0.05 * torch.randn(8000), 8000)
    experiment["data"]["corpus"]["noise"] = [{"source": str(tmp_path / "noise")}]
    rows = run({**experiment, "task": task}, tmp_path / "run", max_epochs=1)
    assert torch.tensor(float(rows[0]["val_si_snr"])).isfinite()


def test_a_run_is_not_overwritten(experiment: dict[str, Any], tmp_path: Path) -> None:
    run(experiment, tmp_path / "run", max_epochs=1)
    with pytest.raises(FileExistsError, match="holds a run already; continue it with --resume"):
        run(experiment, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        run(experiment, tmp_path / "other", resume=True)


def test_norms_and_biases_are_not_decayed() -> None:
    model = create_model("blstm", preset="tiny")
    optimizer = create_optimizer(model, OptimizerConfig(name="adamw", weight_decay=0.1))
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert {p.ndim for p in free["params"]} == {1}
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_the_command(experiment: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(experiment))
    arguments = ["train", "--config", str(path), "training.max_epochs=1", "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "best SI-SNRi on validation" in result.output
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "holds a run already" in again.output
    wrong = CliRunner().invoke(app, ["train", "--config", str(path), "training.max_epoch=1"])
    assert wrong.exit_code == 2
    assert "Did you mean 'max_epochs'" in wrong.output
    nothing = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "none.yaml")])
    assert nothing.exit_code == 2


def test_a_model_is_not_overwritten(experiment: dict[str, Any], tmp_path: Path) -> None:
    save_model(create_model("blstm", preset="tiny"), tmp_path / "model")
    before = (tmp_path / "model" / "config.json").read_text()
    with pytest.raises(FileExistsError, match=r"holds a model, .* choose another"):
        run(experiment, tmp_path / "model")
    assert (tmp_path / "model" / "config.json").read_text() == before


class Echoing(torch.nn.Module):
    """Adds an echo 20 dB below what it gets."""

    counts_speakers = False

    def forward(self, mixture: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        del lengths
        return mixture + 0.1 * mixture.roll(1, -1)


def test_clean_items_do_not_decide_what_is_best() -> None:
    torch.manual_seed(0)
    references = torch.randn(3, 1, 4000)
    noise = torch.tensor([0.0, 1.0, 1.0])[:, None] * torch.randn(3, 4000)
    mixture, lengths = references[:, 0] + noise, torch.full((3,), 4000)
    batch = Batch(
        mixture, references, lengths, ["a", "b", "c"], [{}] * 3, [(0, n) for n in range(3)], [()] * 3
    )
    objective = SeparationObjective(LossConfig())
    scores = objective.scores(Echoing(), batch)  # type: ignore[arg-type]
    summary = objective.summarise(scores)
    assert [score[1] is None for score in scores] == [True, False, False]
    assert scores[0][0] == pytest.approx(20.0, abs=1.0)
    assert -2.0 < summary["val_si_snri"] < 0.0  # with the clean item some -30 dB
    assert objective.summarise(scores[:1]).keys() == {"val_si_snr"}
    assert objective.summarise([]) == {}


def test_items_in_which_nobody_speaks_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(2, 2, 4000, generator=generator)
    references[1] = 0
    mixture = references.sum(1) + 0.1 * torch.randn(2, 4000, generator=generator)
    lengths = torch.full((2,), 4000)
    batch = Batch(mixture, references, lengths, ["a", "b"], [{}] * 2, [(0, 0), (0, 1)], [()] * 2)

    class Twice(Echoing):
        def forward(self, mixture: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
            return super().forward(mixture, lengths).unsqueeze(1).expand(-1, 2, -1)

    objective = SeparationObjective(LossConfig(name="silence_aware_snr"))
    scores = objective.scores(Twice(), batch)  # type: ignore[arg-type]
    assert scores[1] == ()
    assert objective.summarise(scores) == objective.summarise(scores[:1])
    assert objective.summarise(scores[1:]) == {}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.optimizer.betas", [2, 3], r"training\.optimizer\.betas"),
        ("data.corpus.segment_seconds", 1e-5, r"data\.corpus.*segment_seconds: 1e-05 s hold no sample"),
    ],
)
def test_ranges_are_checked_before_anything_starts(
    experiment: dict[str, Any], key: str, value: Any, message: str
) -> None:
    *sections, name = key.split(".")
    section = experiment
    for each in sections:
        section = section.setdefault(each, {})
    section[name] = value
    with pytest.raises(ConfigError, match=message):
        parse_config(experiment)


def test_a_run_to_resume_is_named() -> None:
    result = CliRunner().invoke(app, ["train", "--resume"])
    assert result.exit_code == 2
    assert "name the run with -o" in result.output


def test_strata_of_numbers_are_quartiles(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["data"]["corpus"]["evaluation_examples"] = 12
    (row,) = run(experiment, tmp_path / "run", validation_strata="ssr_db", max_epochs=1)
    quartiles = [float(value) for key, value in row.items() if key.startswith("val_si_snri/")]
    assert len(quartiles) == 4
    assert float(row["val_si_snri"]) == pytest.approx(sum(quartiles) / 4, abs=1e-3)


def test_strata_that_no_example_knows_are_refused(experiment: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"validation_strata: no example has 'sex'\. Did you mean 'sexes'"):
        run(experiment, tmp_path / "run", validation_strata="sex")
    assert not (tmp_path / "run").exists()


def test_schedules_wait_for_their_epoch() -> None:
    def rates(**settings: Any) -> list[float]:
        rate = LearningRate(OptimizerConfig(learning_rate=1.0, **settings), epoch_steps=2, max_epochs=8)
        return [rate.at(step, step // 2) for step in range(16)]

    cosine = rates(schedule="cosine", schedule_from_epoch=4)
    assert cosine[:9] == [1.0] * 9
    assert cosine[9] < 1.0
    assert cosine[12] == pytest.approx(0.505)  # halfway from there to the end
    dptnet = rates(schedule="dptnet", schedule_from_epoch=4, warmup_steps=2)
    assert dptnet[2:12] == [1.0] * 10
    assert dptnet[12] == pytest.approx(0.98)


def test_cosine_ends_with_the_run_when_an_epoch_is_no_multiple_of_a_group(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    """Three batches make two steps of an epoch, the last of one batch."""
    experiment["data"]["corpus"]["examples_per_epoch"] = 12
    optimizer = {"learning_rate": 1.0, "schedule": "cosine"}
    rows = run(experiment, tmp_path / "run", max_epochs=2, accumulate_batches=2, optimizer=optimizer)
    rate = 0.01 + 0.99 * (1 + math.cos(math.pi * 3 / 4)) / 2  # of the last step of four
    assert float(rows[-1]["learning_rate"]) == pytest.approx(rate, rel=1e-2)


def test_a_run_without_a_terminal_says_a_line_per_epoch(experiment: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(parse_config(experiment).model_dump_json())
    result = CliRunner().invoke(app, ["train", "-c", str(path), "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if re.match(r"Epoch .* validation", line)]
    assert len(lines) == 2
    line = r"Epoch 2 of 2: loss -?\d+.\d\d, validation (-?\d+.\d\d) dB, best (-?\d+.\d\d) dB \(epoch [12]\), "
    assert re.match(line + r"rate 0.01, \d+.\d\d min", lines[1])
    quiet = ["train", "-c", str(path), "-o", str(tmp_path / "quiet"), "-q"]
    assert CliRunner().invoke(app, quiet).output == ""


def test_long_epochs_say_how_far_they_are(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polsess.pace._FIRST", 0.0)
    monkeypatch.setattr("polsess.pace._LONGEST", 0.0)
    said: list[str] = []
    train(parse_config(experiment), tmp_path / "run", progress=False, say_epoch=said.append)
    batches = [line for line in said if "batch" in line]
    assert len(batches) == 8
    assert re.fullmatch(r"Epoch 2 of 2: batch 1 of 4, loss -?\d+\.\d\d, [\d.]+ s", batches[4])


def test_the_bar_counts_epochs_from_one_and_shows_no_folder_number() -> None:
    bar = EpochBar()
    bar._trainer = SimpleNamespace(max_epochs=3)  # type: ignore[assignment]
    assert bar._get_train_description(0).startswith("Epoch 1/3")
    trainer = SimpleNamespace(
        loggers=[SimpleNamespace(version="tensorboard")], progress_bar_metrics={"x": 1.0}
    )
    assert bar.get_metrics(trainer, None) == {"x": 1.0}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list_models())
def test_weight_decay_leaves_norms_biases_and_states_alone(name: str) -> None:
    model = create_model(name, preset="tiny")
    optimizer = create_optimizer(model, OptimizerConfig(weight_decay=0.1))
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert decayed
    kinds = ("bias", "A_log", ".D", "offset", "scale")
    for key, parameter in model.named_parameters():
        *_, module, last = ("", *key.split("."))
        if f".{last}".endswith(kinds) or "norm" in module or last.startswith("bias"):
            assert id(parameter) not in decayed, key


@pytest.mark.parametrize("name", ["spmamba", "tfgridnet"])
def test_norms_of_attention_are_not_decayed(name: str) -> None:
    model = create_model(name, preset="tiny")
    undecayed = create_optimizer(model, OptimizerConfig(weight_decay=0.1)).param_groups[1]["params"]
    keys = {key for key, value in model.named_parameters() if any(value is each for each in undecayed)}
    for key in ("query.weight", "query.bias", "norm.weight", "norm.bias"):
        assert f"blocks.0.attention.{key}" in keys


def test_a_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("dprnn_sb_polsess")).model.model_type == "dprnn"
    with pytest.raises(ConfigError, match=r"dprn_sb_polsess: no such file. Did you mean the recipe 'dprnn"):
        load_config(Path("dprn_sb_polsess"))
