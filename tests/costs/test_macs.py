"""MACs: one layer of each kind against a count by hand, whole models against counts of others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.costs import Kind, MacCount, count_macs, count_parameters, weights_bytes
from polsess.models import ModelConfig, SeparationModel, create_model, list_models
from polsess.models.layers.attention import SelfAttention
from polsess.models.layers.causal_conv import causal_conv
from polsess.models.layers.depthwise import DepthwiseConv
from polsess.models.layers.dilated import DilatedDepthwiseConv
from polsess.models.layers.selective_scan import selective_scan, selective_scan_with_state
from polsess.models.layers.stft import STFT


class OneLayer(SeparationModel):
    """A model that does one thing to noise of a given shape, whatever the mixture."""

    hop_length = 1

    def __init__(self, layer: nn.Module, function: Callable[..., Any], shape: tuple[int, ...]) -> None:
        super().__init__(ModelConfig(model_type="one", num_sources=1))
        self.layer, self.function, self.shape = layer, function, shape

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        self.function(self.layer, mixture.new_zeros(self.shape))
        return mixture.unsqueeze(1)


def counted(layer: nn.Module, shape: tuple[int, ...], function: Callable[..., Any] | None = None) -> MacCount:
    return count_macs(OneLayer(layer, function or (lambda layer, x: layer(x)), shape), 1.0)


def only(kind: Kind, macs: int) -> dict[Kind, int]:
    empty: dict[Kind, int] = {
        "convolution": 0, "linear": 0, "attention": 0, "recurrent": 0, "scan": 0, "stft": 0, "other": 0,
    }  # fmt: skip
    return empty | {kind: macs}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("layer", "shape", "kind", "macs"),
    [
        (nn.Conv1d(6, 10, 3), (2, 6, 50), "convolution", 2 * 48 * 10 * 6 * 3),
        (nn.Conv1d(6, 10, 3, stride=2, groups=2), (1, 6, 51), "convolution", 25 * 10 * 3 * 3),
        (nn.Conv1d(6, 10, 3, dilation=4, padding=4), (1, 6, 50), "convolution", 50 * 10 * 6 * 3),
        (nn.ConvTranspose1d(10, 4, 8, stride=4, groups=2), (1, 10, 20), "convolution", 20 * 10 * 2 * 8),
        (nn.Conv2d(2, 3, (3, 5), padding=(1, 2)), (1, 2, 7, 9), "convolution", 7 * 9 * 3 * 2 * 15),
        (DepthwiseConv(8, 5, bias=True), (2, 30, 8), "convolution", 2 * 30 * 8 * 5),
        (DepthwiseConv(8, 5, dilation=4), (2, 30, 8), "convolution", 2 * 30 * 8 * 5),
        (DilatedDepthwiseConv(8, 3, dilation=4, left=4, right=4), (2, 8, 30), "convolution", 2 * 30 * 8 * 3),
        (DilatedDepthwiseConv(8, 17, dilation=1, left=8, right=8), (1, 8, 30), "convolution", 30 * 8 * 17),
        (nn.Linear(7, 11), (2, 5, 7), "linear", 10 * 7 * 11),
        (nn.Linear(7, 11, bias=False), (2, 5, 7), "linear", 10 * 7 * 11),
        (nn.LSTM(6, 5), (9, 2, 6), "recurrent", 9 * 2 * 4 * 5 * (6 + 5)),
        (
            nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True),
            (2, 9, 6),
            "recurrent",
            9 * 2 * 2 * 4 * 5 * ((6 + 5) + (10 + 5)),
        ),
        (nn.LSTM(6, 5, proj_size=3), (9, 2, 6), "recurrent", 9 * 2 * (4 * 5 * (6 + 3) + 3 * 5)),
        (nn.GRU(6, 5, bidirectional=True), (9, 2, 6), "recurrent", 2 * 9 * 2 * 3 * 5 * (6 + 5)),
        (nn.RNN(6, 5), (9, 2, 6), "recurrent", 9 * 2 * 5 * (6 + 5)),
        (nn.RNN(6, 5, nonlinearity="relu"), (9, 2, 6), "recurrent", 9 * 2 * 5 * (6 + 5)),
        (nn.Sequential(nn.LayerNorm(8), nn.PReLU(), nn.Softmax(-1)), (2, 5, 8), "other", 0),
    ],
)
def test_a_layer_equals_the_count_by_hand(
    layer: nn.Module, shape: tuple[int, ...], kind: Kind, macs: int
) -> None:
    assert counted(layer, shape).by_kind == only(kind, macs)


@pytest.mark.parametrize("layer", [SelfAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)])
@pytest.mark.parametrize("weights", [False, True])
def test_attention_is_its_projections_and_two_products(layer: nn.Module, weights: bool) -> None:
    def attend(layer: nn.Module, x: Tensor) -> None:
        layer(x) if isinstance(layer, SelfAttention) else layer(x, x, x, need_weights=weights)

    count = counted(layer, (3, 10, 8), attend)
    assert count.by_kind == only("attention", 2 * 3 * 10 * 10 * 8) | {"linear": 3 * 10 * 8 * 4 * 8}


@pytest.mark.parametrize(
    ("function", "kind", "macs"),
    [
        (lambda _, x: torch.einsum("ble,bse->bls", x, x), "attention", 2 * 12 * 12 * 16),
        (lambda _, x: x @ x.mT, "attention", 2 * 12 * 12 * 16),
        (lambda _, x: x[0] @ x[1, 0], "other", 12 * 16),
        (lambda _, x: F.scaled_dot_product_attention(x, x[:, :5], x[:, :5]), "attention", 2 * 12 * 5 * 32),
        (lambda _, x: causal_conv(x, x.new_zeros(16, 1, 4)), "convolution", 2 * 12 * 16 * 4),
        (lambda _, x: STFT(8, 4).analyse(x[0]), "stft", 12 * 5 * 30),
        (lambda _, x: STFT(8, 4).synthesise(x[..., :5] + 0j, 40), "stft", 2 * 12 * 30),
        (lambda _, x: torch.fft.fft(x + 0j), "stft", 2 * 12 * 2 * 80),
    ],
)
def test_a_function_equals_the_count_by_hand(function: Callable[..., Any], kind: Kind, macs: int) -> None:
    assert counted(nn.Identity(), (2, 12, 16), function).by_kind == only(kind, macs)


@pytest.mark.parametrize("function", [selective_scan, selective_scan_with_state])
def test_a_scan_equals_the_count_by_hand(function: Callable[..., Any]) -> None:
    def scan(_: nn.Module, u: Tensor) -> None:
        rates, matrix = u.new_zeros(16, 3), u.new_zeros(2, 12, 3)
        function(u, u, rates, matrix, matrix, u.new_zeros(16), u, delta_softplus=True)

    assert counted(nn.Identity(), (2, 12, 16), scan).by_kind == only("scan", 2 * 12 * 16 * (4 * 3 + 2))


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


PADDING_OF_MOSSFORMER2 = 24 * sum(
    (
        (256**2 - 231**2) * (128 + 2048),  # the last group of 256 holds 999 - 3 * 256 frames
        25 * 128 * 2048 * 2,  # and the linear attention sees 25 frames less
    )
)
"""MACs that the reference implementation spends on zeros; this library's network cuts the last group."""


