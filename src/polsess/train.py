"""The composition root of training: configuration in, a run folder with checkpoints and logs out."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

from polsess.config import Config
from polsess.data import Split, create_corpus, create_loader
from polsess.files import write_text
from polsess.models import create_model
from polsess.training.module import SeparationModule
from polsess.training.trainer_factory import CHECKPOINTS, create_trainer


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


def train(config: Config, run_folder: Path, *, resume: bool = False, progress: bool = True) -> TrainingResult:
    """Train a model.

    Args:
        config: The experiment.
        run_folder: Receives ``config.json``, ``metrics.csv``, ``tensorboard/`` and ``checkpoints/``.
        resume: Continue from the folder's last checkpoint; without it the folder must not hold a run.
        progress: Whether to draw a bar.

    Raises:
        FileExistsError: If the folder holds a run and ``resume`` is not set.
        FileNotFoundError: If ``resume`` is set and there is nothing to continue.
        ValueError: If the corpus does not fit.
    """
    last = run_folder / CHECKPOINTS / "last.ckpt"
    if resume and not last.is_file():
        raise FileNotFoundError(f"{last}: nothing to resume; start without --resume.")
    if not resume and last.exists():
        raise FileExistsError(
            f"{run_folder} holds a run already; continue it with --resume or choose another."
        )
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # its notes on hardware and add-ons
    lightning.seed_everything(config.seed, verbose=False)
    corpora = {
        split: create_corpus(config.data.corpus, split, config.task, config.seed)
        for split in (Split.TRAIN, Split.VAL)
    }
    model = create_model(config.model)
    module = SeparationModule(model, config.training, config.model_dump(mode="json"))
    trainer = create_trainer(config.training, model, run_folder, progress=progress)
    share = {"rank": trainer.global_rank, "world_size": trainer.world_size}
    write_text(run_folder / "config.json", config.model_dump_json(indent=2) + "\n")
    with warnings.catch_warnings():
        # Lightning advises more workers and notes that a run continues; neither is news to the user.
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(
            module,
            create_loader(corpora[Split.TRAIN], config.data, training=True, **share),
            create_loader(corpora[Split.VAL], config.data, training=False, **share),
            ckpt_path=last if resume else None,
            weights_only=True,
        )
    best = trainer.checkpoint_callback
    assert isinstance(best, ModelCheckpoint)
    return TrainingResult(
        run_folder=run_folder,
        best_checkpoint=Path(best.best_model_path),
        best_score=float(best.best_model_score or float("nan")),
        epochs=trainer.current_epoch,
    )
