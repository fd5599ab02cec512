"""A wider detector says what the old one does, and learns with all that is new."""

from __future__ import annotations

import pytest
import torch

from polsess.models import create_model
from polsess.models.speakers.crnn import CRNN
from scripts.widen_detector import widen


@pytest.mark.parametrize("sizes", [(8, 12, 9), (4, 8, 9), (6, 8, 6), (4, 10, 6)])
def test_a_wider_detector_says_the_same_until_it_is_trained(sizes: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = create_model({"model_type": "crnn", "preset": "tiny"}, kind=CRNN)
    for key, tensor in network.state_dict().items():
        if "running" in key:  # of norms that have seen something
            tensor.uniform_(0.5, 1.5)
    with torch.no_grad():
        wider = widen(network, num_channels=sizes[0], frame_size=sizes[1], hidden_size=sizes[2])
    mixture = torch.randn(2, 900)
    torch.testing.assert_close(wider.eval()(mixture), network.eval()(mixture))
    optimizer = torch.optim.SGD(wider.parameters(), 1e-3)
    for _ in range(3):  # first what hears the new ones, then they themselves
        optimizer.zero_grad()
        wider(mixture).square().sum().backward()
        optimizer.step()
    gradients = [each.grad for each in wider.recurrent.parameters() if each.grad is not None]
    assert len(gradients) == 16
    assert all(bool(each.flatten(1).any(1).all()) for each in gradients if each.ndim > 1)


def test_a_detector_is_not_made_narrower() -> None:
    network = create_model({"model_type": "crnn", "preset": "tiny"}, kind=CRNN)
    with pytest.raises(ValueError, match="frame_size: expected 8 or more, got 7"):
        widen(network, num_channels=4, frame_size=7, hidden_size=6)
