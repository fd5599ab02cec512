from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from polsess.signal_ratios import sd_sdr, si_snr, snr

Ratio = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture
def reference() -> Tensor:
    return torch.randn(3, 4000)


def noise_orthogonal_to(reference: Tensor) -> Tensor:
    noise = torch.randn_like(reference)
    noise -= noise.mean(-1, keepdim=True)
    centred = reference - reference.mean(-1, keepdim=True)
    noise -= (noise * centred).sum(-1, keepdim=True) / centred.square().sum(-1, keepdim=True) * centred
    return noise * centred.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("level_db", [-20.0, 0.0, 13.0])
def test_known_noise_gives_the_known_ratio(reference: Tensor, level_db: float) -> None:
    noisy = reference + noise_orthogonal_to(reference) * 10 ** (-level_db / 20)
    torch.testing.assert_close(si_snr(noisy, reference), torch.full((3,), level_db), atol=1e-3, rtol=0)


def test_si_snr_ignores_gain_sign_and_offset(reference: Tensor) -> None:
    noisy = reference + 0.3 * torch.randn_like(reference)
    changed = -4.0 * noisy + 0.7
    torch.testing.assert_close(si_snr(changed, reference + 2.0), si_snr(noisy, reference), atol=1e-3, rtol=0)


def test_snr_and_sd_sdr_punish_a_wrong_level(reference: Tensor) -> None:
    reference = reference - reference.mean(-1, keepdim=True)
    torch.testing.assert_close(snr(0.5 * reference, reference), torch.full((3,), 6.0206), atol=1e-3, rtol=0)
    torch.testing.assert_close(sd_sdr(0.5 * reference, reference), torch.zeros(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("ratio", [si_snr, snr, sd_sdr])
def test_silence_is_finite_with_finite_gradients(ratio: object) -> None:
    for level in (0.0, 1.0):
        estimate = (level * torch.randn(2, 500)).requires_grad_()
        for reference in (torch.zeros(2, 500), torch.randn(2, 500)):
            value = ratio(estimate, reference)  # type: ignore[operator]
            assert value.isfinite().all()
            (gradient,) = torch.autograd.grad(value.sum(), estimate)
            assert gradient.isfinite().all()


def test_half_precision_input_is_computed_in_float32(reference: Tensor) -> None:
    quiet = 1e-3 * reference
    noisy = quiet + 1e-4 * torch.randn_like(reference)
    expected = si_snr(noisy.bfloat16().float(), quiet.bfloat16().float())
    assert torch.equal(si_snr(noisy.bfloat16(), quiet.bfloat16()), expected)


@pytest.mark.parametrize("ratio", [si_snr, snr, sd_sdr])
@pytest.mark.parametrize("level", [1e-2, 1e-4, 1e-6])
def test_quiet_signals_have_the_ratio_of_loud_ones(ratio: Ratio, level: float, reference: Tensor) -> None:
    noisy = reference + 0.02 * torch.randn_like(reference)
    torch.testing.assert_close(
        ratio(level * noisy, level * reference), ratio(noisy, reference), atol=2e-3, rtol=0
    )
