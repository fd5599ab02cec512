"""Muon: which parameters it moves how, and that a run goes on with its memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from polsess.config import OptimizerConfig
from polsess.models import create_model
from polsess.training.optimizers import OrthogonalMomentum, create_optimizer, orthogonalise

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


@pytest.mark.parametrize("shape", [(4, 6), (9, 5)])
def test_matrices_move_as_by_the_muon_of_torch(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polsess.training.optimizers.multiplies_natively", lambda *_: True)
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    config = CONFIG.model_copy(update={"weight_decay": 0.1})
    optimizer = OrthogonalMomentum([ours], config)
    reference = torch.optim.Muon([theirs], 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_float32_where_bfloat16_has_no_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polsess.training.optimizers.multiplies_natively", lambda *_: False)
    matrix = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalise(matrix) @ right.T  # the iterations change singular values alone
    torch.testing.assert_close(turned, turned.diagonal().diag(), atol=1e-5, rtol=0)


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
