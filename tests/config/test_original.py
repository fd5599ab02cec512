"""Experiments as the original polsess wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from polsess.checkpoints import read_checkpoint
from polsess.cli.main import app
from polsess.config import Config, load_config, parse_config
from polsess.config.original import is_original, upgrade, upgrade_model
from polsess.schema import ConfigError
from polsess.training.schedule import LearningRate
from polsess.yaml_files import parse_yaml

ROOT = Path(__file__).parents[2]
DPRNN = """
data: {dataset_type: polsess, batch_size: 16, num_workers: 1, prefetch_factor: 2, task: SB,
       train_max_samples: 16000, polsess: {data_root: CORPUS}}
model:
  model_type: dprnn
  dprnn: {N: 64, kernel_size: 16, stride: 8, C: 2, num_layers: 6, chunk_size: 100, rnn_type: LSTM,
          hidden_size: 128, num_rnn_layers: 1, dropout: 0.0, bidirectional: true, norm_type: ln}
training:
  seed: 43
  lr: 0.00125
  weight_decay: 2.11e-05
  grad_clip_norm: 2.76
  lr_factor: 0.86
  lr_patience: 3
  num_epochs: 80
  use_amp: true
  amp_eps: 0.0001
  save_dir: checkpoints
  early_stopping_patience: 15
  use_wandb: true
  validation_variants: ["SER", "SE"]
  curriculum_learning:
    - {epoch: 1, variants: ["C", "R"]}
    - {epoch: 4, variants: ["C", "R", "SR", "S"]}
    - {epoch: 10, variants: ["R", "SR", "S", "SE", "ER", "E", "SER"], lr_scheduler: start}
"""
ENHANCEMENT = """
data: {dataset_type: polsess, batch_size: 2, task: ES, num_workers: 4}
model:
  model_type: convtasnet
  convtasnet: {N: 256, B: 256, H: 512, P: 3, X: 8, R: 4, C: 1, norm_type: gLN, kernel_size: 20, stride: 10,
               causal: false, mask_nonlinear: relu}
training: {num_epochs: 50, lr: 0.001, lr_factor: 0.95, lr_patience: 2, use_amp: false, device: cuda}
"""


def read(text: str, tmp_path: Path, *overrides: str) -> tuple[Config, list[str]]:
    path, said = tmp_path / "old.yaml", list[str]()
    path.write_text(text.replace("CORPUS", str(tmp_path)))
    return load_config(path, overrides, say=said.append), said


def test_a_search_s_configuration(tmp_path: Path) -> None:
    config, said = read(DPRNN, tmp_path)
    assert (config.task, config.seed, config.data.batch_size) == ("SB", 43, 16)
    corpus: Any = config.data.corpus
    assert (corpus.root, corpus.sample_rate) == (tmp_path, 8000)
    assert corpus.max_examples == {"train": 16000}
    assert corpus.variants == ("SER", "SE")
    assert [stage.epoch for stage in corpus.curriculum] == [0, 3, 9]
    assert corpus.curriculum[0].variants == ("C_in", "C_out", "R")
    training, optimizer = config.training, config.training.optimizer
    assert (training.max_epochs, training.early_stopping_patience) == (80, 15)
    assert (optimizer.learning_rate, optimizer.plateau_factor, optimizer.plateau_patience) == (
        0.00125,
        0.86,
        3,
    )
    assert optimizer.schedule_from_epoch == 9
    model: Any = config.model
    assert (model.num_sources, model.num_blocks, model.hidden_size, model.chunk_padding) == (
        2,
        6,
        128,
        "half",
    )
    text = "\n".join(said)
    assert "training.lr -> training.optimizer.learning_rate" in text
    assert "Without effect here: training.amp_eps, training.save_dir, training.use_wandb" in text
    assert "train_max_samples took the first rows" in text


@pytest.mark.parametrize(
    "model",
    [
        "mossformer2, mossformer2: {N: 512, kernel_size: 32, C: 2, num_blocks: 11, attn_dropout: 0.1}",
        "sepformer, sepformer: {kernel_size: 32, stride: 16, C: 2}",
        "tf_mossformer, tf_mossformer: {n_fft: 256, hop_length: 128, C: 2, D: 96, num_blocks: 4, n_heads: 4, "
        "num_groups: 4, ffn_hidden_dim: 256, conv_kernel_size: 4, conv_stride: 1, window_t: 31, window_f: 7, "
        "gate_kernel_size: 4}",
    ],
)
def test_the_corpus_of_16_khz_sets_the_rate_of_the_model(model: str, tmp_path: Path) -> None:
    text = f"""
data: {{dataset_type: polsess, task: SB, sample_rate: 16000, val_max_samples: 1000,
        polsess: {{data_root: CORPUS}}}}
