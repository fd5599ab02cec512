"""What happens around the steps of a run."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import lightning

from polsess.files import write_text


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
        if not trainer.is_global_zero:
            return
        values = {
            name.removesuffix("_epoch"): f"{float(value):.4f}"
            for name, value in sorted(trainer.callback_metrics.items())
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


def _as_csv(rows: list[dict[str, str]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
