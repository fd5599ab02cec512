"""What a training run is configured by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from polsess.losses import LossConfig
from polsess.schema import Schema


class OptimizerConfig(Schema):
    """The optimiser and its learning-rate schedule."""

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """Not applied to norms and biases."""
    schedule: Literal["plateau", "constant"] = "plateau"
    """Plateau multiplies the rate by ``plateau_factor`` when validation has not improved."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: int = Field(default=3, ge=0)
    """Validations without improvement before the rate falls."""


class TrainingConfig(Schema):
    """How a model is trained."""

    max_epochs: int = Field(default=100, ge=1)
    """Epochs in all, those before a resume included."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Wall-clock limit of this start of the run."""
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    gradient_clip_norm: float | None = Field(default=5.0, gt=0)
    """Largest L2 norm of the gradient of all parameters."""
    early_stopping_patience: int | None = Field(default=10, ge=1)
    """Validations without improvement before the run ends; null never ends it."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of the weight average that is validated and kept; null uses the weights themselves."""
    precision: Literal["float32", "auto"] = "float32"
    """``auto`` is the reduced precision that the architecture trains well in, on devices that have it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    """Processes on this machine, one per accelerator."""
    num_nodes: int = Field(default=1, ge=1)
    """Machines."""
    log_every_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _check_patience(self) -> TrainingConfig:
        stopping, plateau = self.early_stopping_patience, self.optimizer.plateau_patience
        if self.optimizer.schedule == "plateau" and stopping is not None and stopping <= plateau:
            raise ValueError(
                f"early_stopping_patience ({stopping}) must exceed optimizer.plateau_patience ({plateau}), "
                "or the rate never falls before the run ends."
            )
        return self