model: {{model_type: {model}}}
training: {{num_epochs: 100, per_variant_validation: true}}
"""
    config, said = read(text, tmp_path)
    corpus: Any = config.data.corpus
    assert (config.model.sample_rate, corpus.sample_rate) == (16000, 16000)
    assert corpus.max_examples == {"val": 1000}
    assert "data.val_max_samples took the first rows" in "\n".join(said)


def test_absent_keys_stand_for_what_they_stood_for(tmp_path: Path) -> None:
    config, said = read(ENHANCEMENT, tmp_path, f"data.corpus.root={tmp_path}")
    assert (config.task, config.seed) == ("ES", 42)
    assert config.model.model_dump()["num_sources"] == 1
    assert config.training.early_stopping_patience is None
    assert config.training.optimizer.weight_decay == 1e-4
    assert config.training.precision == "float32"
    assert config.training.optimizer.schedule == "plateau"
    assert "norms and biases" in said[-1]


@pytest.mark.parametrize("name", ["convtasnet_legacy", "dprnn", "sepformer_legacy", "resepformer"])
def test_configurations_agree_with_checkpoints_of_that_time(name: str) -> None:
    checkpoint = read_checkpoint(next((ROOT / "tests/golden" / f"polsess_{name}").glob("*.pt")))
    stored = checkpoint.provenance["config"]
    settings = upgrade_model(stored["model"])
    ours = checkpoint.config.model_dump(mode="json")
    assert {key: ours[key] for key in settings} == settings


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            "mossformer2: {N: 512, kernel_size: 16, C: 2, num_blocks: 11, attn_dropout: 0.07}",
            {"num_blocks": 11},
        ),
        (
            "spmamba: {n_srcs: 2, n_fft: 256, stride: 64, window: hann, emb_ks: 4}",
            {"hop_length": 64, "kernel_size": 4},
        ),
        (
            "mamba_tasnet: {N: 128, bot_dim: 128, n_mamba: 16, d_state: 16}",
            {"num_layers": 16, "num_filters": 128},
        ),
        ("dpmamba: {N: 256, num_layers: 16, n_mamba_dp: 2, skip_around_intra: true}", {"d_model": 256}),
    ],
)
def test_architectures_without_old_checkpoints(block: str, expected: dict[str, Any]) -> None:
    model = {"model_type": block.partition(":")[0], **parse_yaml(block)}
    settings = upgrade({"model": model, "data": {"task": "SB", "polsess": {"data_root": "."}}}).settings
    config = parse_config(settings)
    assert expected.items() <= config.model.model_dump().items()


def test_a_curriculum_that_never_starts_the_schedule_keeps_the_rate(tmp_path: Path) -> None:
    config, _ = read(DPRNN.replace(", lr_scheduler: start", ""), tmp_path)
    assert config.training.optimizer.schedule == "constant"


def test_without_a_curriculum_validation_variants_do_not_narrow_training(tmp_path: Path) -> None:
    config, _ = read(DPRNN.partition("  curriculum_learning")[0], tmp_path)
    corpus: Any = config.data.corpus
    assert len(corpus.curriculum[0].variants) == 9
    assert corpus.variants == ("SER", "SE")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr: 0.00125", "lrr: 0.00125", r"training.lrr: not a key of the original.*Did you mean 'lr'"),
        ("chunk_size: 100", "chunk: 100", "arguments that are not read: chunk=100"),
        ("model_type: dprnn", "model_type: other", "no 'other' block, only dprnn"),
        ("dataset_type: polsess", "dataset_type: wsj", "data.dataset_type: 'wsj' is not known"),
        ("epoch: 4", "step: 4", "curriculum_learning: expected epoch and variants"),
        ("num_epochs: 80", "max_epochs: 80", "training.max_epochs: not a key of the original"),
        ("lr: 0.00125", "lr: fast", "training.optimizer.learning_rate"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(DPRNN.replace(old, new, 1), tmp_path)


def test_todays_configurations_are_left_alone() -> None:
    for path in (ROOT / "configs").glob("*.yaml"):
        assert not is_original(parse_yaml(path.read_text())), path


def test_the_curriculum_says_when_the_rate_may_fall(tmp_path: Path) -> None:
    stages = [
        {"epoch": 0, "variants": ["C"]},
        {"epoch": 3, "variants": ["SER", "SE"], "lr_scheduler": "start"},
        {"epoch": 5, "variants": ["SER"], "lr_scheduler": "start"},
    ]
    settings: dict[str, Any] = {
        "model": {"model_type": "blstm"},
        "data": {"corpus": {"corpus_type": "polsess", "root": str(tmp_path), "curriculum": stages}},
        "training": {"optimizer": {"plateau_patience": 0, "plateau_factor": 0.5, "learning_rate": 1.0}},
    }
    config = parse_config(settings)
    rate = LearningRate(config.training.optimizer, epoch_steps=1, max_epochs=100)
    rates = []
    for epoch in range(6):
        rates.append(rate.at(epoch, epoch))
        rate.validated(0.0, epoch)
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.25]
    settings["training"]["optimizer"]["schedule_from_epoch"] = 1
    with pytest.raises(ConfigError, match=r"schedule_from_epoch is 1, but the curriculum .* in epoch 3"):
        parse_config(settings)


def test_the_command_says_what_it_read(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(ENHANCEMENT)
    result = CliRunner().invoke(app, ["train", "-c", str(path)])
    assert result.exit_code == 2
    assert "is of the original polsess" in result.output
    assert "data.corpus.root: missing" in result.output
    shown = CliRunner().invoke(app, ["config", "show", "-c", str(path), "data.corpus.root=."])
    assert shown.exit_code == 0, shown.output
    assert "training.optimizer.learning_rate" in shown.output
