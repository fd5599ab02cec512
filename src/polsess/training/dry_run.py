"""The cost of a run, measured on a few of its steps; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from polsess.config import Config
from polsess.costs import count_macs, count_parameters, weights_bytes
from polsess.data import Batch, Corpus, Split, create_loader
from polsess.devices import pick_device
from polsess.measurement import measure, peak_bytes, wait_for
from polsess.models import Network
from polsess.training.fine_tuning import Origin, frozen_norms
from polsess.training.objectives import Objective, create_objective
from polsess.training.optimizers import create_optimizer
from polsess.training.run import check_batches, check_device, create_trained_model, open_corpora
from polsess.training.trainer import reduces_precision

_STEPS = 3
"""Steps that are timed; one before them is not."""
_VALIDATED = 2


@dataclass(frozen=True)
class SplitSize:
    """The size of a split."""

    split: Split
    examples: int
    hours: float
    """Hours of audio in an epoch, from the mean length of the drawn examples."""


@dataclass(frozen=True)
class DryRun:
    """The measurements."""

    model_type: str
    parameters: int
    trained_parameters: int
    weights_bytes: int
    macs_per_second: float
    """Multiply-accumulates per second of audio in one forward pass."""
    device: str
    batch: tuple[int, int]
    """Examples and samples of the largest batch that was drawn."""
    sample_rate: int
    steps_per_epoch: int
    step_seconds: float
    """Time to compute a batch."""
    loading_seconds: float
    """Time to prepare a batch in one process."""
    num_workers: int
    validation_seconds: float
    """Time of a whole validation."""
    memory_bytes: int | None
    """Peak use of the accelerator or of this process; None if the system does not report it."""
    max_epochs: int
    data: tuple[SplitSize, ...]
    origin: Origin | None
    """The source of the initial weights; None for fresh ones."""

    @property
    def training_seconds(self) -> float:
        """Time of one epoch's steps; workers prepare batches while others are computed."""
        if not self.num_workers:
            return self.steps_per_epoch * (self.step_seconds + self.loading_seconds)
        return self.steps_per_epoch * max(self.step_seconds, self.loading_seconds / self.num_workers)

    @property
    def epoch_seconds(self) -> float:
        """Time of one epoch with its validation."""
        return self.training_seconds + self.validation_seconds


def rehearse(config: Config, on_phase: Callable[[str], None] = lambda _: None) -> DryRun:
    """Do a few steps of a run on its data and its device.

    Args:
        config: The experiment.
        on_phase: Receives what is done next, e.g. ``training``.

    Raises:
        ValueError: If the corpus or the weights to start from do not fit, or make no batch.
    """
    torch.manual_seed(config.seed)
    model, origin = create_trained_model(config)
    train_corpus, val_corpus = open_corpora(config)
    check_batches(len(train_corpus), config)
    check_device(config)
    device = pick_device(config.training.device)
    on_phase("drawing batches")
    timed = list(_draw(config, train_corpus))
    batches = [batch for batch, _ in timed]
    sizes = count_parameters(model)
    macs = count_macs(model).per_second
    model.to(device)
    on_phase("training")
    objective = create_objective(config, model, train_corpus).to(device)
    step_seconds = _time_steps(model, objective, config, batches, device)
    on_phase("validating")
    validated, validation_seconds = _time_validation(model, objective, config, val_corpus, device)
    processes = config.training.num_processes
    data = [
        SplitSize(corpus.split, len(corpus), len(corpus) * _seconds_of(drawn, config) / 3600)
        for corpus, drawn in ((train_corpus, batches), (val_corpus, validated))
    ]
    return DryRun(
        model_type=model.model_type,
        parameters=sizes.total,
        trained_parameters=sizes.trainable,
        weights_bytes=weights_bytes(model),
        macs_per_second=macs,
        device=str(device),
        batch=(config.data.batch_size, max(batch.mixture.shape[1] for batch in batches)),
        sample_rate=model.sample_rate,
        steps_per_epoch=check_batches(len(train_corpus), config),
        step_seconds=step_seconds,
        loading_seconds=sum(seconds for _, seconds in timed) / len(timed),
        num_workers=config.data.num_workers,
        validation_seconds=validation_seconds / processes,
        memory_bytes=peak_bytes(device),
        max_epochs=config.training.max_epochs,
        data=tuple(data),
        origin=origin,
    )


def _draw(config: Config, corpus: Corpus) -> Iterator[tuple[Batch, float]]:
    """The first batches of the run and the seconds that each took to prepare."""
    here = config.data.model_copy(update={"num_workers": 0})
    loader = create_loader(corpus, here, training=True)
    start = time.perf_counter()
    for batch in islice(loader, _STEPS + 1):
        yield batch, time.perf_counter() - start
        start = time.perf_counter()


def _time_steps(
    model: Network, objective: Objective[Any], config: Config, batches: list[Batch], device: torch.device
) -> float:
    """Seconds of a step: forward, loss, backward, clipping, optimiser."""
    settings, trained = config.training, nn.ModuleList([model, objective])
    optimizer = create_optimizer(trained, settings.optimizer)
    model.train()
    for norm in frozen_norms(model):
        norm.eval()
    given = iter([batches[0], *batches][: _STEPS + 1])

    def step() -> None:
        there = next(given).to(device)
        with _autocast(model, config, device):
            loss = objective.loss(model, there, step=0)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), settings.gradient_clip_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad()

    return min(measure(step, device, min(len(batches), _STEPS) + 1).wall[1:])


def _time_validation(
    model: Network, objective: Objective[Any], config: Config, corpus: Corpus, device: torch.device
) -> tuple[list[Batch], float]:
    """The batches that were tried, and the seconds of all."""
    loader = create_loader(corpus, config.data.model_copy(update={"num_workers": 0}), training=False)
    model.eval()
    drawn, start = [], time.perf_counter()
    with torch.no_grad():
        for batch in islice(loader, _VALIDATED):
            objective.scores(model, batch.to(device))
            drawn.append(batch)
    wait_for(device)
    return drawn, (time.perf_counter() - start) / len(drawn) * len(loader)


def _autocast(model: Network, config: Config, device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16, enabled=reduces_precision(config.training, model))


def _seconds_of(batches: list[Batch], config: Config) -> float:
    """The mean length of examples."""
    lengths = torch.cat([batch.lengths for batch in batches]).float()
    return float(lengths.mean()) / config.model.sample_rate
