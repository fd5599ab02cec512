"""A widened BLSTM estimates what the narrow one does, and learns from there."""

from __future__ import annotations

import pytest
import torch

from polsess.models import create_model
from polsess.models.blstm import BLSTM
from scripts.widen_blstm import add_units, double_rate


@pytest.fixture(name="narrow")
def create_narrow() -> BLSTM:
    torch.manual_seed(0)
    return create_model({"model_type": "blstm", "preset": "tiny", "num_sources": 2}, kind=BLSTM).eval()


@pytest.mark.parametrize("hidden_size", [13, 20])
@torch.no_grad()
def test_new_units_are_not_heard_yet(narrow: BLSTM, hidden_size: int) -> None:
    mixture = torch.randn(2, 700)
    wide = add_units(narrow, hidden_size).eval()
    assert wide.config.hidden_size == hidden_size
    torch.testing.assert_close(wide(mixture), narrow(mixture))


def test_new_units_can_be_learnt(narrow: BLSTM) -> None:
    wide = add_units(narrow, 20)
    wide(torch.randn(1, 700)).square().sum().backward()
    gradient = wide.to_masks.weight.grad
    assert gradient is not None
    units = gradient.unflatten(1, (2, 20))[..., 12:]
    assert (units != 0).any(0).all()


def test_as_many_units_are_refused(narrow: BLSTM) -> None:
    with pytest.raises(ValueError, match="more than the 12 "):
        add_units(narrow, 12)


@torch.no_grad()
def test_the_lower_half_hears_what_it_heard(narrow: BLSTM) -> None:
    wide, bins = double_rate(narrow), narrow.config.n_fft // 2 + 1
    assert wide.config.sample_rate == 2 * narrow.config.sample_rate
    weight = wide.state_dict()["rnn.weight_ih_l0"]
    assert torch.equal(weight[:, :bins], narrow.state_dict()["rnn.weight_ih_l0"])
    assert not weight[:, bins:].any()
