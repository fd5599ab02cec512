"""Contract of the networks that say who speaks when; a new one is tested without an edit here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.audio import resample
from polsess.models import (
    ActivityDetector,
    Network,
    SeparationModel,
    SpeakerEmbedder,
    create_model,
    get_model_class,
    list_models,
    parse_model_config,
)
from polsess.models.blstm import BLSTM
from polsess.models.layers.log_spectrum import LogSpectrum, SpectrumConfig, mel_bands
from polsess.models.layers.spectrum_augmentation import SpectrumAugmentationConfig, augment_spectrum
from polsess.schema import ConfigError

DETECTORS, EMBEDDERS = list_models(ActivityDetector), list_models(SpeakerEmbedder)
every_network = pytest.mark.parametrize("name", DETECTORS + EMBEDDERS)


def tiny(name: str) -> Network:
    return create_model(name, kind=Network, preset="tiny").eval()


def sounds(batch: int, samples: int) -> Tensor:
    return (
        torch.randn(batch, samples)
        * (0.2 + torch.rand(batch, samples // 50 + 1)).repeat_interleave(50, 1)[:, :samples]
    )


def test_every_architecture_has_one_kind() -> None:
    kinds = [SeparationModel, ActivityDetector, SpeakerEmbedder]
    assert sorted(name for kind in kinds for name in list_models(kind)) == list_models(Network)
    assert DETECTORS
    assert EMBEDDERS


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("samples", [1, 79, 80, 81, 999, 4000])
def test_a_detector_decides_at_every_hop(name: str, samples: int) -> None:
    model = create_model(name, kind=ActivityDetector, preset="tiny").eval()
    with torch.no_grad():
        logits = model(sounds(2, samples))
    assert logits.shape == (2, samples // model.hop_length + 1, 3)
    assert logits.isfinite().all()
    assert model.hop_seconds == model.hop_length / model.sample_rate


@pytest.mark.parametrize("name", EMBEDDERS)
@pytest.mark.parametrize("samples", [1, 999, 8000])
def test_embeddings_are_unit_vectors(name: str, samples: int) -> None:
    model = create_model(name, kind=SpeakerEmbedder, preset="tiny").eval()
    with torch.no_grad():
        embeddings = model(sounds(3, samples))
    assert embeddings.shape == (3, model.dimensions)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize("name", EMBEDDERS)
def test_pieces_at_another_rate_are_resampled(name: str) -> None:
    model = create_model(name, kind=SpeakerEmbedder, preset="tiny").eval()
    pieces = resample(sounds(2, 8000), 8000, 16000)
    with torch.no_grad():
        expected = model(resample(pieces, 16000, 8000))
    found = model.embed(pieces, 16000)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


@every_network
def test_the_level_does_not_matter_and_silence_is_finite(name: str) -> None:
    model, sound = tiny(name), sounds(2, 4000)
    with torch.no_grad():
        torch.testing.assert_close(model(0.01 * sound), model(sound), rtol=1e-3, atol=1e-4)
        assert model(torch.zeros(1, 3000)).isfinite().all()


@every_network
def test_batch_items_do_not_mix_and_one_channel_may_be_named(name: str) -> None:
    model, batch = tiny(name), sounds(3, 2400)
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(item[None]) for item in batch])
        assert torch.equal(model(batch.unsqueeze(1)), together)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@every_network
@pytest.mark.parametrize("shape", [(100,), (2, 2, 100), (2, 0)])
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mixture must be"):
        tiny(name)(torch.zeros(shape))


@every_network
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    model = tiny(name).train()
    output = model(sounds(4, 4000))
    (output * torch.randn_like(output)).sum().backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key


@every_network
def test_reduced_precision_keeps_the_features_whole(name: str) -> None:
    """Logarithms of power in bfloat16 would lose what tells voices apart."""
    model, sound = tiny(name), sounds(2, 4000)
    features = next(module for module in model.modules() if isinstance(module, LogSpectrum))
    with torch.no_grad():
        expected = features(sound)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(features(sound), expected)
            assert model(sound).isfinite().all()


@pytest.mark.parametrize("name", ["tdnn", "resnet"])
def test_a_batch_of_one_says_what_training_needs(name: str) -> None:
    model = create_model(name, kind=SpeakerEmbedder, preset="tiny").train()
    with pytest.raises(
        ValueError, match=rf"^{name}: batch normalisation needs two items; train with data\.batch_size"
    ):
        model(torch.randn(1, 4000))
    assert model(torch.randn(2, 4000)).shape == (2, model.dimensions)
    assert model.eval()(torch.randn(1, 4000)).shape == (1, model.dimensions)


def test_features_are_logarithms_relative_to_the_mean_power() -> None:
    """Against a discrete Fourier transform written out, for one frame in the middle of a tone."""
    config = SpectrumConfig(model_type="any", n_fft=64, hop_length=32)
    time = torch.arange(640) / 8000
    sound = torch.sin(2 * math.pi * 1000 * time)
    features = LogSpectrum(config, 12)(sound[None])[0]  # [F, L]
    padded = F.pad(sound, (32, 32)).double()
    window = torch.hann_window(64, dtype=torch.float64)
    angles = 2 * math.pi * torch.outer(torch.arange(33), torch.arange(64)) / 64
    power = torch.stack(
        [
            ((window * frame) @ angles.double().cos().T) ** 2
            + ((window * frame) @ angles.double().sin().T) ** 2
            for frame in padded.unfold(0, 64, 32)
        ],
        dim=1,
    )
    power = mel_bands(12, 64, 8000).double() @ power
    expected = torch.log(power / power.mean() + 1e-5) - math.log(1e-5)
    torch.testing.assert_close(features.double(), expected, rtol=1e-4, atol=1e-3)
    assert int(features[:, 10].argmax()) == 5  # 1000 Hz: 1000 mel, of 94 to 2146 mel in 13 steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "crnn", "hop_length": 600}, "hop_length=600 must be at most n_fft=512"),
        ({"model_type": "crnn", "sample_rate": 1000}, "model.sample_rate"),
        ({"model_type": "tdnn", "dilations": []}, "model.dilations"),
        ({"model_type": "tdnn", "dilations": [0]}, "model.dilations"),
        ({"model_type": "tdnn", "num_sources": 2}, "num_sources"),
        ({"model_type": "resnet", "channels": [4], "blocks": [1, 1]}, "give as many"),
    ],
)
def test_sizes_that_no_network_has_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_model_config(changes, kind=Network)


def test_a_name_of_another_kind_says_what_it_is() -> None:
    with pytest.raises(ConfigError, match="crnn is a speech activity detector, not a separation model"):
        get_model_class("crnn")
    with pytest.raises(ConfigError, match="blstm is a separation model, not a speaker embedder"):
        create_model("blstm", kind=SpeakerEmbedder)
    with pytest.raises(ConfigError, match=r"skim: expected the architecture blstm\."):
        create_model("skim", kind=BLSTM)


NO_CHANGE = SpectrumAugmentationConfig(warp=0, equaliser=0, gain=0, num_masks=0)


def test_spectra_are_left_alone_when_no_augmentation_is_asked_for() -> None:
    features = torch.rand(2, 10, 5)
    assert torch.equal(augment_spectrum(features, NO_CHANGE), features)


def test_a_warp_moves_a_peak_by_its_factor_and_keeps_a_level_spectrum_level() -> None:
    features = torch.zeros(40, 80, 2)
    features[:, 40] = 1.0
    warped = augment_spectrum(features, NO_CHANGE.model_copy(update={"warp": 0.2}))
    peaks = warped[..., 0].argmax(1)
    assert 40 / 1.2 - 1 <= int(peaks.min()) < 40 < int(peaks.max()) <= 40 / 0.8 + 1
    assert len(peaks.unique()) > 5  # every example by its own draw
    level = torch.ones(3, 80, 2)
    torch.testing.assert_close(augment_spectrum(level, NO_CHANGE.model_copy(update={"warp": 0.5})), level)


def test_masks_silence_at_most_their_share_of_the_bands() -> None:
    config = NO_CHANGE.model_copy(update={"num_masks": 3, "mask_share": 0.2})
    masked = augment_spectrum(torch.ones(50, 20, 4), config) == 0
    assert torch.equal(masked, masked[..., :1].expand_as(masked))
    counts = masked[..., 0].sum(1)
    assert int(counts.max()) <= 12
    assert int(counts.max()) > 4


def test_an_equaliser_and_a_gain_change_all_frames_alike_and_never_fall_below_silence() -> None:
    config = NO_CHANGE.model_copy(update={"equaliser": 1.0, "gain": 0.5})
    features = torch.full((3, 30, 4), 5.0)
    change = augment_spectrum(features, config) - features
    torch.testing.assert_close(change, change[..., :1].expand_as(change))
    assert change.std(1).min() > 0.1
    assert augment_spectrum(torch.zeros(8, 30, 4), config).min() == 0


def test_a_detector_hears_changed_spectra_in_training_alone() -> None:
    model = create_model("crnn", kind=ActivityDetector, preset="tiny", dropout=0.0)
    sound = sounds(2, 4000)
    with torch.no_grad():
        assert not torch.equal(model(sound), model(sound))
        model.eval()
        assert torch.equal(model(sound), model(sound))
