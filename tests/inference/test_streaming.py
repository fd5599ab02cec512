"""StreamingSeparator: what may be pushed, and what is remembered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polsess.audio import resample
from polsess.inference import SeparationError, StreamingSeparator
from polsess.models import create_model
from polsess.models.layers.stream import Stream


@pytest.fixture
def stream() -> StreamingSeparator:
    torch.manual_seed(0)
    config = {"model_type": "convtasnet", "preset": "tiny", "causal": True, "norm": "cLN"}
    return StreamingSeparator(create_model(config))


def test_nothing_gives_nothing(stream: StreamingSeparator) -> None:
    assert stream.push(torch.zeros(0)).shape == (2, 0)
    assert stream.flush().shape == (2, 0)


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (torch.tensor([0.0, float("nan")]), "sample 1 of a push of 2 is NaN or infinite, 0.000 s"),
        (torch.tensor([float("inf")]), "sample 0 of a push of 1"),
        (np.zeros(4, np.int16), "floating point"),
        (torch.zeros(1, 4), "expected samples"),
    ],
)
def test_a_push_that_is_refused_changes_nothing(
    stream: StreamingSeparator, bad: torch.Tensor, expected: str
) -> None:
    sound = torch.randn(200)
    with pytest.raises(ValueError, match=expected):
        stream.push(bad)
    before = stream.push(sound[:90])
    with pytest.raises(ValueError, match=expected.replace("0.000", "0.011")):
        stream.push(bad)
    parts = [before, stream.push(sound[90:].numpy()), stream.flush()]
    expected_estimates = stream.model(sound[None])[0].detach()
    torch.testing.assert_close(torch.cat(parts, -1), expected_estimates, rtol=0, atol=1e-5)


def test_reset_and_flush_begin_a_new_stream(stream: StreamingSeparator) -> None:
    sound = torch.randn(100)
    first = torch.cat([stream.push(sound), stream.flush()], -1)
    stream.push(torch.randn(77))
    stream.reset()
    assert stream.state is None
    assert torch.equal(torch.cat([stream.push(sound), stream.flush()], -1), first)


def test_memory_stays_the_same_and_a_long_push_goes_in_parts(stream: StreamingSeparator) -> None:
    stream.push(torch.randn(50))
    sizes = {name: each.untyped_storage().nbytes() for name, each in (stream.state or {}).items()}
    lengths: list[int] = []
    estimate = stream.model.stream_piece

    def observed(samples: torch.Tensor, stream: Stream) -> torch.Tensor:
        lengths.append(samples.shape[-1])
        return estimate(samples, stream)

    stream.model.stream_piece = observed  # type: ignore[method-assign]
    stream.push(torch.randn(40_000))
    assert max(lengths) <= 2 * stream.sample_rate
    assert {name: each.untyped_storage().nbytes() for name, each in (stream.state or {}).items()} == sizes


def test_weights_that_give_no_numbers_are_told(stream: StreamingSeparator) -> None:
    with torch.no_grad():
        stream.model.decoder.conv.weight.fill_(float("nan"))  # type: ignore[union-attr,operator]
    with pytest.raises(SeparationError, match=r"NaN or infinity 0\.0 s into the stream"):
        stream.push(torch.randn(100))


@pytest.mark.parametrize("rate", [16000, 11025])
def test_another_rate_is_converted_there_and_back(rate: int) -> None:
    torch.manual_seed(0)
    config = {"model_type": "convtasnet", "preset": "tiny", "causal": True, "norm": "cLN"}
    model = create_model(config).eval()
    stream, sound = StreamingSeparator(model, rate), torch.randn(3000)
    with torch.inference_mode():
        estimates = model(resample(sound[None], rate, 8000))[0]
    expected = resample(estimates, 8000, rate)[:, : len(sound)]
    parts = [stream.push(piece) for piece in sound.split(171)]
    torch.testing.assert_close(torch.cat([*parts, stream.flush()], -1), expected, rtol=0, atol=1e-5)