@pytest.mark.parametrize(
    ("name", "preset", "macs"),
    [  # of one second of noise through the toolkits' own implementations
        ("convtasnet", "ConvTasNet_WHAM_sepclean", 4_971_663_360),
        ("convtasnet", "ConvTasNet_Libri3Mix_sepclean_16k", 5_078_052_864),
        slow("convtasnet", "convtasnet-wsj02mix", 6_531_452_928),
        ("convtasnet", "report", 8_638_009_344),
        ("dprnn", "DPRNNTasNet-ks16_WHAM_sepclean", 7_950_857_216),
        slow("dptnet", None, 18_842_706_944),
        slow("dptnet", "DPTNet_Libri1Mix_enhsingle_16k", 12_026_152_960),
        ("lstmtasnet", None, 21_347_463_168),
        slow("mossformer2", None, 82_831_629_312 - PADDING_OF_MOSSFORMER2),
        ("resepformer", None, 6_207_467_520),
        slow("sepformer", None, 69_037_608_960),
        ("skim", None, 3_694_209_024),
        slow("spmamba", None, 101_324_893_248),
        ("sudormrf", None, 1_922_252_800),
        slow("sudormrf", "original", 2_290_073_600),
    ],
)
def test_models_agree_with_counts_of_the_reference_implementations(
    name: str, preset: str | None, macs: int
) -> None:
    with torch.device("meta"):
        model = create_model(name, preset=preset)
    assert count_macs(model, 1.0).per_second == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_counted_by_kind_and_module(name: str) -> None:
    model = create_model(name, preset="tiny")
    before = [each.clone() for each in model.state_dict().values()]
    count = count_macs(model, 0.25)
    assert count.total == sum(count.by_module.values()) == count.within("")
    layers = [part for part in model.modules() if part is not model and [*part.parameters(recurse=False)]]
    assert bool(count.total) == bool(layers)  # the model of the guide has none
    assert count.per_second == count.total * 4
    assert set(count.by_module) <= {path for path, _ in model.named_modules()}
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    assert all(type(each) is nn.Parameter for each in model.parameters())


def test_native_kernels_and_their_absence_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    with_kernels = count_macs(create_model("spmamba", preset="tiny"), 0.25)
    monkeypatch.setenv("POLSESS_KERNELS", "off")
    assert count_macs(create_model("spmamba", preset="tiny"), 0.25) == with_kernels
    assert with_kernels.by_kind["scan"] > 0


def test_attention_over_everything_grows_with_its_square() -> None:
    model = create_model("tfgridnet", preset="tiny")
    short, long = (count_macs(model, seconds).by_kind["attention"] for seconds in (0.5, 1.5))
    assert math.log(long / short, 3) == pytest.approx(2.0, abs=0.05)


def test_a_module_holds_what_is_below_it() -> None:
    count = count_macs(create_model("sepformer", preset="tiny"), 0.5)
    first = next(path for path in count.by_module if "." in path).partition(".")[0]
    assert 0 < count.within(first) < count.total
    assert count.within("no.such.module") == 0


def test_sizes_tell_frozen_parameters_and_bytes() -> None:
    layer = nn.BatchNorm1d(10)
    layer.weight.requires_grad_(False)
    size = count_parameters(layer)
    assert (size.total, size.trainable) == (20, 10)
    assert weights_bytes(layer) == 40 * 4 + 8
    assert weights_bytes(layer.half()) == 40 * 2 + 8


def test_nothing_to_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one sample at 8000 Hz"):
        count_macs(create_model("convtasnet", preset="tiny"), 1e-5)
