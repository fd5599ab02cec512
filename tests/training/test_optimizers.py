"""Muon: which parameters it moves how, and that a run goes on with its memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from polsess.config import OptimizerConfig
from polsess.models import create_model
from polsess.training.optimizers import create_optimizer

CONFIG = OptimizerConfig(name="muon", learning_rate=0.01)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    loss = model(torch.randn(2, 800)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def test_matrices_move_along_orthogonal_directions() -> None:
    linear = nn.Linear(6, 4)
    before = linear.weight.detach().clone()
    optimizer = create_optimizer(linear, CONFIG)
    linear(torch.randn(32, 6)).square().sum().backward()
    optimizer.step()
    change = (linear.weight.detach() - before) / (0.01 * 0.2 * 6**0.5)
    lengths = torch.linalg.svdvals(change)  # five iterations bring every singular value near one
    assert ((lengths > 0.5) & (lengths < 1.4)).all(), lengths
    assert linear.bias.grad is not None


def test_everything_else_moves_as_by_adamw() -> None:
    model = create_model("dprnn", preset="tiny")
    twin = copy.deepcopy(model)
    step(model, create_optimizer(model, CONFIG), 0)
    step(twin, create_optimizer(twin, CONFIG.model_copy(update={"name": "adamw"})), 0)
    others = [key for key, value in model.named_parameters() if value.ndim != 2]
    assert others
    for key in others:
        assert torch.equal(model.get_parameter(key), twin.get_parameter(key)), key


def test_a_rate_set_in_the_groups_is_the_rate_of_the_step() -> None:
    model = create_model("bsrnn", preset="tiny")
    before = copy.deepcopy(model.state_dict())
    optimizer = create_optimizer(model, CONFIG)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    step(model, optimizer, 0)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_loaded_state_goes_on_as_if_it_had_not_stopped() -> None:
    model = create_model("bsrnn", preset="tiny")
    optimizer = create_optimizer(model, CONFIG)
    step(model, optimizer, 0)
    twin = copy.deepcopy(model)
    again = create_optimizer(twin, CONFIG)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for group in again.param_groups:
        group["lr"] = 0.02
    for group in optimizer.param_groups:
        group["lr"] = 0.02
    step(model, optimizer, 1)
    step(twin, again, 1)
    for key, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


def test_a_network_without_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="muon is for networks with matrices"):
        create_optimizer(nn.Conv1d(1, 2, 3), CONFIG)
