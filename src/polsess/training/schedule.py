"""The learning rate as a function of step, epoch and validation history."""

from __future__ import annotations

import math
from typing import Any

from polsess.config import OptimizerConfig

_COSINE_FLOOR = 0.01


class LearningRate:
    """The rate of every step of a run.

    Args:
        config: Schedule and base rate.
        epoch_steps: Steps of an epoch.
        max_epochs: Epochs of the whole run; the cosine schedule ends there.
    """

    def __init__(self, config: OptimizerConfig, epoch_steps: int, max_epochs: int) -> None:
        self.config = config
        self.epoch_steps = epoch_steps
        self.max_epochs = max_epochs
        self.best_score = -math.inf
        self.bad_validations = 0
        self.num_falls = 0

    def at(self, step: int, epoch: int) -> float:
        """The rate of a step.

        Args:
            step: Steps taken before.
            epoch: The epoch, counted from 0.
        """
        config = self.config
        if config.schedule == "dptnet":
            return self._dptnet(step + 1, epoch)
        warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        return config.learning_rate * warmup * self._decay(step, epoch)

    def validated(self, score: float, epoch: int) -> None:
        """Note the score of a validation; after a plateau the rate is lower from here on."""
        if score > self.best_score:
            self.best_score, self.bad_validations = score, 0
            return
        if epoch < self.config.schedule_from_epoch:
            return
        self.bad_validations += 1
        if self.bad_validations > self.config.plateau_patience:
            self.num_falls, self.bad_validations = self.num_falls + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs."""
        return {key: getattr(self, key) for key in ("best_score", "bad_validations", "num_falls")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where a run was."""
        for key, value in state.items():
            setattr(self, key, value)

    def _decay(self, step: int, epoch: int) -> float:
        config = self.config
        since = max(0, epoch - config.schedule_from_epoch)
        if config.schedule == "plateau":
            return config.plateau_factor**self.num_falls
        if config.schedule == "exponential":
            return config.exponential_factor ** (since // config.exponential_epochs)
        if config.schedule == "cosine":
            first = max(config.warmup_steps, config.schedule_from_epoch * self.epoch_steps)
            left = max(1, self.max_epochs * self.epoch_steps - first)
            share = min(1.0, max(0, step - first) / left)
            return _COSINE_FLOOR + (1 - _COSINE_FLOOR) * (1 + math.cos(math.pi * share)) / 2
        return 1.0

    def _dptnet(self, step: int, epoch: int) -> float:
        """Chen, Mao, Liu (2020), section 3.2: a rise for a model of 64 features, then 0.98 per two epochs."""
        if step <= self.config.warmup_steps:
            return 0.2 * 64**-0.5 * step * self.config.warmup_steps**-1.5
        since = max(0, epoch - self.config.schedule_from_epoch)
        return self.config.learning_rate * 0.98 ** (since // 2)
