"""Reproducing the step that ended a run because its values were not finite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from polsess.config import parse_config
from polsess.data import Split, collate, create_corpus
from polsess.models import Network, create_model
from polsess.training.failures import first_non_finite_module
from polsess.training.fine_tuning import freeze, frozen_norms
from polsess.training.module import seed_step
from polsess.training.objectives import create_objective


@dataclass(frozen=True)
class Replay:
    """Result of the repeated step."""

    items: list[str]
    """The examples of the batch."""
    loss: float
    """Not finite if the fault was reproduced."""
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
    config, record = parse_config(content["config"]), content["record"]
    corpus = create_corpus(
        config.data.corpus,
        Split.TRAIN,
        config.task,
        config.seed,
        num_mixtures=config.training.loss.num_mixtures,
    )
    batch = collate([((epoch, index), corpus.example(epoch, index)) for epoch, index in record["keys"]])
    if batch.identifiers != record["items"]:
        raise ValueError(f"{path}: the corpus gives other examples now than {record['items']}.")
    model = create_model(config.model, kind=Network)
    model.load_state_dict(content["model"])
    freeze(model, config.training.freeze)
    objective = create_objective(config, model, corpus)
    objective.load_state_dict(content.get("objective", {}))
    model.train()
    for module in frozen_norms(model):
        module.eval()
    seed_step(config.seed, record["epoch"], record.get("batch", 0), record.get("process", 0))
    loss = objective.loss(model, batch, record.get("step", 0))
    loss.backward()
    parameters = [*model.parameters(), *objective.parameters()]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    where = first_non_finite_module(model, batch.mixture)
    return Replay(batch.identifiers, loss.item(), norm.item(), where)
