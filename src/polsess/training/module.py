"""One training step and one validation step, as Lightning calls them.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from polsess.data import Batch
from polsess.losses import SeparationLoss, permutation_invariant
from polsess.models import SeparationModel
from polsess.signal_ratios import si_snr
from polsess.training.settings import OptimizerConfig, TrainingConfig

MONITOR = "val_si_snri"
"""What decides the best checkpoint, the learning rate and the end: mean SI-SNR improvement in dB."""


class SeparationModule(lightning.LightningModule):
    """A model with its loss and optimiser.

    Args:
        model: The network to train.
        config: Loss, optimiser, schedule.
        run_config: Plain data of the whole configuration; stored in every checkpoint.
    """

    def __init__(self, model: SeparationModel, config: TrainingConfig, run_config: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.run_config = run_config
        self.loss = SeparationLoss(config.loss)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch of equally long segments."""
        del batch_idx
        estimates, auxiliary = self.model.forward_with_auxiliary(batch.mixture)
        loss = self.loss(estimates, batch.references, auxiliary)
        self.log("train_loss", loss, prog_bar=True, on_epoch=True, batch_size=len(batch.mixture))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """SI-SNR and its improvement over the mixture, per utterance; Lightning means over utterances."""
        del batch_idx
        estimates = self.model(batch.mixture, batch.lengths)
        estimates = estimates.unsqueeze(1) if estimates.ndim == 2 else estimates
        for row, length in enumerate(batch.lengths.tolist()):
            reference = batch.references[row : row + 1, :, :length]
            score, _ = permutation_invariant(si_snr, estimates[row : row + 1, :, :length], reference)
            baseline = si_snr(batch.mixture[row, :length], reference).mean()
            self.log_dict(
                {"val_si_snr": score.mean(), MONITOR: score.mean() - baseline},
                prog_bar=True,
                batch_size=1,
                sync_dist=True,
            )

    def configure_optimizers(self) -> Any:
        """The optimiser, with the plateau schedule on the monitored score."""
        config = self.config.optimizer
        optimizer = create_optimizer(self.model, config)
        if config.schedule == "constant":
            return optimizer
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=config.plateau_factor, patience=config.plateau_patience, eps=0.0
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": MONITOR, "interval": "epoch"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the configuration, so that the checkpoint is enough to rebuild the model."""
        checkpoint["polsess_config"] = self.run_config

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch; Lightning does not look into our dataclass."""
        del dataloader_idx
        return batch.to(device)


def create_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam or AdamW, with weight decay on matrices and kernels only."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer_class = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return optimizer_class(groups, lr=config.learning_rate, fused=True)
