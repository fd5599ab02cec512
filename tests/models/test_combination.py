"""Networks made of others: orders and levels are aligned, shifts are those of BLSTM."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polsess.models import ModelConfig, SeparationModel, create_model
from polsess.models.combination import Cascade, Ensemble, Shifted, combine


class Known(SeparationModel):
    """Gives what it is told, whatever it hears."""

    def __init__(self, estimates: Tensor, sample_rate: int = 8000) -> None:
        config = {"model_type": "known", "num_sources": len(estimates), "sample_rate": sample_rate}
        super().__init__(ModelConfig.model_validate(config))
        self.estimates = estimates

    @property
    def hop_length(self) -> int:
        return 1

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        self.heard = mixture
        return self.estimates.expand(len(mixture), -1, -1)


def sources(seed: int, num_sources: int = 2) -> Tensor:
    return torch.randn(num_sources, 400, generator=torch.Generator().manual_seed(seed))


def test_an_ensemble_brings_others_to_the_order_and_the_level_of_the_first() -> None:
    first, noise = sources(0), sources(1)
    other = 0.01 * (first + 0.1 * noise).flip(0) * torch.tensor([[3.0], [1.0]])
    estimates = Ensemble([Known(first), Known(other)])(torch.zeros(2, 400))
    expected = first + 0.1 * noise
    expected = expected * (first.norm(dim=-1) / expected.norm(dim=-1)).unsqueeze(-1)
    torch.testing.assert_close(estimates, ((first + expected) / 2).expand(2, -1, -1))


def test_networks_of_different_architectures_work_together() -> None:
    torch.manual_seed(0)
    separators = [create_model(name, preset="tiny").eval() for name in ("convtasnet", "dprnn")]
    enhancer = create_model("gtcrn", preset="tiny", num_sources=1, sample_rate=8000).eval()
    mixture = torch.randn(2, 1003)
    with torch.inference_mode():
        first, second = (separator(mixture) for separator in separators)
        rest = 2 * combine(separators)(mixture) - first  # of the second, in order and as loud as the first
        for before, after in ((enhancer, combine(separators)), (combine(separators), enhancer)):
            assert combine([before], num_shifts=2, then=after)(mixture).shape == (2, 2, 1003)
    torch.testing.assert_close(rest.norm(dim=-1), first.norm(dim=-1), rtol=1e-3, atol=1e-4)
    for item, known in zip(rest, second, strict=True):
        alike = torch.cosine_similarity(item.unsqueeze(1), known, dim=-1)  # [C, C]
        assert max(alike.diag().min(), alike.fliplr().diag().min()) > 0.999


def test_shifts_of_a_wrapper_are_those_of_the_blstm() -> None:
    torch.manual_seed(0)
    inside = create_model("blstm", preset="tiny", num_shifts=3).eval()
    alone = create_model("blstm", preset="tiny").eval()
    alone.load_state_dict(inside.state_dict())
    mixture = torch.randn(2, 500)
    with torch.inference_mode():
        assert torch.equal(Shifted(alone, 3)(mixture), inside(mixture))
        assert not torch.allclose(alone(mixture), inside(mixture))


def test_a_cascade_enhances_each_source_at_its_level_in_the_mixture() -> None:
    parts = sources(0)
    enhancer = Known(sources(2, 1))
    mixture = parts.sum(0, keepdim=True)
    estimates = Cascade(Known(100 * parts), enhancer)(mixture)
    assert estimates.shape == (1, 2, 400)
    gains = (parts @ mixture[0]) / parts.square().sum(-1)
    torch.testing.assert_close(enhancer.heard, parts * gains.unsqueeze(-1))


def test_a_cascade_separates_what_was_enhanced() -> None:
    clean, parts = sources(2, 1), sources(0)
    separator = Known(parts)
    estimates = combine([Known(clean)], then=separator)(2 * clean)
    torch.testing.assert_close(estimates[0], parts)
    torch.testing.assert_close(separator.heard, 2 * clean)


def test_one_network_alone_stays_itself() -> None:
    model = Known(sources(0))
    assert combine([model]) is model


def test_what_does_not_fit_together_is_told() -> None:
    two, one = Known(sources(0)), Known(sources(0, 1))
    with pytest.raises(ValueError, match=r"expected 2 sources at 8000 Hz .* got 1 source .* number 3, known"):
        Ensemble([two, two, one])
    with pytest.raises(ValueError, match="8000 Hz as the first, got 16000"):
        Cascade(one, Known(sources(0), 16000))
    with pytest.raises(ValueError, match=r"must be an enhancer.* the first gives 2 sources at 8000 Hz"):
        Cascade(two, two)
    with pytest.raises(ValueError, match="expected 1 to 1, the hop of known"):
        Shifted(two, 2)


def test_the_configuration_tells_combinations_apart() -> None:
    two = Known(sources(0))
    texts = {each.config.model_dump_json() for each in (two, Ensemble([two, two]), Ensemble([two, two, two]))}
    assert len(texts) == 3
