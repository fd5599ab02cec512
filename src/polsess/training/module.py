"""One training step and one validation, as Lightning calls them.

The step is ours from end to end (manual optimisation): micro-batches, accumulation, clipping, the learning
rate and what happens to values that are not finite. The random numbers of a step depend on seed, epoch, batch
and process alone, so a resumed run draws what an uninterrupted one would.

Shapes: B batch, T samples.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from polsess.config import TrainingConfig
from polsess.data import Batch
from polsess.metrics import group_by_condition
from polsess.models import Network
from polsess.system_errors import shortage_of_memory
from polsess.training.distributed import gather
from polsess.training.failures import (
    NonFiniteLog,
    RunningStatistics,
    TrainingStopped,
    first_non_finite_module,
)
from polsess.training.fine_tuning import Origin, frozen_norms
from polsess.training.monitor import monitor_of
from polsess.training.objectives import Objective
from polsess.training.optimizers import create_optimizer
from polsess.training.schedule import LearningRate


@dataclass(frozen=True)
class EpochSums:
    """Sums over the batches of an epoch up to now; they are in every checkpoint."""

    epoch: int = 0
    loss: float = 0.0
    """Sum of the losses of all examples."""
    examples: int = 0
    steps: int = 0
    """Number of steps that were due."""
    skipped_steps: int = 0
    """Number of steps among them that were skipped."""

    def with_batch(self, mean_loss: float, num_examples: int) -> EpochSums:
        """Return the sums with one more batch."""
        return replace(self, loss=self.loss + mean_loss * num_examples, examples=self.examples + num_examples)


class TrainingModule(lightning.LightningModule):
    """A network with its objective and optimiser.

    Args:
        model: The network to train.
        objective: What it is trained for; its parameters are trained with it.
        config: Optimiser, schedule.
        run_config: Plain data of the whole configuration; stored in every checkpoint.
        non_finite: Keeps account of steps that are left out.
    """

    def __init__(
        self,
        model: Network,
        objective: Objective[Any],
        config: TrainingConfig,
        run_config: dict[str, Any],
        non_finite: NonFiniteLog,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.objective = objective
        self.config = config
        self.run_config = run_config
        self.non_finite = non_finite
        self.monitor = monitor_of(run_config["task"])
        self.learning_rate: LearningRate | None = None
        self.num_micro_batches = 1
        self.origin: Origin | None = None
        self.frozen_norms = frozen_norms(model)
        self.scores: dict[int, tuple[str | float | None, Any]] = {}  # condition and scores by example
        self.sums = EpochSums()
        self._group: list[tuple[int, Batch]] = []  # the batches of this step, numbered within the epoch
        self._fault: tuple[str, int, Batch] | None = None  # the first bad batch of the step
        self._statistics = RunningStatistics()
        self._restored: dict[str, Any] = {}
        if config.compile and model.supports_compile:
            model.compile_pass()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser; the learning rate is set before every step."""
        batches = int(self.trainer.estimated_stepping_batches) // self.config.max_epochs
        steps = -(-batches // self.config.accumulate_batches)  # the last group of an epoch may be smaller
        self.learning_rate = LearningRate(self.config.optimizer, steps, self.config.max_epochs)
        self.learning_rate.load_state_dict(self._restored.get("learning_rate", {}))
        return create_optimizer(self, self.config.optimizer)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the gradient of a batch; step when the group of accumulated batches is complete."""
        if self.sums.epoch != self.current_epoch:
            self.sums = EpochSums(self.current_epoch)
        for norm in self.frozen_norms:
            norm.eval()
        group = self.config.accumulate_batches
        total = int(self.trainer.num_training_batches)
        size = min(group, total - batch_idx // group * group)  # the last group of an epoch may be smaller
        if batch_idx % group == 0:
            self._group = []
            self._statistics.keep(self.model)
        self._group.append((batch_idx, batch))
        loss = self._add_gradient(1 / size)
        count = len(batch.mixture) if loss.isfinite() else 0  # a step that is left out has no loss
        loss = loss.nan_to_num(0.0)
        self.log("train_loss_step", loss, prog_bar=True, batch_size=count, sync_dist=True)
        self.sums = self.sums.with_batch(float(loss), count)
        if (batch_idx + 1) % group == 0 or batch_idx + 1 == total:
            self._step()

    def _add_gradient(self, weight: float) -> Tensor:
        """Backpropagate the group's last batch in as many parts as memory asks for; returns its loss.

        Where memory runs out the gradients of the group's earlier batches go with the rest, so that these are
        computed again.
        """
        batches = self._group[-1:]
        while True:
            try:
                return [self._backward(index, batch, weight) for index, batch in batches][-1]
            except RuntimeError as error:
                if (shortage := shortage_of_memory(error)) is None:
                    raise
                if self.trainer.world_size > 1:  # the other processes are amid the same batch
                    raise TrainingStopped(
                        "Out of memory: with several processes batches are not split by themselves; lower "
                        "data.batch_size, raise training.accumulate_batches and continue with --resume."
                    ) from error
                if self.num_micro_batches >= max(len(batch.mixture) for _, batch in batches):
                    raise TrainingStopped(
                        f"A batch of one example does not fit: {shortage}. Choose shorter examples "
                        "(data.corpus.segment_seconds), a smaller model, or another training.device."
                    ) from error
            self.optimizers().zero_grad(set_to_none=True)  # type: ignore[union-attr]
            self._statistics.restore()
            batches = self._group
            self.num_micro_batches *= 2
            self.print(
                f"Out of memory: from here on, batches are computed in {self.num_micro_batches} parts."
            )

    def _backward(self, batch_idx: int, batch: Batch, weight: float) -> Tensor:
        seed_step(self.run_config["seed"], self.current_epoch, batch_idx, self.global_rank)
        total = batch.mixture.new_zeros(())
        count = len(batch.mixture)
        for rows in torch.arange(count).chunk(self.num_micro_batches):
            part = batch.rows(int(rows[0]), int(rows[-1]) + 1)
            loss = self.objective.loss(self.model, part, self.global_step) * (len(rows) / count)
            if not loss.isfinite():
                self._fault = self._fault or (f"loss {loss.item()}", batch_idx, batch)
                # Every gradient becomes NaN, so that all processes leave this step out.
                loss = sum((p.sum() for p in self.parameters() if p.requires_grad), loss) * torch.nan
            self.manual_backward(loss * weight)
            total += loss.detach()
        return total

    def _step(self) -> None:
        """Clip and step; a gradient that is not finite is dropped and written down."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, lightning.pytorch.core.optimizer.LightningOptimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters(), self.config.gradient_clip_norm or float("inf"))
        self.log("gradient_norm", norm, batch_size=1)
        assert self.learning_rate is not None
        rate = self.learning_rate.at(self.global_step, self.current_epoch)
        self.log("learning_rate", rate, batch_size=1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        self.sums = replace(self.sums, steps=self.sums.steps + 1)
        if norm.isfinite():
            optimizer.step()
        else:
            self._skip_step(norm)
        optimizer.zero_grad(set_to_none=True)

    def _skip_step(self, norm: Tensor) -> None:
        what, index, batch = self._fault or (f"gradient norm {norm.item()}", *self._group[-1])
        self._fault = None
        self.sums = replace(self.sums, skipped_steps=self.sums.skipped_steps + 1)
        steps = -(-int(self.trainer.num_training_batches) // self.config.accumulate_batches)
        records = gather(self._describe(what, index, batch))
        self._statistics.restore()  # the description runs the network once more
        self.non_finite.add(
            self.model, self.objective, records, share_of_epoch=self.sums.skipped_steps / steps
        )

    def _describe(self, what: str, batch_idx: int, batch: Batch) -> dict[str, Any]:
        """The record of a batch in which something was not finite."""
        return {
            "epoch": self.current_epoch,
            "step": self.global_step,
            "batch": batch_idx,
            "process": self.global_rank,
            "what": what,
            "first_module": first_non_finite_module(self.model, batch.mixture),
            "items": batch.identifiers,
            "keys": [list(key) for key in batch.keys],
        }

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the last validation."""
        self.scores = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The scores of each example, in float32."""
        del batch_idx
        with torch.autocast(batch.mixture.device.type, enabled=False):
            scores = self.objective.scores(self.model, batch)
        for (_, index), metadata, score in zip(batch.keys, batch.metadata, scores, strict=True):
            self.scores[index] = (metadata.get(self.config.validation_strata or ""), score)

    def on_validation_epoch_end(self) -> None:
        """Scores of all examples, per stratum where asked for, and the epoch's loss, over all processes."""
        sums = gather(self.sums)
        loss = sum(each.loss for each in sums) / max(1, sum(each.examples for each in sums))
        self.log("train_loss_epoch", loss)
        scores = {index: score for part in gather(self.scores) for index, score in part.items()}
        conditions, every = zip(*(scores[index] for index in sorted(scores)), strict=True)
        groups = group_by_condition(conditions)
        if None in conditions:
            groups["none"] = [place for place, value in enumerate(conditions) if value is None]
        found = {
            name: self.objective.summarise([every[place] for place in places])
            for name, places in groups.items()
        }
        column = self.monitor.column
        keys = dict.fromkeys(key for each in found.values() for key in each)
        means = {key: float(np.mean([each[key] for each in found.values() if key in each])) for key in keys}
        means.setdefault(column, means.get(self.objective.substitute or column, math.nan))
        for key, mean in means.items():
            self.log(key, mean, prog_bar=key == column)
        if self.config.validation_strata is not None:
            self.log_dict({f"{column}/{name}": each.get(column, math.nan) for name, each in found.items()})
        if self.learning_rate is not None:
            self.learning_rate.validated(self.monitor.gain(means[column]), self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the configuration, which is enough to rebuild the model, and the state of the step."""
        checkpoint["polsess_config"] = self.run_config
        checkpoint["polsess_origin"] = asdict(self.origin) if self.origin else None
        checkpoint["polsess_state"] = {
            "learning_rate": self.learning_rate.state_dict() if self.learning_rate else {},
            "num_micro_batches": self.num_micro_batches,
            "skipped_steps": self.non_finite.count,
            "epoch_sums": asdict(self.sums),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue where the run was."""
        state = checkpoint["polsess_state"]
        origin = checkpoint.get("polsess_origin")
        self.origin = Origin(**origin) if origin else None
        self.num_micro_batches = state["num_micro_batches"]
        self.non_finite.count = state["skipped_steps"]
        self.sums = EpochSums(**state.get("epoch_sums", {}))
        self._restored = state

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch; Lightning does not look into our dataclass."""
        del dataloader_idx
        return batch.to(device)


def seed_step(seed: int, epoch: int, batch_idx: int, rank: int) -> None:
    """Let torch draw what it drew for this batch of this process, dropout for one."""
    sequence = np.random.SeedSequence([seed, epoch, batch_idx, rank])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
