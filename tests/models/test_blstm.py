from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models import create_model, parse_model_config
from polsess.models.blstm import BLSTM
from polsess.schema import ConfigError

TINY = {"model_type": "blstm", "n_fft": 64, "hop_length": 32, "hidden_size": 12, "num_layers": 2}


def test_shifted_estimates_are_averaged_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    once = create_model(parse_model_config(TINY)).eval()
    thrice = create_model(parse_model_config({**TINY, "num_shifts": 3})).eval()
    thrice.load_state_dict(once.state_dict())
    mixture = torch.randn(2, 500)
    assert isinstance(thrice, BLSTM)
    original = thrice._separate

    def separate(padded: Tensor) -> Tensor:  # a network that changes its mind about who is who
        estimates = original(padded)
        return estimates.flip(1) if padded.shape[-1] == 510 else estimates

    monkeypatch.setattr(thrice, "_separate", separate)
    with torch.no_grad():
        shifted = [once(F.pad(mixture, (shift, 0)))[..., shift:] for shift in (0, 10, 21)]
        torch.testing.assert_close(thrice(mixture), sum(shifted) / 3, atol=1e-6, rtol=1e-4)
        assert not torch.allclose(shifted[0], shifted[1], atol=1e-4)


def test_training_is_not_shifted() -> None:
    model = create_model(parse_model_config({**TINY, "num_shifts": 4}))
    once = create_model(parse_model_config(TINY))
    once.load_state_dict(model.state_dict())
    mixture = torch.randn(2, 500)
    assert torch.equal(model.train()(mixture), once.train()(mixture))
    assert not torch.equal(model.eval()(mixture), once.eval()(mixture))


def test_no_more_shifts_than_samples_of_a_hop() -> None:
    with pytest.raises(ConfigError, match="num_shifts=33 must be at most hop_length=32"):
        parse_model_config({**TINY, "num_shifts": 33})


@pytest.mark.parametrize("sizes", [{"hop_length": 64}, {"hop_length": 33}, {"n_fft": 63, "hop_length": 30}])
def test_frames_must_overlap_by_half(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected an even n_fft and a hop_length of at most half of it"):
        parse_model_config({**TINY, **sizes})
