from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polsess.losses import (
    LossConfig,
    MixtureInvariantLoss,
    MixtureInvariantLossConfig,
    SeparationLoss,
    SilentReferencesConfig,
    SpectralLoss,
    SpectralLossConfig,
    mixture_invariant,
    permutation_invariant,
)
from polsess.signal_ratios import si_snr, snr


@pytest.mark.parametrize("num_sources", [1, 2, 3, 4])
def test_the_best_permutation_is_scored(num_sources: int) -> None:
    references = torch.randn(5, num_sources, 800)
    estimates = references[:, torch.randperm(num_sources)] + 0.5 * torch.randn(5, num_sources, 800)
    value, order = permutation_invariant(si_snr, estimates, references)
    every = torch.stack(
        [si_snr(estimates[:, list(p)], references).mean(-1) for p in permutations(range(num_sources))]
    )
    torch.testing.assert_close(value, every.amax(0))
    chosen = torch.stack([estimates[b, order[b]] for b in range(5)])
    torch.testing.assert_close(si_snr(chosen, references).mean(-1), value)


def test_the_loss_does_not_depend_on_the_order_of_the_estimates() -> None:
    loss = SeparationLoss(LossConfig())
    estimates, references = torch.randn(4, 3, 500), torch.randn(4, 3, 500)
    torch.testing.assert_close(loss(estimates[:, [2, 0, 1]], references), loss(estimates, references))


def test_good_utterances_are_discarded_not_clamped() -> None:
    references = torch.randn(2, 1, 2000)
    estimates = torch.stack([references[0] + 1e-3 * torch.randn(1, 2000), torch.randn(1, 2000)])
    estimates.requires_grad_()
    loss = SeparationLoss(LossConfig(discard_above_db=30.0))(estimates, references)
    torch.testing.assert_close(loss, -si_snr(estimates[1], references[1]).mean())
    (gradient,) = torch.autograd.grad(loss, estimates)
    assert not gradient[0].any()
    assert gradient[1].any()


def test_a_batch_of_good_utterances_gives_no_gradient() -> None:
    references = torch.randn(2, 1, 2000)
    estimates = (references + 1e-4 * torch.randn_like(references)).requires_grad_()
    loss = SeparationLoss(LossConfig(discard_above_db=30.0))(estimates, references)
    assert loss == 0
    assert not torch.autograd.grad(loss, estimates)[0].any()


def test_the_clamp_bounds_the_ratio() -> None:
    references = torch.randn(2, 1, 2000)
    loss = SeparationLoss(LossConfig(clamp_above_db=30.0))(references.clone(), references)
    torch.testing.assert_close(loss, torch.tensor(-30.0))


def test_auxiliary_estimates_share_the_loss() -> None:
    loss = SeparationLoss(LossConfig(auxiliary_weight=0.25))
    good, bad, references = torch.randn(3, 2, 1, 600).unbind()
    expected = 0.75 * loss(good, references) + 0.25 * loss(bad, references)
    torch.testing.assert_close(loss(good, references, [bad]), expected)


def test_the_loss_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = SeparationLoss(LossConfig())(torch.randn(1, 2, 400).bfloat16(), torch.randn(1, 2, 400))
    assert loss.dtype == torch.float32


def metrics_cases() -> list[tuple[dict[str, Any], Tensor, Tensor]]:
    folder = Path(__file__).parent / "golden" / "metrics"
    tensors = load_file(folder / "io.safetensors")
    cases = json.loads((folder / "meta.json").read_text())["cases"]
    return [
        (case, tensors[f"{case['name']}.estimate"], tensors[f"{case['name']}.reference"]) for case in cases
    ]


@pytest.mark.parametrize(("case", "estimates", "references"), metrics_cases())
def test_reference_implementations_agree(case: dict[str, Any], estimates: Tensor, references: Tensor) -> None:
    expected = torch.tensor(case["si_snr"], dtype=torch.float64)  # of the best permutation, by reference
    value, order = permutation_invariant(si_snr, estimates, references)
    assert order.tolist() == case["permutation"]
    assert (value - expected.mean(-1)).abs().max() < 1e-4
    assert abs(SeparationLoss(LossConfig())(estimates, references) + expected.mean()) < 1e-4


