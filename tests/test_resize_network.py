"""A resized network estimates what the old one does, and learns from there."""

from __future__ import annotations

import pytest
import torch

from polsess.models import create_model
from polsess.models.bsrnn import BSRNN
from scripts.resize_network import add_blocks, change_rate, keep_sources


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


@torch.no_grad()
def test_the_sources_that_stay_are_what_they_were() -> None:
    network = create_model({"model_type": "bsrnn", "preset": "tiny", "num_sources": 3}, kind=BSRNN).eval()
    mixture = torch.randn(2, 700)
    for number in (1, 2):
        fewer = keep_sources(network, number).eval()
        torch.testing.assert_close(
            fewer.estimate_sources(mixture), network.estimate_sources(mixture)[:, :number]
        )
    with pytest.raises(ValueError, match="expected 1 to 2, fewer than the network has, got 3"):
        keep_sources(network, 3)


@torch.no_grad()
def test_new_blocks_change_nothing_until_they_are_trained(banded: BSRNN) -> None:
    deeper = add_blocks(banded, 3).eval()
    mixture = torch.randn(2, 700)
    torch.testing.assert_close(deeper(mixture), banded(mixture))
    old, new = banded.state_dict(), deeper.state_dict()
    for old_block, new_block in ((0, 0), (1, 1), (1, 2)):
        name = "along_time.{}.lstm.weight_hh_l0"
        assert torch.equal(new[name.format(new_block)], old[name.format(old_block)])


def test_new_blocks_learn_at_once(banded: BSRNN) -> None:
    with torch.no_grad():
        deeper = add_blocks(banded, 4)
    deeper(torch.randn(2, 700)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in deeper.named_parameters()}
    projections = [gradient for name, gradient in gradients.items() if name.endswith("project.weight")]
    assert len(projections) == 8
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in projections)


@pytest.mark.parametrize("number", [2, 5])
def test_fewer_blocks_and_more_than_twice_as_many_are_refused(banded: BSRNN, number: int) -> None:
    with pytest.raises(ValueError, match=f"expected 3 to 4, .* got {number}"):
        add_blocks(banded, number)


def test_rates_that_do_not_fit_are_refused(banded: BSRNN) -> None:
    with pytest.raises(ValueError, match="no bands above"):
        change_rate(banded, 4000, [6000.0])
    with pytest.raises(ValueError, match="whole number"):
        change_rate(banded, 11025)
