"""Starting a run from the weights of another, and training a part of a network only."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from polsess.checkpoints import Checkpoint, CheckpointError, check_state, read_checkpoint
from polsess.config import TrainingConfig
from polsess.files import sha256
from polsess.models import ModelConfig, Network, NetworkConfig
from polsess.schema import ConfigError
from polsess.tasks import Task
from polsess.text_tables import counted


@dataclass(frozen=True)
class Origin:
    """The source of a run's initial weights; stored in its checkpoints."""

    source: str
    """As the user named it."""
    format: str
    """The reader of its files."""
    revision: str | None
    """The commit on the hub, for ids."""
    sha256: dict[str, str]
    """The digest of every file that was read, by its name."""
    reset: list[str]
    """Tensors that did not fit and started afresh: the head."""
    remarks: list[str]
    """Other differences between the run and its source."""

    @property
    def summary(self) -> str:
        """One paragraph for the user."""
        head = f" Started afresh: {', '.join(self.reset)}." if self.reset else ""
        return f"Starting from {self.source} ({self.format}).{head}" + "".join(f" {r}" for r in self.remarks)


def start_from(model: Network, settings: TrainingConfig, task: Task) -> Origin:
    """Give a fresh model the weights that ``settings.init`` names; torch's random numbers stay as they are.

    A checkpoint of another number of sources fits except for its head, the tensors whose shapes depend on
    that number; with ``settings.reset_head`` those keep the model's own fresh values.

    Args:
        model: The model of the run.
        settings: ``init`` and ``reset_head``.
        task: The task of the run.

    Raises:
        CheckpointError: If the source cannot be read, or is of another architecture, size or sample rate.
        ConfigError: If the head does not fit and may not be reset.
    """
    assert settings.init is not None
    with torch.random.fork_rng(devices=[]):
        checkpoint = read_checkpoint(settings.init)
        _check_same_network(checkpoint, model.config)
        own = model.state_dict()
        fitting = {k: v for k, v in checkpoint.state.items() if k in own and own[k].shape == v.shape}
        head = [key for key in own if key not in fitting]
        if head and not settings.reset_head:
            theirs, ours = (_sources(each)["num_sources"] for each in (checkpoint.config, model.config))
            raise ConfigError(
                f"training.init: {settings.init} estimates {counted(theirs, 'source')}, the run {ours}; "
                f"{', '.join(head)} cannot be taken over. --reset-head (training.reset_head=true) starts "
                "them afresh."
            )
        model.load_state_dict(fitting, strict=False)
    return Origin(
        source=settings.init,
        format=checkpoint.format,
        revision=checkpoint.revision,
        sha256={path.name: sha256(path) for path in checkpoint.files},
        reset=head,
        remarks=_remarks(checkpoint, model.config, task),
    )


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Take parameters out of training.

    Args:
        model: The network.
        patterns: Shell patterns of parameter names, e.g. ``"encoder.*"``.

    Returns:
        The names of the frozen parameters.

    Raises:
        ConfigError: If a pattern matches nothing, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"training.freeze: '{pattern}' matches no parameter.{_near(pattern, names)}")
    frozen = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("training.freeze: every parameter is frozen; leave something to train.")
    return frozen


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Batch normalisations without a trainable parameter: their running statistics are frozen, too."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.affine]
    return [norm for norm in norms if not any(parameter.requires_grad for parameter in norm.parameters())]


def _check_same_network(checkpoint: Checkpoint, config: NetworkConfig) -> None:
    source, theirs = checkpoint.source, checkpoint.config
    if theirs.model_type != config.model_type:
        raise CheckpointError(
            f"training.init: {source} is a {theirs.model_type}, model.model_type is {config.model_type}; "
            "set it to the same, or leave the section model out to follow the checkpoint."
        )
    if theirs.sample_rate != config.sample_rate:
        raise CheckpointError(
            f"training.init: {source} was made for {theirs.sample_rate} Hz, model.sample_rate is "
            f"{config.sample_rate} Hz; set data.corpus.sample_rate={theirs.sample_rate}: what is read is "
            "resampled."
        )
    try:
        as_theirs = config.model_copy(update=_sources(theirs))
        check_state(as_theirs, checkpoint.state, source)
    except CheckpointError as error:
        others = "; ".join(_differences(theirs, config))
        advice = f" Different: {others}; set them to the checkpoint's." if others else ""
        raise CheckpointError(f"training.init: {error}{advice}") from None


def _sources(config: NetworkConfig) -> dict[str, int]:
    """The number of sources of a separation model; other networks have none."""
    return {"num_sources": config.num_sources} if isinstance(config, ModelConfig) else {}


def _remarks(checkpoint: Checkpoint, config: NetworkConfig, task: Task) -> list[str]:
    remarks = [f"Note: {each}." for each in _differences(checkpoint.config, config)]
    if checkpoint.task is not None and checkpoint.task != task:
        remarks.append(f"Note: it was trained for task {checkpoint.task}, this run is {task}.")
    return remarks


def _differences(theirs: NetworkConfig, ours: NetworkConfig) -> list[str]:
    """Fields of the same architecture that differ, but for those that have messages of their own."""
    there, here = theirs.model_dump(), ours.model_dump()
    return [
        f"model.{key} is {here[key]!r}, in the checkpoint {value!r}"
        for key, value in there.items()
        if key not in ("num_sources", "sample_rate") and here[key] != value
    ]


def _near(pattern: str, names: Iterable[str]) -> str:
    """Names near a pattern that matches nothing: parameters and the modules above them."""
    known = dict.fromkeys(names)
    for name in names:
        parts = name.split(".")
        known |= {".".join([*parts[:depth], "*"]): None for depth in range(1, len(parts))}
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.5)
    tops = list(dict.fromkeys(name.partition(".")[0] + ("*" if "." not in name else ".*") for name in names))
    hint = f" Did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
    return f"{hint} Parts: {', '.join(tops)}."
