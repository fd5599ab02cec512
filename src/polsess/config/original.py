"""Experiments of the original project, read as today's settings.

Its YAML has a block per architecture with the letters of the papers, other names of keys and other defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from polsess.checkpoints import CheckpointError
from polsess.checkpoints.toolkits.original import CONVERTERS, model_arguments
from polsess.checkpoints.translation import Arguments
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
"""Our key for one of the original project, and the value that an absent key stood for there."""
_ELSEWHERE = {"seed", "use_amp", "curriculum_learning", "validation_variants", "per_variant_validation"}
_DROPPED = {
    *("device", "amp_eps", "save_dir", "log_file", "log_level", "resume_from", "save_all_checkpoints"),
    *("save_best_only", "use_wandb", "wandb_project", "wandb_entity", "wandb_run_name"),
}
"""Keys of ``training`` without effect, or replaced by options of the command line."""
_DATA = {
    *("dataset_type", "batch_size", "num_workers", "prefetch_factor", "task", "sample_rate"),
    *_CORPORA,
}
_SIZES = {"train_max_samples": "train", "val_max_samples": "val"}


@dataclass(frozen=True)
class Upgraded:
    """An experiment of the original project in today's keys."""

    settings: dict[str, Any]
    """As ``parse_config`` takes them."""
    notes: tuple[str, ...]
    """Remarks on keys that were renamed or could not be carried over."""


def is_original(settings: Mapping[str, Any]) -> bool:
    """Whether an experiment is written with the keys of the original project."""
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
    _refuse_unknown(data.keys() - _DATA - _SIZES.keys(), _DATA | _SIZES.keys(), where, "data.")
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
    renamed = ", ".join(
        f"training.{key} -> training.{_TRAINING[key][0]}" for key in _TRAINING if key in training
    )
    notes = [f"{where} is of the original polsess. Read as: {renamed}; see polsess config show."]
    notes += [f"Without effect here: {', '.join(dropped)}."] if dropped else []
    if training.get("weight_decay", 1e-4):
        remarks.append("training.weight_decay no longer acts on norms and biases.")
    return Upgraded(upgraded, (*notes, *remarks))


def _training(training: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"optimizer": {"name": "adam"}}
    for theirs, (ours, default) in _TRAINING.items():
        section, _, key = ours.rpartition(".")
        if theirs == "grad_accumulation_steps":  # had two names
            default = training.get("accumulation_steps", default)
        value = training.get(theirs, default)
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
    rate = data.get("sample_rate", 8000)
    corpus: dict[str, Any] = {"corpus_type": _CORPORA[kind], "segment_seconds": None, "sample_rate": rate}
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
    if sizes := {split: data[key] for key, split in _SIZES.items() if data.get(key)}:
        corpus["max_examples"] = sizes
        keys = " and ".join(f"data.{key}" for key, split in _SIZES.items() if split in sizes)
        remarks.append(f"{keys} took the first rows; data.corpus.max_examples draws them.")
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
            f"{section}{key}: not a key of the original polsess, whose keys {where} has elsewhere; use "
            f"the original keys or today's in the whole file.{suggest(key, sorted(known), 'Original keys')}"
        )


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = settings.get(name)
    return value if isinstance(value, Mapping) else {}


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


Names = Mapping[str, tuple[str, Any]]
"""Our field for one of their keys, and the value that an absent key stood for there."""

_FILTERBANK = {"kernel_size": ("kernel_size", 16)}
_STATES = {"d_state": ("num_states", 16), "d_conv": ("conv_kernel_size", 4), "expand": ("expansion", 2)}


def upgrade_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings as ``parse_model_config`` takes them, without the number of sources and the rate.

    The architectures whose original weights can be read go through the readers of those weights, so
    that an original configuration and an original checkpoint give the same network.

    Raises:
        ConfigError: If the architecture or a key is not known, or a value has no equal here.
    """
    try:
        name, block = model_arguments(model, "model")
        if name in _TABLES:
            settings = _TABLES[name](block)
        else:
            convert = CONVERTERS.find(name, "model")
            settings = dict(convert(block, {}).model)
    except CheckpointError as error:
        raise ConfigError(f"model: {error}") from None
    settings.pop("num_sources", None)  # the task decides
    settings.pop("sample_rate", None)  # and the corpus
    return settings


def _mossformer2(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original MossFormer2")
    names = {
        "N": ("num_filters", 512),
        "num_blocks": ("num_blocks", 24),
        "attn_dropout": ("dropout", 0.1),
    }
    return _translate("mossformer2", values, {**_FILTERBANK, **names})


def _spmamba(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original SPMamba")
    values.ignore("input_dim", "lstm_hidden_units", "n_srcs", "sample_rate")  # sizes of nothing, or derived
    values.expect("window", "hann")
    values.expect("activation", "prelu")
    names = {
        "n_fft": ("n_fft", 256),
        "stride": ("hop_length", 64),
        "n_layers": ("num_blocks", 6),
        "attn_n_head": ("num_heads", 4),
        "attn_approx_qk_dim": ("approximate_qk_size", 512),
        "emb_dim": ("num_channels", 16),
        "emb_ks": ("kernel_size", 8),
        "emb_hs": ("stride", 1),
        "eps": ("eps", 1e-5),
    }
    return _translate("spmamba", values, names)


def _mamba_tasnet(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original Mamba-TasNet")
    filters = block.get("N", 256)
    values.expect("bot_dim", filters)
    _expect_plain_mamba(values)
    names = {"N": ("num_filters", 256), "n_mamba": ("num_layers", 8)}
    return _translate("mambatasnet", values, {**_FILTERBANK, **_STATES, **names})


def _dpmamba(block: Mapping[str, Any]) -> dict[str, Any]:
    values = Arguments(block, "original DPMamba")
    values.expect("n_mamba_dp", 2)
    _expect_plain_mamba(values)
    names = {
        "N": ("num_filters", 64),
        "num_layers": ("num_blocks", 8),
        "chunk_size": ("chunk_size", 250),
        "skip_around_intra": ("skip_around_intra", False),
    }
    settings = _translate("dpmamba", values, {**_FILTERBANK, **_STATES, **names})
    return {**settings, "d_model": settings["num_filters"]}


def _expect_plain_mamba(values: Arguments) -> None:
    values.expect("bidirectional", True)
    values.expect("rms_norm", True)
    values.ignore("residual_in_fp32")  # sums stay in float32 here


def _translate(name: str, values: Arguments, names: Names) -> dict[str, Any]:
    settings = {ours: values.take(theirs, default=default) for theirs, (ours, default) in names.items()}
    if "kernel_size" in names:
        kernel = settings["kernel_size"]
        values.expect("stride", kernel // 2 if isinstance(kernel, int) else None)
    values.ignore("C", "num_spks")
    values.finish()
    return {"model_type": name, **settings}


_TABLES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "mossformer2": _mossformer2,
    "spmamba": _spmamba,
    "mamba_tasnet": _mamba_tasnet,
    "dpmamba": _dpmamba,
}
