"""`polsess train` that writes down which examples every step and validation of every process saw.

Started by torchrun in the tests: recording_train.py RECORD_FOLDER SIGNAL_RANK:STEP|- ARGUMENTS...
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from polsess.cli.main import main
from polsess.training.module import TrainingModule

torch.set_num_threads(1)
folder, stop, sys.argv = Path(sys.argv[1]), sys.argv[2], ["polsess", *sys.argv[3:]]
rank = int(os.environ.get("RANK", "0"))


def record(kind: str, *values: Any) -> None:
    with (folder / f"{kind}{rank}.jsonl").open("a") as file:
        file.write(json.dumps(values) + "\n")


train, add = TrainingModule.training_step, TrainingModule._add_gradient
validate = TrainingModule.validation_step


def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
    if stop == f"{rank}:{self.global_step}":
        os.kill(os.getpid(), signal.SIGTERM)
    if stop == f"nan{rank}:{self.global_step}" and not self.non_finite.count:
        batch.mixture[:] = torch.nan
    train(self, batch, batch_idx)


def add_gradient(self: TrainingModule, weight: float) -> Any:
    loss = add(self, weight)
    record("train", self._group[-1][1].keys, loss.item())
    return loss


def validation_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
    record("val", batch.keys, self.current_epoch)
    validate(self, batch, batch_idx)


TrainingModule.training_step = training_step  # type: ignore[method-assign]
TrainingModule._add_gradient = add_gradient  # type: ignore[method-assign]
TrainingModule.validation_step = validation_step  # type: ignore[method-assign]
main()
