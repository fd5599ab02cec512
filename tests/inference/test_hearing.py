"""What the networks that listen hear: the recording with less of what an enhancer takes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import Samples
from polsess.inference.hearing import Hearing, Listeners
from polsess.inference.torch_networks import TorchDetector, TorchEmbedder, TorchEstimator
from tests.inference.oracle import FunctionModel, identity
from tests.inference.scripted import RATE, ScriptedDetector, ScriptedEmbedder, in_band, splitter, talk
from tests.inference.test_gated import CONVERSATION, gated

CPU = torch.device("cpu")


def hearing(enhancer: FunctionModel | None, rate: int = RATE) -> Hearing:
    detector, embedder = TorchDetector(ScriptedDetector(), CPU), TorchEmbedder(ScriptedEmbedder(), CPU)  # type: ignore[arg-type]
    estimator = None if enhancer is None else TorchEstimator(enhancer.eval(), CPU)
    return Hearing(Listeners(detector, embedder, estimator), rate)


def sound(seconds: float, rate: int = RATE) -> Samples:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate)).astype(np.float32)


def first_two_bands(mixture: Tensor) -> Tensor:
    """Takes out what is in the third voice's band."""
    return (mixture - in_band(mixture, 2)).unsqueeze(1)


@pytest.mark.parametrize("seconds", [0.0001, 0.7, 15.0, 16.234, 100.01])
def test_every_sample_is_heard_once(seconds: float) -> None:
    """A filter of 1 s, which the margins hold, gives the same in blocks as in one pass."""
    model = FunctionModel(lambda mixture: (mixture - 0.5 * mixture.roll(RATE, -1)).unsqueeze(1), 1)
    given = sound(seconds)
    cleared = hearing(model).clear_all(given)
    assert cleared.shape == given.shape
    before = np.pad(given, (RATE, 0))[: len(given)]
    np.testing.assert_allclose(cleared[RATE:], (given - 0.35 * before)[RATE:], atol=1e-6)
    assert len(model.calls) == {100.01: 4}.get(seconds, 2 if seconds > 15 else 1)
    assert np.array_equal(hearing(None).clear_all(given), given)
    np.testing.assert_allclose(hearing(identity()).clear_all(given), given, atol=1e-7)


def test_what_lies_above_the_rate_of_the_enhancer_stays() -> None:
    silencer = FunctionModel(lambda mixture: torch.zeros_like(mixture).unsqueeze(1), 1)
    times = np.arange(4 * 2 * RATE) / (2 * RATE)
    low, high = (np.sin(2 * np.pi * hertz * times).astype(np.float32) for hertz in (1000, 6000))
    cleared = hearing(silencer, 2 * RATE).clear_all(low + high)
    middle = slice(RATE, 7 * RATE)
    np.testing.assert_allclose(cleared[middle], (0.3 * low + high)[middle], atol=2e-3)


def test_noise_is_not_taken_for_a_voice_and_stays_on_the_tracks() -> None:
    noise = 0.8 * talk(2, 30.0, (0.0, 30.0))
    mixture = CONVERSATION.sum(0) + noise
    networks = {"enhancer": FunctionModel(first_two_bands, 1), "gate": "always"}
    result = gated(splitter(), **networks).separate(mixture, RATE)
    assert result.names == ("speaker1", "speaker2")
    assert result.timeline is not None
    assert sum(end - start for start, end in result.timeline.overlaps) == pytest.approx(5.0, abs=0.5)
    alone = slice(round(1.0 * RATE), round(2.5 * RATE))
    assert torch.equal(result.sources[0, alone], mixture[alone])
    as_it_is = gated(splitter(), gate="always").separate(mixture, RATE).timeline
    assert as_it_is is not None
    assert sum(end - start for start, end in as_it_is.overlaps) > 10
