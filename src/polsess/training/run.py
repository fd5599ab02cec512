"""The composition root of training: configuration in, a run folder with checkpoints and logs out."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from polsess.config import Config
from polsess.costs import count_parameters
from polsess.data import Corpus, Split, create_corpus, create_loader
from polsess.devices import pick_device
from polsess.dotted_keys import flatten
from polsess.files import write_text
from polsess.folder_lock import locked
from polsess.models import Network, create_model
from polsess.publication import sweep
from polsess.schema import ConfigError, suggest
from polsess.training.callbacks import closed_after, restore_table
from polsess.training.checkpointing import (
    BEST,
    LAST,
    Checkpoints,
    Progress,
    TimeIsUp,
    best_score_in,
    best_score_of,
    read_run_checkpoint,
)
from polsess.training.distributed import is_main_process
from polsess.training.failures import NonFiniteLog, TrainingStopped, loading_explained, workers_ended
from polsess.training.fine_tuning import Origin, freeze, start_from
from polsess.training.module import TrainingModule
from polsess.training.monitor import monitor_of
from polsess.training.objectives import create_objective
from polsess.training.record import RunRecord, changes_since, describe_data
from polsess.training.signals import StopSignals
from polsess.training.trainer import CHECKPOINTS, METRICS, Start, create_trainer

_LOOKED_AT = 8
"""Examples of which some must have the key of ``training.validation_strata``."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run."""

    run_folder: Path
    best_checkpoint: Path | None
    """The checkpoint with the best validation score; None if time was up before the first validation."""
    best_score: float
    """Its score on the validation split, which ``polsess.training.monitor`` names; not finite without it."""
    epochs: int
    """Epochs completed, those before a resume included."""
    skipped_steps: int
    """Steps left out because the loss or the gradient was not finite; see ``non_finite.jsonl``."""
    complete: bool = True
    """Whether the run is over; else ``max_minutes`` ended it, and it can be resumed."""


