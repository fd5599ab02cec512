"""What happens around the steps of a run."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

import lightning

from polsess.files import write_text
from polsess.training.module import MONITOR


class EpochTable(lightning.Callback):
    """Keeps ``metrics.csv``: one row per epoch, rows of earlier starts of the run included.

    Args:
        path: The file; it is replaced atomically after every epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Append the epoch's means."""
        del pl_module
        metrics = trainer.callback_metrics  # averages over processes: all of them must ask
        if not trainer.is_global_zero:
            return
        values = {
            name.removesuffix("_epoch"): f"{float(value):.4f}"
            for name, value in sorted(metrics.items())
            if not name.endswith("_step") and name != "learning_rate"  # too small for four decimals
        }
        row = {
            "epoch": str(trainer.current_epoch),
            "step": str(trainer.global_step),
            "minutes_since_start": f"{(time.monotonic() - self.started) / 60:.2f}",
            "learning_rate": f"{trainer.optimizers[0].param_groups[0]['lr']:.3g}",
            **values,
        }
        rows = [old for old in self._rows() if int(old["epoch"]) < trainer.current_epoch]
        write_text(self.path, _as_csv([*rows, row]))

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))


class AfterEpoch(lightning.Callback):
    """Tells somebody the score of every epoch.

    Args:
        tell: Called with the epoch, counted from 0, and its validation score; may raise to end the run.
    """

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self.tell = tell

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell it."""
        del pl_module
        self.tell(trainer.current_epoch, float(trainer.callback_metrics[MONITOR]))


def _as_csv(rows: list[dict[str, str]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
