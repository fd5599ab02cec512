"""Contract of every registered model; a new model is tested without an edit here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.models import SeparationModel, create_model, get_model_class, list_models
from tests.processors import skipped_without_bfloat16

pytestmark = pytest.mark.parametrize("name", list_models())


def tiny(name: str, **overrides: Any) -> SeparationModel:
    return create_model(name, preset="tiny", **overrides).eval()


def mixtures(batch: int, samples: int) -> Tensor:
    """Noise with an envelope, so that frames and items differ."""
    envelope = 0.3 + torch.rand(batch, samples // 50 + 1).repeat_interleave(50, 1)[:, :samples]
    return torch.randn(batch, samples) * envelope


@pytest.mark.parametrize("num_sources", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 57, 999, 1600])
def test_estimates_are_exactly_as_long_as_the_mixture(name: str, num_sources: int, samples: int) -> None:
    model = tiny(name, num_sources=num_sources)
    assert model.output_sources == num_sources
    expected = (2, samples) if num_sources == 1 else (2, num_sources, samples)
    mixture = mixtures(2, samples)
    with torch.no_grad():
        estimate = model(mixture)
        assert estimate.shape == expected
        assert torch.equal(model(mixture.unsqueeze(1)), estimate)
    assert estimate.isfinite().all()


@pytest.mark.parametrize("shape", [(100,), (2, 2, 100), (1, 2, 3, 100), (2, 0), (0, 100)])
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mixture must be"):
        tiny(name)(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int16, torch.complex64])
def test_samples_of_another_type_than_the_weights_are_refused(name: str, dtype: torch.dtype) -> None:
    model, mixture = tiny(name), torch.ones(1, 100).to(dtype)
    wrong = rf"mixture is {dtype}, the network's weights are torch.float32: .*\.to\(torch\.float32\)"
    for estimate in (model, model.separate_counted, model.forward_with_auxiliary):
        with pytest.raises(ValueError, match=wrong):
            estimate(mixture)
    if dtype not in (torch.float16, torch.bfloat16):  # which autocast takes to its own
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=wrong):
            model(mixture)


def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = tiny(name).train()
    estimates, auxiliary = model.forward_with_auxiliary(mixtures(2, 1500))
    outputs = torch.stack([(output * torch.randn_like(output)).sum() for output in (estimates, *auxiliary)])
    outputs.sum().backward()
    gradients = {key: value.grad for key, value in model.named_parameters() if value.requires_grad}
    assert not [key for key, gradient in gradients.items() if gradient is None]
    assert not [
        key for key, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()
    ]


def test_batch_items_do_not_mix(name: str) -> None:
    model, batch = tiny(name), mixtures(3, 1400)
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(item[None]) for item in batch])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_padded_items_are_estimated_as_if_alone(name: str) -> None:
    model, lengths = tiny(name, num_sources=2), torch.tensor([900, 1400, 1400])
    batch = mixtures(3, 1400)
    batch[0, 900:] = 0.0
    with torch.no_grad():
        estimates = model(batch, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(batch[row : row + 1, :length])[0]
            torch.testing.assert_close(estimates[row, :, :length], alone, rtol=1e-4, atol=1e-5)
    assert not estimates[0, :, 900:].any()


def test_silence_is_finite_with_finite_gradients(name: str) -> None:
    model = tiny(name).train()
    mixture = torch.zeros(1, 1200, requires_grad=True)
    model(mixture).square().sum().backward()
    assert mixture.grad is not None
    assert mixture.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_configuration_round_trip_is_bit_equal(name: str) -> None:
    model = tiny(name)
    twin = get_model_class(name).from_config(model.config.model_dump()).eval()
    twin.load_state_dict(model.state_dict())
    mixture = mixtures(1, 800)
    with torch.no_grad():
        assert torch.equal(model(mixture), twin(mixture))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-3), (torch.bfloat16, None)])
def test_other_precisions_run(name: str, dtype: torch.dtype, tolerance: float | None) -> None:
    model, mixture = tiny(name), mixtures(1, 1000)
    with torch.no_grad():
        expected = model(mixture)
        if tolerance is None:  # bfloat16 as training uses it
            with skipped_without_bfloat16(), torch.autocast("cpu", dtype=dtype):
                estimate = model(mixture)
        else:
            estimate = model.to(dtype)(mixture.to(dtype))
            assert estimate.dtype == dtype
            torch.testing.assert_close(estimate.float(), expected, rtol=tolerance, atol=tolerance)
    assert estimate.isfinite().all()
    assert estimate.shape == expected.shape


def test_defaults_and_presets_can_be_built(name: str) -> None:
    model_class = get_model_class(name)
    assert "tiny" in model_class.presets
    with torch.device("meta"):
        for preset in [None, *model_class.presets]:
            create_model(name, preset=preset)


def test_causal_means_causal(name: str) -> None:
    model = tiny(name)
    if not model.causal:
        pytest.skip("the tiny preset is not causal; causal options have tests of their own")
    assert model.look_ahead_samples is not None
    changed, cut = mixtures(1, 1500), 700
    original = changed.clone()
    changed[:, cut:] += 1.0
    with torch.no_grad():
        past = cut - model.look_ahead_samples
        torch.testing.assert_close(model(changed)[..., :past], model(original)[..., :past])
