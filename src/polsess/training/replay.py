"""Reproducing the step that ended a run because its values were not finite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from polsess.data import Split, collate, create_corpus, parse_corpus_config
from polsess.losses import LossConfig, SeparationLoss
from polsess.models import create_model, parse_model_config
from polsess.schema import parse
from polsess.tasks import Task
from polsess.training.failures import first_non_finite_module
from polsess.training.fine_tuning import freeze, frozen_norms
from polsess.training.module import seed_step


@dataclass(frozen=True)
class Replay:
    """Result of the repeated step."""

    items: list[str]
    """The examples of the batch."""
    loss: float
    """In negative dB; not finite if the fault was reproduced."""
    gradient_norm: float
    """L2, of all parameters."""
    first_module: str
    """First module whose output was not finite."""

    @property
    def reproduced(self) -> bool:
        """Whether the loss or the gradient was not finite again."""
        return not bool(torch.tensor([self.loss, self.gradient_norm]).isfinite().all())


def replay_step(path: Path) -> Replay:
    """Draw the batch of a ``replay.pt`` again and run forward and backward with the weights of that moment.

    Args:
        path: The file that the run left.

    Raises:
        ValueError: If it is no such file, or the corpus has changed.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not {"record", "config", "model"} <= content.keys():
        raise ValueError(f"{path}: not the replay file of a run.")
    config, record = content["config"], content["record"]
    loss_config = parse(LossConfig, config["training"]["loss"], "training.loss")
    corpus = create_corpus(
        parse_corpus_config(config["data"]["corpus"]),
        Split.TRAIN,
        Task(config["task"]),
        config["seed"],
        num_mixtures=loss_config.num_mixtures,
    )
    batch = collate([((epoch, index), corpus.example(epoch, index)) for epoch, index in record["keys"]])
    if batch.identifiers != record["items"]:
        raise ValueError(f"{path}: the corpus gives other examples now than {record['items']}.")
    model = create_model(parse_model_config(config["model"]))
    model.load_state_dict(content["model"])
    freeze(model, config["training"].get("freeze", ()))
    loss_function = SeparationLoss(loss_config)
    model.train()
    for module in frozen_norms(model):
        module.eval()
    seed_step(config["seed"], record["epoch"], record.get("batch", 0), record.get("process", 0))
    estimates, auxiliary = model.forward_with_auxiliary(batch.mixture)
    loss = loss_function(estimates, batch.references, auxiliary, batch.mixture)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    where = first_non_finite_module(model, batch.mixture)
    return Replay(batch.identifiers, loss.item(), norm.item(), where)