@pytest.mark.parametrize(
    ("name", "zero_mean"),
    [("snr", False), ("snr", True), ("sd_sdr", False)],
    ids=["snr", "zero_mean", "sd_sdr"],
)
def test_the_other_ratios_are_their_definitions(name: Literal["snr", "sd_sdr"], zero_mean: bool) -> None:
    centred = zero_mean or name == "sd_sdr"
    for case, estimates, references in metrics_cases():
        loss = SeparationLoss(LossConfig(name=name, zero_mean=zero_mean))(estimates + 0.2, references - 0.1)
        x, s = (signal.double().numpy() for signal in (estimates + 0.2, references - 0.1))
        if centred:
            x, s = x - x.mean(-1, keepdims=True), s - s.mean(-1, keepdims=True)
        best = []
        for ours, true in zip(x, s, strict=True):
            every = []
            for order in permutations(range(len(true))):
                pairs = [(ours[j], true[i]) for i, j in enumerate(order)]
                scale = [(a @ b / (b @ b)) ** 2 if name == "sd_sdr" else 1.0 for a, b in pairs]
                noise = [((b - a) ** 2).sum() for a, b in pairs]
                every.append(
                    np.mean(
                        [
                            10 * np.log10(k * (b @ b) / e)
                            for k, (_, b), e in zip(scale, pairs, noise, strict=True)
                        ]
                    )
                )
            best.append(max(every))
        if np.mean(best) > -79:  # -80 dB is the lowest that is told apart
            assert abs(float(loss) + np.mean(best)) < 1e-4, case["name"]


def naive_spectral(estimate: Tensor, reference: Tensor, n_ffts: tuple[int, ...]) -> float:
    """For signals well above the floor; one frame after the other."""
    total = 0.0
    for n_fft in n_ffts:
        window = np.hanning(n_fft + 1)[:-1]
        magnitudes = []
        for signal in (estimate, reference):
            padded = np.pad(signal.double().numpy(), n_fft // 2)
            starts = range(0, len(padded) - n_fft + 1, n_fft // 4)
            magnitudes.append(np.abs([np.fft.rfft(window * padded[i : i + n_fft]) for i in starts]))
        ours, true = (np.sqrt(magnitude**2 + 1e-8) for magnitude in magnitudes)
        total += float(np.linalg.norm(ours - true) / np.linalg.norm(true))
        total += np.abs(np.log(ours) - np.log(true)).mean()
    return total / len(n_ffts)


def test_the_spectral_distance_follows_the_best_order() -> None:
    config = SpectralLossConfig(weight=2.0, n_ffts=(32, 64))
    references = torch.randn(2, 2, 640)
    estimates = references.flip(1) + 0.3 * torch.randn(2, 2, 640)
    expected = np.mean(
        [naive_spectral(estimates[b, 1 - c], references[b, c], (32, 64)) for b in range(2) for c in range(2)]
    )
    plain = SeparationLoss(LossConfig())(estimates, references)
    both = SeparationLoss(LossConfig(spectral=config))(estimates, references)
    assert float(both - plain) == pytest.approx(2.0 * expected, abs=2e-3)
    assert SpectralLoss(config)(references, references).abs().max() < 1e-6


def test_a_window_needs_samples() -> None:
    with pytest.raises(ValueError, match="at least 4 samples"):
        SpectralLossConfig(n_ffts=(2,))


@pytest.mark.parametrize("num_mixtures", [2, 3])
def test_mixit_deals_the_estimates_out_best(num_mixtures: int) -> None:
    estimates, mixtures = torch.randn(3, 4, 300), torch.randn(3, num_mixtures, 300)
    loss = MixtureInvariantLoss(MixtureInvariantLossConfig(max_snr_db=20.0))(estimates, mixtures)
    best = []
    for item, targets in zip(estimates, mixtures, strict=True):
        every = []
        for way in product(range(num_mixtures), repeat=4):
            losses = []
            for n, target in enumerate(targets):
                guess = sum((item[m] for m in range(4) if way[m] == n), torch.zeros(300))
                error = (target - guess).square().sum() + 0.01 * target.square().sum()
                losses.append(10 * torch.log10(error) - 10 * torch.log10(target.square().sum()))
            every.append(torch.stack(losses).mean())
        best.append(torch.stack(every).min())
    torch.testing.assert_close(loss, torch.stack(best).mean(), atol=1e-4, rtol=0)


def test_mixit_finds_the_sources_of_each_mixture_and_is_bounded() -> None:
    sources = torch.randn(2, 4, 400, requires_grad=True)
    mixtures = torch.stack([sources[:, 0] + sources[:, 2], sources[:, 1] + sources[:, 3]], 1).detach()
    _, chosen = mixture_invariant(snr, sources, mixtures)
    assert chosen.tolist() == [[0, 1, 0, 1]] * 2
    loss = MixtureInvariantLoss(MixtureInvariantLossConfig(max_snr_db=25.0))(sources, mixtures)
    assert loss.item() == pytest.approx(-25.0, abs=1e-3)
    with pytest.raises(ValueError, match=r"8192 ways, expected at most 4096"):
        mixture_invariant(snr, torch.randn(1, 13, 9), torch.randn(1, 2, 9))


@pytest.mark.parametrize("silent", ["reference", "estimate", "both"])
@pytest.mark.parametrize("name", ["si_snr", "snr", "sd_sdr", "mixit"])
def test_silence_gives_finite_values_and_gradients(name: Any, silent: str) -> None:
    references, estimates = torch.randn(2, 2, 600), torch.randn(2, 2, 600)
    if silent in ("reference", "both"):
        references[:, 1] = 0
    if silent in ("estimate", "both"):
        estimates[:, 1] = 0
    estimates.requires_grad_()
    spectral = SpectralLossConfig(n_ffts=(64,))
    loss = (
        MixtureInvariantLoss(MixtureInvariantLossConfig())(estimates, references)
        if name == "mixit"
        else SeparationLoss(LossConfig(name=name, spectral=spectral))(estimates, references)
    )
    assert loss.isfinite()
    assert torch.autograd.grad(loss, estimates)[0].isfinite().all()


def silence_aware(estimates: Tensor, references: Tensor, mixture: Tensor | None = None) -> Tensor:
    return SeparationLoss(LossConfig(name="silence_aware_snr"))(estimates, references, None, mixture)


def test_a_loss_for_silent_references_is_the_bounded_snr_where_all_are_active() -> None:
    references = torch.randn(3, 2, 4000, generator=torch.Generator().manual_seed(0))
    estimates = references.flip(1) + 0.3 * torch.randn(3, 2, 4000, generator=torch.Generator().manual_seed(1))
    energy = references.flip(1).square().sum(-1)
    error = (references.flip(1) - estimates).square().sum(-1)
    expected = -10 * torch.log10(energy / (error + 1e-3 * energy)).mean()
    torch.testing.assert_close(silence_aware(estimates, references), expected, rtol=1e-4, atol=1e-4)


def test_an_absent_source_must_come_out_silent() -> None:
    voice = torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0))
    references = torch.cat([voice, torch.zeros_like(voice)], 1)
    right = torch.cat([torch.zeros_like(voice), voice], 1)  # the assignment finds the silent one
    spread = torch.cat([0.5 * voice, 0.5 * voice], 1)
    assert silence_aware(right, references).item() == pytest.approx(-(30 + 20) / 2, abs=0.01)
    # Half of the voice on both: -20 log10(0.5) = 6.02 dB each, little changed by the soft thresholds.
    assert silence_aware(spread, references).item() == pytest.approx(-6.0, abs=0.2)
    loud = 100 * references
    assert silence_aware(100 * right, loud).item() == pytest.approx(-25, abs=0.01)  # levels do not matter
    score = SeparationLoss(LossConfig(name="silence_aware_snr")).score(right, references)
    torch.testing.assert_close(score, si_snr(voice, voice)[0])


