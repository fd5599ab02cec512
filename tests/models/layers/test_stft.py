"""Analysis and synthesis against torch's own."""

from __future__ import annotations

import pytest
import torch

from polsess.models.layers.stft import STFT, WindowName, signal_level


@pytest.mark.parametrize("window", ["hann", "sqrt_hann", "hamming", "rectangular"])
@pytest.mark.parametrize(("n_fft", "hop"), [(32, 16), (32, 8), (24, 7)])
@pytest.mark.parametrize("samples", [17, 100, 333])
def test_synthesis_inverts_analysis(window: WindowName, n_fft: int, hop: int, samples: int) -> None:
    transform = STFT(n_fft, hop, window)
    wave = torch.randn(2, samples, dtype=torch.float64)
    spectrum = transform.analyse(wave)
    assert spectrum.shape == (2, samples // hop + 1, transform.num_bins)
    # The last samples lie under the window's edge only: all but the few that it nearly silences.
    kept = samples // hop * hop + 1
    torch.testing.assert_close(transform.synthesise(spectrum, samples)[:, :kept], wave[:, :kept])


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_changed_spectra_are_synthesised_as_torch_does(pad_mode: str) -> None:
    transform = STFT(32, 12, pad_mode=pad_mode)  # type: ignore[arg-type]
    wave, window = torch.randn(3, 200, dtype=torch.float64), torch.hann_window(32, dtype=torch.float64)
    expected = torch.stft(wave, 32, 12, window=window, pad_mode=pad_mode, return_complex=True)
    spectrum = transform.analyse(wave)
    torch.testing.assert_close(spectrum, expected.mT)
    changed = spectrum * torch.randn_like(spectrum)
    inverse = torch.istft(changed.mT, 32, 12, window=window, length=200)
    torch.testing.assert_close(transform.synthesise(changed, 200), inverse)
    torch.testing.assert_close(transform.synthesise(changed[:, None], 200), inverse[:, None])


def test_half_precision_is_widened() -> None:
    wave = torch.randn(1, 100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrum = STFT(16, 8).analyse(wave.bfloat16())
    assert spectrum.dtype == torch.complex64


@pytest.mark.parametrize(("n_fft", "hop"), [(31, 8), (32, 17), (32, 0)])
def test_frames_that_do_not_overlap_are_refused(n_fft: int, hop: int) -> None:
    with pytest.raises(ValueError, match="at most half"):
        STFT(n_fft, hop)


def test_the_level_is_the_unbiased_deviation_and_never_zero() -> None:
    mixture = torch.stack([torch.randn(50) * 3 + 1, torch.zeros(50)]).requires_grad_()
    level = signal_level(mixture)
    torch.testing.assert_close(level[0, 0], mixture[0].std())
    assert level[1] == 1e-8
    level.sum().backward()
    assert mixture.grad is not None
    assert mixture.grad.isfinite().all()
