"""Adam, AdamW, and Muon for the matrices of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from polsess.config import OptimizerConfig


def create_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimiser, with weight decay on matrices and kernels only."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    others = [each for each in parameters if each.ndim <= 1 or getattr(each, "without_decay", False)]
    undecayed = {id(each) for each in others}
    decayed = [each for each in parameters if id(each) not in undecayed]
    if config.name == "muon":
        return Muon(decayed, others, config)
    return _adam(decayed, others, config)


def _adam(
    decayed: list[nn.Parameter], others: list[nn.Parameter], config: OptimizerConfig
) -> torch.optim.Adam:
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer_class = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return optimizer_class(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


class Muon(torch.optim.Optimizer):
    """Matrices move along their orthogonalised momentum, everything else by AdamW, at rates of one size.

    Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/; the factor between the rates: Liu et al.
    (2025), "Muon is scalable for LLM training", https://arxiv.org/abs/2502.16982.

    Args:
        decayed: Parameters with weight decay; those of two dimensions are the matrices.
        others: Parameters without.
        config: Rate, weight decay, and the betas of AdamW.
    """

    def __init__(
        self, decayed: list[nn.Parameter], others: list[nn.Parameter], config: OptimizerConfig
    ) -> None:
        matrices = [each for each in decayed if each.ndim == 2]
        if not matrices:
            raise ValueError("training.optimizer.name: muon is for networks with matrices; expected adamw.")
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, config.learning_rate, config.weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            _adam([each for each in decayed if each.ndim != 2], others, config),
        ]
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What both parts remember."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()

    def _share(self) -> None:
        """Let the groups and the state be those of the parts, so that a rate set here is theirs."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state.clear()
        for part in self.parts:
            self.state.update(part.state)
