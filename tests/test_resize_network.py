"""A resized network estimates what the old one does, and learns from there."""

from __future__ import annotations

import pytest
import torch

from polsess.models import create_model
from polsess.models.blstm import BLSTM
from polsess.models.bsrnn import BSRNN
from scripts.resize_network import add_units, change_rate


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
    wide, bins = change_rate(narrow, 2 * narrow.config.sample_rate), narrow.config.n_fft // 2 + 1
    assert wide.config.sample_rate == 2 * narrow.config.sample_rate
    weight = wide.state_dict()["rnn.weight_ih_l0"]
    assert torch.equal(weight[:, :bins], narrow.state_dict()["rnn.weight_ih_l0"])
    assert not weight[:, bins:].any()


@pytest.fixture(name="banded")
def create_banded() -> BSRNN:
    torch.manual_seed(0)
    return create_model({"model_type": "bsrnn", "preset": "tiny", "num_sources": 2}, kind=BSRNN).eval()


@torch.no_grad()
def test_a_wider_bsrnn_has_the_masks_of_the_old_bands(banded: BSRNN) -> None:
    wide = change_rate(banded, 16000, [6000.0])
    assert isinstance(wide, BSRNN)
    assert wide.config.band_edges_hz == (500, 1000, 2000, 4000, 6000)
    assert (wide.config.n_fft, wide.config.hop_length) == (128, 64)
    rows = torch.randn(2, 5, banded.config.num_features)
    for band in range(3):
        torch.testing.assert_close(wide.masks[band](rows), banded.masks[band](rows))
        heard = torch.randn(2, 5, 2 * banded.config.band_widths[band])
        torch.testing.assert_close(wide.split[band](heard), banded.split[band](heard))
    topmost = banded.masks[3](rows).unflatten(-1, (2, -1, 2))
    torch.testing.assert_close(wide.masks[3](rows).unflatten(-1, (2, -1, 2)), topmost[:, :, :, :-1])
    stretched = wide.masks[4](rows).unflatten(-1, (2, -1, 2))
    torch.testing.assert_close(stretched[:, :, :, [0, 15]], topmost[:, :, :, [0, 15]])


@torch.no_grad()
def test_a_bsrnn_made_wide_and_narrow_again_is_what_it_was_but_for_its_last_bin(banded: BSRNN) -> None:
    again = change_rate(change_rate(banded, 16000), 8000).state_dict()
    for key, tensor in banded.state_dict().items():
        if key.startswith("split.3.0."):
            assert torch.equal(again[key][:-2], tensor[:-2])
        elif key.startswith("split.3.1.weight"):
            assert torch.equal(again[key][:, :-2], tensor[:, :-2])
        elif key.startswith("masks.3.3."):
            old, new = (each.unflatten(0, (2, 2, -1, 2))[:, :, :-1] for each in (tensor, again[key]))
            assert torch.equal(new, old)
        else:
            assert torch.equal(again[key], tensor), key


def test_rates_that_do_not_fit_are_refused(narrow: BLSTM, banded: BSRNN) -> None:
    with pytest.raises(ValueError, match="expected 16000 Hz"):
        change_rate(narrow, 48000)
    with pytest.raises(ValueError, match="no bands above"):
        change_rate(banded, 4000, [6000.0])
    with pytest.raises(ValueError, match="whole number"):
        change_rate(banded, 11025)
