"""The composition root of training: configuration in, a run folder with checkpoints and logs out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader

from polsess.config import Config
from polsess.costs import count_parameters
from polsess.data import Corpus, Split, create_corpus, create_loader
from polsess.files import write_text
from polsess.folder_lock import locked
from polsess.models import SeparationModel, create_model
from polsess.schema import ConfigError, suggest
from polsess.training.callbacks import closed_after
from polsess.training.checkpointing import BEST, LAST, Checkpoints, Progress
from polsess.training.distributed import is_main_process
from polsess.training.failures import NonFiniteLog, loading_explained
from polsess.training.fine_tuning import Origin, freeze, start_from
from polsess.training.module import SeparationModule
from polsess.training.record import RunRecord, changes_since, describe_data
from polsess.training.signals import StopSignals
from polsess.training.trainer import CHECKPOINTS, create_trainer

_LOOKED_AT = 8
"""Examples of which some must have the key of ``training.validation_strata``."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to."""

    run_folder: Path
    best_checkpoint: Path
    """The checkpoint with the best validation score."""
    best_score: float
    """Its mean SI-SNR improvement on the validation split, in dB."""
    epochs: int
    """Epochs completed, those before a resume included."""
    skipped_steps: int
    """Steps left out because the loss or the gradient was not finite; see ``non_finite.jsonl``."""


def train(
    config: Config,
    run_folder: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
    after_epoch: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train a model.

    Args:
        config: The experiment.
        run_folder: Receives ``config.json``, ``environment.json``, ``metrics.csv``, ``tensorboard/`` and
            ``checkpoints/``.
        resume: Continue from the folder's last checkpoint; without it the folder must not hold a run.
        progress: Whether to draw a bar.
        say: Is told what the user should know at the beginning.
        after_epoch: Told every epoch, counted from 0, and its validation score; may raise to end the run.

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
        return _train(config, run_folder, resume=resume, progress=progress, say=say, after_epoch=after_epoch)


def _train(
    config: Config,
    run_folder: Path,
    *,
    resume: bool,
    progress: bool,
    say: Callable[[str], None],
    after_epoch: Callable[[int, float], None] | None,
) -> TrainingResult:
    last = _last_checkpoint(run_folder, resume=resume)
    start = Progress.of(last) if resume else Progress()
    changes = changes_since(last, config) if resume else {}
    lightning.seed_everything(config.seed, verbose=False)
    module, signals = _create_module(config, run_folder, resume=resume), StopSignals()
    corpora = open_corpora(config)
    record, data = RunRecord(run_folder), describe_data(corpora)
    remarks = record.check_data(data) if resume else []
    trainer = create_trainer(
        config.training,
        module.model,
        run_folder,
        signals,
        start,
        run_config=module.run_config,
        progress_bar=progress,
        after_epoch=after_epoch,
    )
    loaders = _create_loaders(corpora, config, trainer, start)
    with ExitStack() as run:
        if trainer.is_global_zero:
            for line in (*_beginning(module), *remarks, *_changed(changes)):
                say(line)
            write_text(run_folder / "config.json", config.model_dump_json(indent=2) + "\n")
            started = record.start(
                resumed_at=asdict(start) if resume else None,
                changes=changes,
                data=data,
                started_from=module.origin and asdict(module.origin),
                parameters=count_parameters(module.model).total,
            )
            run.enter_context(started)
        run.enter_context(loading_explained(last))
        run.enter_context(warnings.catch_warnings())
        run.enter_context(signals.listening())
        run.enter_context(closed_after(trainer.loggers))
        # Lightning advises more workers and notes that a run continues; neither is news to the user.
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(
            module,
            train_dataloaders=loaders[0],
            val_dataloaders=loaders[1],
            ckpt_path=last if resume else None,
            weights_only=True,
        )
    result = _result(run_folder, trainer, module)
    if resume and trainer.is_global_zero and trainer.global_step == start.steps:
        say(f"Nothing was left to train: the run had ended (epochs: {result.epochs}).")
    return result


def _create_loaders(
    corpora: Sequence[Corpus], config: Config, trainer: lightning.Trainer, start: Progress
) -> list[DataLoader[Any]]:
    """Of this process: training from where the run stopped, validation from its beginning."""
    rank, world_size = trainer.global_rank, trainer.world_size
    return [
        create_loader(corpus, config.data, training=training, rank=rank, world_size=world_size, resume_at=at)
        for corpus, training, at in zip(
            corpora, (True, False), ((start.epoch, start.batches), (0, 0)), strict=True
        )
    ]


def _result(run_folder: Path, trainer: lightning.Trainer, module: SeparationModule) -> TrainingResult:
    checkpoints = trainer.checkpoint_callback
    assert isinstance(checkpoints, Checkpoints)
    return TrainingResult(
        run_folder=run_folder,
        best_checkpoint=run_folder / CHECKPOINTS / BEST,
        best_score=checkpoints.best_score,
        epochs=checkpoints.progress.epoch,
        skipped_steps=module.non_finite.count,
    )


def _last_checkpoint(run_folder: Path, *, resume: bool) -> Path:
    """The checkpoint that a resumed run continues from; a new run must not have it."""
    last = run_folder / CHECKPOINTS / LAST
    if resume and not last.is_file():
        raise FileNotFoundError(f"{last}: nothing to resume; start without --resume.")
    if not resume and last.exists():
        raise FileExistsError(
            f"{run_folder} holds a run already; continue it with --resume or choose another."
        )
    if any(run_folder.glob("*.safetensors")):
        raise FileExistsError(
            f"{run_folder} holds a model, whose config.json a run would replace; choose another."
        )
    return last


def _create_module(config: Config, run_folder: Path, *, resume: bool) -> SeparationModule:
    model, origin = create_trained_model(config, resume=resume)
    run_config = config.model_dump(mode="json")
    non_finite = NonFiniteLog(run_folder, config.training.max_skipped_steps, run_config)
    module = SeparationModule(model, config.training, run_config, non_finite)
    module.origin = origin
    return module


def _beginning(module: SeparationModule) -> list[str]:
    """What the user should know of the weights before the first step."""
    lines = [module.origin.summary] if module.origin else []
    if module.config.freeze:
        sizes = count_parameters(module.model)
        lines.append(f"Training {sizes.trainable:,} of {sizes.total:,} parameters.")
    return lines


def _changed(changes: Mapping[str, list[Any]]) -> list[str]:
    each = ", ".join(f"{key} {before!r} -> {now!r}" for key, (before, now) in changes.items())
    return [f"Changed since the run was stopped: {each}."] if changes else []


def create_trained_model(config: Config, *, resume: bool = False) -> tuple[SeparationModel, Origin | None]:
    """The model of a run with fresh weights or those of another, and what it was started from.

    Args:
        config: The experiment.
        resume: Whether the run has weights of its own already, which take these ones' place.

    Raises:
        ValueError: If the weights to start from or the parts to freeze do not fit.
    """
    model, settings = create_model(config.model), config.training
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
    """See that some of the first examples have the key by whose values scores shall be given."""
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
