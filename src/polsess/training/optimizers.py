"""Adam, AdamW, and Muon for the matrices of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from polsess.config import OptimizerConfig
from polsess.precision import multiplies_natively

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x^3 and x^5 in an iteration, which brings every singular value near one."""
_RMS_OF_ADAM = 0.2


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
    """Matrices by ``OrthogonalMomentum``, everything else by AdamW, at rates of one size.

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
            OrthogonalMomentum(matrices, config),
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


class OrthogonalMomentum(torch.optim.Optimizer):
    """Matrices move along their orthogonalised momentum, by as much as Adam would move them.

    Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/; the factor of the rate: Liu et al.
    (2025), "Muon is scalable for LLM training", https://arxiv.org/abs/2502.16982. As ``torch.optim.Muon``,
    but for its products: those are always in bfloat16, which a processor without instructions for it
    multiplies so slowly that the step takes longer than the network.

    Args:
        matrices: Parameters of two dimensions.
        config: Rate and weight decay.
    """

    def __init__(self, matrices: list[nn.Parameter], config: OptimizerConfig) -> None:
        super().__init__(matrices, {"lr": config.learning_rate, "weight_decay": config.weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                momentum = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - _MOMENTUM)
                direction = orthogonalise(matrix.grad.lerp(momentum, _MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(direction, alpha=group["lr"] * _RMS_OF_ADAM * max(matrix.shape) ** 0.5)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring the singular values near one by Newton-Schulz iterations, ``[M, N]`` to ``[M, N]``.

    In bfloat16 where the device has instructions for it, else in float32.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalise(matrix.T).T
    native = multiplies_natively(matrix.device, torch.bfloat16)
    rows = matrix.to(torch.bfloat16 if native else torch.float32)
    rows = rows / rows.norm().clamp_min(1e-7)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = rows @ rows.T
        rows = torch.addmm(rows, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), rows, beta=first)
    return rows.to(matrix.dtype)
