"""Whole experiments of the original project: sections, names, defaults and what has no place any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polsess.config.original_models import upgrade_model
from polsess.schema import ConfigError, suggest

_CORPORA = {"polsess": "polsess", "libri2mix": "libri_mix"}
_TRAINING = {
    "lr": ("optimizer.learning_rate", 1e-3),
    "weight_decay": ("optimizer.weight_decay", 1e-4),
    "lr_factor": ("optimizer.plateau_factor", 0.95),
    "lr_patience": ("optimizer.plateau_patience", 2),
    "grad_clip_norm": ("gradient_clip_norm", 5.0),
    "num_epochs": ("max_epochs", 10),
    "grad_accumulation_steps": ("accumulate_batches", 1),
    "early_stopping_patience": ("early_stopping_patience", None),
}
"""Our key for an old one, and the value that an absent key stood for."""
_ELSEWHERE = {"seed", "use_amp", "curriculum_learning", "validation_variants", "per_variant_validation"}
_DROPPED = {
    *("device", "amp_eps", "save_dir", "log_file", "log_level", "resume_from", "save_all_checkpoints"),
    *("save_best_only", "use_wandb", "wandb_project", "wandb_entity", "wandb_run_name"),
}
"""Keys of ``training`` that decided nothing, or what the command line decides now."""
_DATA = {"dataset_type", "batch_size", "num_workers", "prefetch_factor", "task", *_CORPORA}
_SIZES = {"train_max_samples", "val_max_samples"}


@dataclass(frozen=True)
class Upgraded:
    """An old configuration in today's words."""

    settings: dict[str, Any]
    """As ``parse_config`` takes them."""
    notes: tuple[str, ...]
    """What was renamed, and what could not be carried over."""


def is_old(settings: Mapping[str, Any]) -> bool:
    """Whether an experiment is written in the words of the original project."""
    model, data, training = (_section(settings, name) for name in ("model", "data", "training"))
    letters = isinstance(model.get(str(model.get("model_type"))), Mapping) or bool(
        {"N", "B", "H"} & model.keys()
    )
    words = {*_TRAINING, *_ELSEWHERE, *_DROPPED} - {"early_stopping_patience", "device", "seed"}
    return letters or bool({"dataset_type", "task"} & data.keys()) or bool(words & training.keys())


def upgrade(settings: Mapping[str, Any], where: str = "configuration") -> Upgraded:
    """Read an experiment of the original project.

    Absent keys get the values that they stood for there. Epochs of a curriculum were counted from 1.

    Args:
        settings: The content of the YAML file.
        where: The file, for messages.

    Raises:
        ConfigError: If a key is not one of that project's, or a value has no equal here.
    """
    model, data, training = (_section(settings, name) for name in ("model", "data", "training"))
    _refuse_unknown(settings.keys() - {"model", "data", "training"}, {"model", "data", "training"}, where, "")
    _refuse_unknown(data.keys() - _DATA - _SIZES, _DATA | _SIZES, where, "data.")
    known = {*_TRAINING, *_ELSEWHERE, *_DROPPED, "accumulation_steps"}
    _refuse_unknown(training.keys() - known, known, where, "training.")
    dropped = [f"training.{key}" for key in training if key in _DROPPED]
    dropped += ["data.prefetch_factor"] if "prefetch_factor" in data else []
    corpus, remarks = _corpus(data, training)
    upgraded = {
        "task": data.get("task", "ES"),
        "seed": training.get("seed", 42),
        "model": upgrade_model(model or {"model_type": "convtasnet"}),
        "data": {
            "corpus": corpus,
            "batch_size": data.get("batch_size", 4),
            "num_workers": data.get("num_workers", 4),
        },
        "training": _training(training),
    }
    renamed = [f"training.{old} -> training.{new}" for old, (new, _) in _TRAINING.items() if old in training]
    notes = [f"{where} is of the original polsess. Read as: {', '.join(renamed)}; see polsess config show."]
    notes += [f"Without effect here: {', '.join(dropped)}."] if dropped else []
    if training.get("weight_decay", 1e-4):
        remarks.append("training.weight_decay no longer acts on norms and biases.")
    return Upgraded(upgraded, (*notes, *remarks))


def _training(training: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"optimizer": {"name": "adam"}}
    for old, (new, default) in _TRAINING.items():
        section, _, key = new.rpartition(".")
        value = training.get(
            old, training.get("accumulation_steps", default) if "accumul" in old else default
        )
        (result[section] if section else result)[key] = value
    result["precision"] = "auto" if training.get("use_amp", True) else "float32"
    stages = training.get("curriculum_learning")
    if stages and not any(_of(stage, "lr_scheduler") == "start" for stage in stages):
        result["optimizer"]["schedule"] = "constant"  # nothing ever started it
    if training.get("per_variant_validation"):
        result["validation_strata"] = "variant"
    return result


def _corpus(data: Mapping[str, Any], training: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    kind = data.get("dataset_type", "polsess")
    if kind not in _CORPORA:
        raise ConfigError(
            f"data.dataset_type: '{kind}' is not known.{suggest(str(kind), list(_CORPORA), 'Known')}"
        )
    corpus: dict[str, Any] = {"corpus_type": _CORPORA[kind], "segment_seconds": None, "sample_rate": 8000}
    if (root := _of(data.get(kind) or {}, "data_root")) is not None:
        corpus["root"] = root
    if kind != "polsess":
        return corpus, []
    stages = [_stage(stage) for stage in training.get("curriculum_learning") or []]
    if variants := training.get("validation_variants"):
        corpus["variants"] = variants
        if not stages or stages[0]["epoch"] > 0:
            everything = ["SER", "SR", "ER", "R", "C", "SE", "S", "E"]
            stages = [{"epoch": 0, "variants": everything}, *stages]
    if stages:
        corpus["curriculum"] = stages
    remarks = []
    if data.get("train_max_samples"):
        corpus["max_examples"] = data["train_max_samples"]
        remarks.append("data.train_max_samples took the first rows; data.corpus.max_examples draws them.")
    if data.get("val_max_samples"):
        remarks.append("data.val_max_samples has no equal here: validation takes all rows.")
    return corpus, remarks


def _stage(stage: Any) -> dict[str, Any]:
    if not isinstance(stage, Mapping) or not isinstance(stage.get("epoch"), int) or "variants" not in stage:
        raise ConfigError(f"training.curriculum_learning: expected epoch and variants, got {stage!r}.")
    _refuse_unknown(
        stage.keys() - {"epoch", "variants", "lr_scheduler"}, {"epoch"}, "training.curriculum_learning", ""
    )
    return {**stage, "epoch": max(0, stage["epoch"] - 1)}


def _refuse_unknown(keys: set[str], known: set[str], where: str, section: str) -> None:
    if keys:
        key = sorted(map(str, keys))[0]
        raise ConfigError(
            f"{section}{key}: not a key of the original polsess, whose words {where} has elsewhere; write "
            f"all of it in the old words or in today's.{suggest(key, sorted(known), 'Old keys')}"
        )


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = settings.get(name)
    return value if isinstance(value, Mapping) else {}


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None