def train(
    config: Config,
    run_folder: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
    say_epoch: Callable[[str], None] | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train a model.

    Args:
        config: The experiment.
        run_folder: Receives ``config.json``, ``environment.json``, ``metrics.csv``, ``tensorboard/`` and
            ``checkpoints/``.
        resume: Continue from the folder's last checkpoint; without it the folder must not hold a run.
        progress: Whether to draw a bar.
        say: Receives remarks for the user at the beginning.
        say_epoch: Receives a line per epoch, for logs without a terminal.
        after_epoch: Receives every epoch, counted from 0, and its validation score; may raise to end the run.

    Raises:
        FileExistsError: If the folder holds a run and ``resume`` is not set, or a model.
        FileNotFoundError: If ``resume`` is set and there is nothing to continue.
        FolderInUseError: If another process trains in the folder.
        ValueError: If the corpus, the weights to start from or the parts to freeze do not fit, or a resumed
            run would continue with another model, other data or another kind of step.
        TrainingStopped: If the run had to end early; the message says why and how to go on.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # its notes on hardware and add-ons
    # The other processes of the run work under the first one's lock.
    with locked(run_folder, "polsess train") if is_main_process() else nullcontext():
        return _train(
            config,
            run_folder,
            resume=resume,
            progress=progress,
            say=say,
            say_epoch=say_epoch,
            after_epoch=after_epoch,
        )


def _train(
    config: Config,
    run_folder: Path,
    *,
    resume: bool,
    progress: bool,
    say: Callable[[str], None],
    say_epoch: Callable[[str], None] | None,
    after_epoch: Callable[[int, float], None] | None,
) -> TrainingResult:
    source, last = _source(run_folder, resume=resume), _checkpoint_files(run_folder)[0]
    if is_main_process():
        _sweep(run_folder)
    check_device(config)
    start = _resumed(source, config, run_folder) if resume else Start()
    lightning.seed_everything(config.seed, verbose=False)
    model, origin = create_trained_model(config, resume=resume)
    corpora, signals = open_corpora(config), StopSignals(last)
    module = _create_module(config, run_folder, model, origin, corpora[0])
    record, data = RunRecord(run_folder), describe_data(corpora)
    remarks = [*start.remarks, *(record.check_data(data) if resume else [])]
    trainer = create_trainer(
        config.training,
        model,
        run_folder,
        signals,
        start,
        run_config=module.run_config,
        shared=_shared_facts(config, data),
        progress_bar=progress,
        say_epoch=say_epoch,
        after_epoch=after_epoch,
    )
    loaders = _create_loaders(corpora, config, trainer, start.progress)
    with ExitStack() as run:
        entry: dict[str, Any] = {}
        if trainer.is_global_zero:
            for line in (*_beginning(module), *remarks, *_changed(start.changes)):
                say(line)
            write_text(run_folder / "config.json", config.model_dump_json(indent=2) + "\n")
            started = record.start(
                resumed_at=asdict(start.progress) if resume else None,
                changes=start.changes,
                data=data,
                started_from=module.origin and asdict(module.origin),
                parameters=count_parameters(module.model).total,
            )
            entry = run.enter_context(started)
        run.enter_context(workers_ended())
        run.enter_context(loading_explained(last))
        run.enter_context(warnings.catch_warnings())
        run.enter_context(signals.listening())
        run.enter_context(closed_after(trainer.loggers))
        # Lightning advises more workers and notes that a run continues; neither is news to the user.
        warnings.filterwarnings("ignore", module="lightning")
        complete = _fit(trainer, module, loaders, source if resume else None, entry)
        result = _result(run_folder, trainer, module, complete=complete)
        if not complete:
            entry["outcome"] = f"TimeIsUp: training.max_minutes ended it after {result.epochs} epochs"
    if resume and trainer.is_global_zero and trainer.global_step == start.progress.steps:
        say(f"Nothing was left to train: the run had ended (epochs: {result.epochs}).")
    return result


def _fit(
    trainer: lightning.Trainer,
    module: TrainingModule,
    loaders: Sequence[DataLoader[Any]],
    checkpoint: Path | None,
    entry: dict[str, Any],
) -> bool:
    """Train to the end, or until time is up; returns whether it was the end."""
    try:
        trainer.fit(module, loaders[0], loaders[1], ckpt_path=checkpoint, weights_only=True)
    except TimeIsUp:
        return False
    finally:
        entry["epochs"] = _checkpoints(trainer).progress.epoch
    return True


def _resumed(source: Path, config: Config, run_folder: Path) -> Start:
    """The state from which a run continues, with remarks for the user."""
    content = read_run_checkpoint(source)
    changes = changes_since(content["polsess_config"], config, run_folder)
    rows, remarks = restore_table(run_folder / METRICS, content)
    kept, known = best_score_in(source.parent), best_score_of(content)
    if kept < known:
        monitor = monitor_of(config.task)
        earlier = f"of an earlier best, {monitor.show(monitor.gain(kept))}"
        state = "missing or damaged" if kept == -math.inf else earlier
        remarks.append(
            f"{source.with_name(BEST)} is {state}: the weights of the best validation "
            f"({monitor.show(monitor.gain(known))}) are lost, and the best from here on is kept."
        )
    return Start(Progress.of(content), rows, kept, changes, remarks)


def _sweep(run_folder: Path) -> None:
    """Remove the halves of files that killed processes left."""
    for folder in (run_folder, run_folder / CHECKPOINTS):
        sweep(folder)


def _checkpoint_files(run_folder: Path) -> tuple[Path, Path]:
    return run_folder / CHECKPOINTS / LAST, run_folder / CHECKPOINTS / BEST


def _shared_facts(config: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that all processes of a run must share, by dotted key; places of files may differ."""
    settings = config.model_dump(mode="json", include={"task", "seed", "model", "training"})
    del settings["training"]["init"]
    return dict(flatten({**settings, "data": {"batch_size": config.data.batch_size, **data}}))


def _create_loaders(
    corpora: Sequence[Corpus], config: Config, trainer: lightning.Trainer, start: Progress
) -> list[DataLoader[Any]]:
    """Create the loaders of this process: training from where the run stopped, validation from its start."""
    rank, world_size = trainer.global_rank, trainer.world_size
    check_batches(len(corpora[0]), config)
    return [
        create_loader(corpus, config.data, training=training, rank=rank, world_size=world_size, resume_at=at)
        for corpus, training, at in zip(
            corpora, (True, False), ((start.epoch, start.batches), (0, 0)), strict=True
        )
    ]


def _checkpoints(trainer: lightning.Trainer) -> Checkpoints:
    checkpoints = trainer.checkpoint_callback
    assert isinstance(checkpoints, Checkpoints)
    return checkpoints


def _result(
    run_folder: Path, trainer: lightning.Trainer, module: TrainingModule, *, complete: bool
) -> TrainingResult:
    """Read the result from the files: the score is that of the weights in ``best.ckpt``."""
    checkpoints, best = _checkpoints(trainer), run_folder / CHECKPOINTS / BEST
    # The folder of another machine may show the file later.
    score = best_score_in(best.parent) if trainer.is_global_zero else checkpoints.best_score
    if complete and not math.isfinite(score):
        raise TrainingStopped(
            f"{run_folder}: there are no best weights: no validation had a finite score, or {BEST} is gone. "
            "Begin a new run, with a smaller training.optimizer.learning_rate if the loss was not finite."
        )
    return TrainingResult(
        run_folder=run_folder,
        best_checkpoint=best if math.isfinite(score) else None,
        best_score=module.monitor.gain(score),
        epochs=checkpoints.progress.epoch,
        skipped_steps=module.non_finite.count,
        complete=complete,
    )


def _source(run_folder: Path, *, resume: bool) -> Path:
    """The checkpoint that a resumed run continues from; a new run must not have one."""
    last, best = _checkpoint_files(run_folder)
    found = next((path for path in (last, best) if path.is_file()), None)
    if resume and found is None:
        raise FileNotFoundError(f"{last}: nothing to resume; start without --resume.")
    if not resume and found is not None:
        raise FileExistsError(
            f"{run_folder} holds a run already; continue it with --resume or choose another."
        )
    if any(run_folder.glob("*.safetensors")):
        raise FileExistsError(
            f"{run_folder} holds a model, whose config.json a run would replace; choose another."
        )
    return found or last


def _create_module(
    config: Config, run_folder: Path, model: Network, origin: Origin | None, corpus: Corpus
) -> TrainingModule:
    run_config = config.model_dump(mode="json")
    non_finite = NonFiniteLog(run_folder, config.training.max_skipped_steps, run_config)
    objective = create_objective(config, model, corpus)
    module = TrainingModule(model, objective, config.training, run_config, non_finite)
    module.origin = origin
    return module


def _beginning(module: TrainingModule) -> list[str]:
    """Remarks on the weights before the first step."""
    lines = [module.origin.summary] if module.origin else []
    if module.config.freeze:
        sizes = count_parameters(module.model)
        lines.append(f"Training {sizes.trainable:,} of {sizes.total:,} parameters.")
    return lines


def _changed(changes: Mapping[str, list[Any]]) -> list[str]:
    each = ", ".join(f"{key} {before!r} -> {now!r}" for key, (before, now) in changes.items())
    return [f"Changed since the run was stopped: {each}."] if changes else []


def check_device(config: Config) -> None:
    """Check that the device is there, without using it.

    Raises:
        ConfigError: If it is not.
    """
    name = config.training.device
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, True):
        try:
            pick_device(name)
        except ValueError as error:
            raise ConfigError(f"training.{error}") from None


def check_batches(num_examples: int, config: Config) -> int:
    """The steps of an epoch before accumulation.

    Raises:
        ConfigError: If the training examples make no batch.
    """
    batch_size, processes = config.data.batch_size, config.training.num_processes
    batches = num_examples // processes // batch_size
    if batches == 0:
        each = f" for each of {processes} processes" if processes > 1 else ""
        raise ConfigError(
            f"data.batch_size: {num_examples} training examples make no batch of {batch_size}{each}; lower "
            "data.batch_size."
        )
    return batches


def create_trained_model(config: Config, *, resume: bool = False) -> tuple[Network, Origin | None]:
    """The model of a run with fresh weights or those of another, and what it was started from.

    Args:
        config: The experiment.
        resume: Whether the run has weights of its own already, which take these ones' place.

    Raises:
        ValueError: If the weights to start from or the parts to freeze do not fit.
    """
    model, settings = create_model(config.model, kind=Network), config.training
    origin = start_from(model, settings, config.task) if settings.init and not resume else None
    freeze(model, settings.freeze)
    return model, origin


def open_corpora(config: Config) -> list[Corpus]:
    """The training and the validation split.

    Raises:
        FileNotFoundError: If the corpus is not where the configuration says.
        ValueError: If it does not fit the task, its files are wrong, or its examples know nothing of
            ``training.validation_strata``.
    """
    corpora = [
        create_corpus(
            config.data.corpus,
            split,
            config.task,
            config.seed,
            num_mixtures=config.training.loss.num_mixtures,
        )
        for split in (Split.TRAIN, Split.VAL)
    ]
    if config.training.loss.num_mixtures == 1:  # mixtures of mixtures keep only what their parts share
        _check_strata(config.training.validation_strata, corpora[-1])
    return corpora


def _check_strata(key: str | None, corpus: Corpus) -> None:
    """Check that some of the first examples have the key of the strata."""
    if key is None:
        return
    known: set[str] = set()
    for index in range(min(len(corpus), _LOOKED_AT)):
        known |= corpus.example(0, index).metadata.keys()
        if key in known:
            return
    raise ConfigError(
        f"training.validation_strata: no example has '{key}'.{suggest(key, sorted(known), 'They have')}"
    )
