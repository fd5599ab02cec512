"""The section ``training`` of an experiment: optimiser, schedule, limits, devices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from polsess.losses import LossConfig, VerificationConfig
from polsess.schema import Schema

Beta = Annotated[float, Field(ge=0, lt=1)]
"""Decay per step of a running mean."""


class OptimizerConfig(Schema):
    """The optimiser and its learning rate."""

    name: Literal["adam", "adamw", "muon"] = "adam"
    """Muon moves matrices along their orthogonalised momentum, and everything else as AdamW does."""
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """Not applied to norms and biases."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly from zero."""
    schedule: Literal["constant", "plateau", "exponential", "cosine", "dptnet"] = "plateau"
    """Plateau lowers the rate when validation has not improved, exponential every few epochs, cosine falls
    to a hundredth at the end; dptnet is that paper's warm-up followed by 2 % less every second epoch."""
    schedule_from_epoch: int = Field(default=0, ge=0)
    """The rate is not lowered before this epoch; a curriculum's ``lr_scheduler: start`` sets it."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: int = Field(default=3, ge=0)
    """Validations without improvement before the rate falls."""
    exponential_factor: float = Field(default=0.98, gt=0, le=1)
    exponential_epochs: int = Field(default=2, ge=1)
    """Epochs between two falls of the exponential schedule."""


class HearingConfig(Schema):
    """How networks that say who speaks when hear their mixtures: as in a recording, through an enhancer."""

    enhancer: str = "enhance-one-streaming"
    """A model with one output at the rate of the network, as ``load_model`` reads it."""
    probability: float = Field(default=0.75, ge=0, le=1)
    """Of a batch that it is heard so; others are heard as they are. Validation always is."""


class TrainingConfig(Schema):
    """How a model is trained."""

    init: str | None = None
    """Weights to start from, as ``load_model`` reads them: a folder, file, hub id, run, or ``default``."""
    reset_head: bool = False
    """Whether tensors of ``init`` that do not fit another number of sources get fresh values."""
    freeze: tuple[str, ...] = ()
    """Shell patterns of parameters that are not trained, e.g. ``encoder.*``."""
    max_epochs: int = Field(default=100, ge=1)
    """Epochs in all, those before a resume included."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Wall-clock limit of each start of the run; it ends at a step boundary and can be resumed."""
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    """For the tasks that estimate signals; OSD has the cross-entropy of its classes."""
    verification: VerificationConfig | None = None
    """Options of task SV; null for its defaults."""
    hearing: HearingConfig | None = None
    """For tasks OSD and SV; null hears the mixtures as they are."""
    gradient_clip_norm: float | None = Field(default=5.0, gt=0)
    """Largest L2 norm of the gradient of all parameters."""
    accumulate_batches: int = Field(default=1, ge=1)
    """Batches whose gradients make one step."""
    early_stopping_patience: int | None = Field(default=10, ge=1)
    """Validations without improvement before the run ends; null never ends it."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of the weight average that is validated and kept; null uses the weights themselves."""
    validation_strata: str | None = None
    """A key of the examples' metadata, e.g. ``variant``, ``voices`` or ``overlap``: scores are also given per
    value, and the mean of those decides what is best. Numbers of many values are split at their quartiles.
    Values whose mixtures are all clean, with nothing to improve, have none."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """The last checkpoint is written after every epoch, and within epochs this often."""
    max_skipped_steps: int = Field(default=100, ge=0)
    """Steps that may be left out because the loss or the gradient was not finite."""
    precision: Literal["float32", "auto", "bfloat16"] = "float32"
    """Of the network's products; loss and validation are in float32. ``bfloat16`` is for architectures that
    train well in it; ``auto`` takes it on GPUs, and on a CPU that multiplies it natively for architectures
    whose steps are faster in it there."""
    compile: bool = False
    """Whether to compile the network, where the architecture can be."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    """Processes on this machine, one per accelerator."""
    num_nodes: int = Field(default=1, ge=1)
    """Machines."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How several processes share the work: ``ddp``, which ``auto`` takes too, averages their gradients."""
    trackers: tuple[Literal["wandb"], ...] = ()
    """Trackers beside ``metrics.csv`` and TensorBoard: ``wandb`` for Weights & Biases."""
    log_every_steps: int = Field(default=20, ge=1)

    @property
    def num_processes(self) -> int:
        """Processes of the run on all machines."""
        return self.devices * self.num_nodes

    @field_validator("strategy", mode="before")
    @classmethod
    def _refuse_fsdp(cls, value: Any) -> Any:
        if value == "fsdp":
            raise ValueError("fsdp is no longer supported; use ddp, as every model fits on one device.")
        return value

    @model_validator(mode="after")
    def _check_patience(self) -> TrainingConfig:
        stopping, plateau = self.early_stopping_patience, self.optimizer.plateau_patience
        if self.optimizer.schedule == "plateau" and stopping is not None and stopping <= plateau:
            raise ValueError(
                f"early_stopping_patience ({stopping}) must exceed optimizer.plateau_patience ({plateau}), "
                "or the rate never falls before the run ends."
            )
        if self.optimizer.schedule == "dptnet" and self.optimizer.warmup_steps == 0:
            raise ValueError("optimizer.schedule dptnet needs optimizer.warmup_steps; the paper has 4000.")
        return self

    @model_validator(mode="after")
    def _check_init(self) -> TrainingConfig:
        if self.reset_head and self.init is None:
            raise ValueError("reset_head needs init: a model that starts afresh has no head to reset.")
        return self