@pytest.mark.parametrize("silent", [(0,), (0, 1)])
def test_silent_references_and_mixtures_give_finite_gradients(silent: tuple[int, ...]) -> None:
    references = torch.randn(2, 2, 500, generator=torch.Generator().manual_seed(0))
    references[0, list(silent)] = 0
    for estimates in (torch.zeros(2, 2, 500), torch.randn(2, 2, 500), references.clone()):
        estimates.requires_grad_()
        for mixture in (None, torch.zeros(2, 500), references.sum(1) + 0.1):
            loss = silence_aware(estimates, references, mixture)
            (gradient,) = torch.autograd.grad(loss, estimates)
            assert loss.isfinite()
            assert gradient.isfinite().all()


def test_means_are_an_option_of_snr() -> None:
    with pytest.raises(ValueError, match="zero_mean is an option of snr, but the loss is si_snr"):
        LossConfig(name="si_snr", zero_mean=True)


def test_options_of_silence_belong_to_its_loss() -> None:
    with pytest.raises(ValueError, match="silence has options, but the loss is snr"):
        LossConfig(name="snr", silence=SilentReferencesConfig())


@pytest.mark.parametrize("name", ["snr", "silence_aware_snr"])
def test_the_spectral_distance_leaves_silent_references_out(name: Any) -> None:
    voice, noise = torch.randn(2, 1, 1, 4000, generator=torch.Generator().manual_seed(0)).unbind()
    references = torch.cat([0.1 * voice, torch.zeros_like(voice)], 1)
    estimates = torch.cat([0.1 * voice + 0.02 * noise, 0.1 * noise], 1)
    config = SpectralLossConfig(weight=2.0, n_ffts=(64,))
    plain, both = (SeparationLoss(LossConfig(name=name, spectral=each)) for each in (None, config))
    expected = 2.0 * SpectralLoss(config)(estimates[:, 0], references[:, 0])[0]
    torch.testing.assert_close(both(estimates, references) - plain(estimates, references), expected)


@pytest.mark.parametrize("shape", [(2, 1, 50), (2, 3, 50), (2, 2, 1), (2, 50)])
def test_estimates_and_references_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one shape \[B, C, T\], got"):
        permutation_invariant(si_snr, torch.randn(shape), torch.randn(2, 2, 50))
