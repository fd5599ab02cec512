"""Memory and time before a run: properties that need no clock, and one run against its prediction."""

from __future__ import annotations

import itertools

import pytest
import torch

from polsess.costs import measure_run, predict_memory, predict_time
from polsess.costs.fake import FakeModel
from polsess.costs.memory import _LivingBytes, _recurrent_workspace
from polsess.costs.tracing import Operation, tracing
from polsess.models import create_model, list_models, parse_model_config

CONVTASNET = {"model_type": "convtasnet", "preset": "tiny"}


@pytest.mark.parametrize("name", list_models())
def test_every_model_can_be_rehearsed(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, preset="tiny")
    inference = predict_memory(model, 0.25)
    assert inference.weights < inference.peak
    assert inference.optimizer == 0
    assert inference.activations > 0


@pytest.mark.parametrize("name", ["blstm", "convtasnet", "dprnn", "mambatasnet", "sepformer"])
def test_training_takes_more_than_inference(name: str) -> None:
    model = create_model(name, preset="tiny")
    inference, training = (predict_memory(model, 0.5, training=each) for each in (False, True))
    assert training.activations > 1.1 * inference.activations
    assert training.optimizer == 2 * sum(each.numel() * 4 for each in model.parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    next(model.parameters()).requires_grad_(True)
    assert predict_memory(model, 0.5, training=True).optimizer < training.optimizer


def test_memory_grows_with_length_and_batch() -> None:
    model = create_model(CONVTASNET)
    one, long, two = (
        predict_memory(model, seconds, batch_size=batch).activations
        for seconds, batch in ((1.0, 1), (4.0, 1), (1.0, 2))
    )
    assert long == pytest.approx(4 * one, rel=0.05)
    assert two == pytest.approx(2 * one, rel=0.05)


def test_a_peak_is_counted_by_hand() -> None:

    fake, living = FakeModel(create_model(CONVTASNET)), _LivingBytes()
    with fake.active(), tracing(fake.network, living.observe):
        first = torch.empty(1000)
        second = first + 1  # two of 4000 bytes
        del first
        third = second[10:].mul(2)  # a view makes nothing, the product 3960 bytes
        third.add_(1)
        del second, third
        torch.empty(10)
    assert living.peak == 8000
    assert living.now == 0


def ticking() -> float:
    return next(_TICKS)


_TICKS = map(float, itertools.count())


def test_time_is_calls_times_the_time_of_each() -> None:
    model = create_model(CONVTASNET)
    short = predict_time(model, 0.5, clock=ticking)  # by this clock every operation takes one second
    assert short.seconds == short.num_calls == sum(short.by_operation.values())
    assert short.num_distinct < short.num_calls
    assert short.real_time_factor == 2 * short.seconds
    assert short.audio_seconds == 0.5


def test_longer_than_is_timed_is_scaled_by_work() -> None:
    model = create_model(CONVTASNET)
    timed, longer = (predict_time(model, seconds, clock=ticking) for seconds in (4.0, 8.0))
    assert longer.by_operation["convolution"] == pytest.approx(
        2 * timed.by_operation["convolution"], rel=0.01
    )


@pytest.mark.parametrize("name", list_models())
def test_operations_of_every_model_can_be_repeated(name: str) -> None:
    prediction = predict_time(create_model(name, preset="tiny"), 0.1)
    assert prediction.seconds > 0
    assert prediction.num_distinct <= prediction.num_calls


def test_a_run_is_measured_in_a_process_of_its_own() -> None:
    config = parse_model_config({"model_type": "blstm", "preset": "small"})
    measured = measure_run(config, 1.0, num_threads=1)
    assert measured.seconds > 0
    assert measured.cpu_seconds > 0
    model = create_model(config)
    if measured.peak is not None:  # Linux
        assert 0.3 < measured.peak / predict_memory(model, 1.0).peak < 3


def test_bad_requests_are_errors() -> None:
    model = create_model(CONVTASNET)
    with pytest.raises(ValueError, match="expected cpu or cuda, got meta"):
        predict_time(model, 1.0, "meta")
    with pytest.raises(ValueError, match="at least one sample"):
        predict_memory(model, 0.0)
    with pytest.raises(RuntimeError, match=r"measuring convtasnet: exit code 1: .*at least one sample"):
        measure_run(model.config, 0.0)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="LSTMs run step by step without oneDNN")
def test_what_recurrent_layers_keep_for_training_is_known() -> None:
    num_steps, batch, features, hidden = 60, 9, 24, 40
    weights = [torch.randn(4 * hidden, each) for each in (features, hidden)] + [torch.randn(4 * hidden)] * 2
    states = [torch.zeros(1, batch, hidden)] * 2
    options: tuple[object, ...] = (False, [], 2, hidden, 1, True, False, False, True)
    args = (torch.randn(num_steps, batch, features), *weights, *states, *options)
    layer = torch.ops.aten.mkldnn_rnn_layer.default
    *_, kept = output = layer(*args)
    operation = Operation(layer, args, {}, output, "recurrent", 0, "")
    assert _recurrent_workspace(operation) == pytest.approx(kept.numel(), rel=0.1)
