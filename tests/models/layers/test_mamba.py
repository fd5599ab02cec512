"""The causal convolution and the Mamba layers against golden data and plain re-computations."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers import mamba
from polsess.models.layers.causal_conv import causal_conv
from polsess.models.layers.mamba import BidirectionalMamba, Mamba, MambaPair, MambaSizes, MambaStack
from tests.conftest import GOLDEN
from tests.models.layers.test_selective_scan import naive

CONV = GOLDEN / "causal_conv1d"
BLOCK = GOLDEN / "mamba_block"
SILU: dict[str, bool] = json.loads((CONV / "meta.json").read_text())["silu"]


def perturb(module: nn.Module) -> None:
    """Let the scan matter: with the initial step sizes the skip hides it."""
    for name, parameter in module.named_parameters():
        if name.endswith("dt_proj.bias"):
            nn.init.uniform_(parameter, -2.5, -1.0)
        elif name.endswith((".D", "norm.weight")) or name == "D":
            nn.init.uniform_(parameter, 0.3, 0.8)
        elif not name.endswith("A_log"):
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)


@pytest.mark.parametrize("case", SILU)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("dtype", "kernels", "tolerance"),
    [(torch.float64, "on", 1e-12), (torch.float32, "on", 2e-6), (torch.float32, "off", 2e-6)],
)
def test_golden_convolution(
    case: str,
    reverse: bool,
    dtype: torch.dtype,
    kernels: str,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POLSESS_KERNELS", kernels)
    golden = {k: v.to(dtype) for k, v in load_file(CONV / f"{case}.f64.safetensors").items()}

    def turned(value: Tensor) -> Tensor:
        return value.mT.flip(1) if reverse else value.mT

    x, weight = turned(golden["x"]).requires_grad_(), golden["weight"].unsqueeze(1).requires_grad_()
    bias = golden["bias"].requires_grad_() if "bias" in golden else None
    y = causal_conv(x, weight, bias, silu=SILU[case], reverse=reverse)
    torch.testing.assert_close(y, turned(golden["y"]), rtol=tolerance, atol=tolerance)
    (y * turned(golden["probe"])).sum().backward()
    for value, key in ((x, "x"), (weight, "weight"), (bias, "bias")):
        if value is not None:
            expected = golden[f"grad.{key}"]
            expected = turned(expected) if key == "x" else expected.view(value.shape)
            torch.testing.assert_close(value.grad, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("taps", [1, 4, 5])
@pytest.mark.parametrize(("kernels", "threads"), [("on", 1), ("on", 3), ("off", 1)])
def test_convolution_of_sequences_around_the_length_of_the_filter(
    length: int, reverse: bool, taps: int, kernels: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLSESS_KERNELS", kernels)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, weight = (torch.randn(shape) for shape in ((2, length, 19), (19, 1, taps)))
    x.requires_grad_(), weight.requires_grad_()
    padding = (0, taps - 1) if reverse else (taps - 1, 0)
    expected = F.conv1d(F.pad(x.mT, padding), weight.flip(-1) if reverse else weight, groups=19).mT
    found = causal_conv(x, weight, silu=False, reverse=reverse)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    grads = [torch.autograd.grad((y * probe).sum(), (x, weight)) for y in (found, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("channels", [16, 19])
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_bfloat16_is_read_and_written_with_sums_in_float32(
    reverse: bool, channels: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLSESS_KERNELS", kernels)
    wide = torch.randn(2, 9, 2 * channels).bfloat16()
    x, weight, bias = wide[..., channels:].detach(), torch.randn(channels, 1, 4), torch.randn(channels)
    found = causal_conv(x.requires_grad_(), weight, bias, reverse=reverse)
    exact = x.detach().float().requires_grad_()
    expected = causal_conv(exact, weight, bias, reverse=reverse)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected.bfloat16(), rtol=2**-7, atol=1e-6)
    (to_x,) = torch.autograd.grad(found.sum(), x)
    (to_exact,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(to_x, to_exact.bfloat16(), rtol=2**-7, atol=1e-6)


def test_golden_stacks_from_both_ends() -> None:
    weights = load_file(BLOCK / "d8_2layer.weights.safetensors")
    golden = load_file(BLOCK / "d8_2layer.B2_L21.f64.safetensors")
    pair = MambaPair(MambaSizes(8, expansion=4), num_layers=2).double()

    def ours(key: str) -> str:
        side, layer, rest = key.split(".", 2)
        side = {"forward_blocks": "from_start", "backward_blocks": "from_end"}[side]
        part, rest = rest.split(".", 1)
        return f"{side}.{part}s.{layer}.{rest}"

    pair.load_state_dict({ours(key): value.double() for key, value in weights.items()})
    x = golden["x"].requires_grad_()
    y = pair(x)
    (y * golden["probe"]).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(y, golden["y"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(x.grad, golden["grad_x"], rtol=1e-9, atol=1e-9)
    parameters = dict(pair.named_parameters())
    for key in weights:
        torch.testing.assert_close(parameters[ours(key)].grad, golden[f"grad.{key}"], rtol=1e-8, atol=1e-9)


def test_no_items_give_none_and_no_gradients() -> None:
    pair, features = MambaPair(MambaSizes(6, 3)), torch.zeros(0, 7, 6)
    with torch.no_grad():
        assert pair(features).shape == (0, 7, 12)
    pair(features).sum().backward()
    assert not any(each.grad is not None and each.grad.any() for each in pair.parameters())


@pytest.mark.parametrize("tokens", [1, 14, 1000])
def test_inference_in_blocks_of_sequences_changes_nothing(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba, "_BLOCK_TOKENS", tokens)
    pair = MambaPair(MambaSizes(6, 3)).double()
    perturb(pair)
    features = torch.randn(5, 7, 6, dtype=torch.float64)
    sizes: list[int] = []
    pair.from_end.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        found = pair(features)
    assert sizes == {1: [1] * 5, 14: [2, 2, 1], 1000: [5]}[tokens]
    torch.testing.assert_close(found, pair(features).detach())


def plain_ssm(ssm: nn.Module, x: Tensor, z: Tensor, sizes: MambaSizes) -> Tensor:
    """Convolution, selection and scan with library calls, forwards."""
    weights = dict(ssm.named_parameters())
    taps = sizes.conv_kernel_size
    channels = sizes.num_channels
    conv = F.conv1d(
        F.pad(x.mT, (taps - 1, 0)), weights["conv1d.weight"], weights["conv1d.bias"], groups=channels
    )
    u = F.silu(conv).mT
    projected = u @ weights["x_proj.weight"].T
    rank, states = sizes.step_rank, sizes.num_states
    steps, b, c = projected[..., :rank], projected[..., rank : rank + states], projected[..., rank + states :]
    delta = steps @ weights["dt_proj.weight"].T
    rates = -weights["A_log"].exp()
    bias = weights["dt_proj.bias"]
    return naive(u, delta, rates, b, c, weights["D"], z, bias, delta_softplus=True)[0]


@pytest.mark.parametrize("sizes", [MambaSizes(20, 8, 3, 2), MambaSizes(6, 3, 1, 3), MambaSizes(5, 16, 4, 1)])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_mixers_are_their_definition(sizes: MambaSizes, reverse: bool) -> None:
    mamba, both = Mamba(sizes, reverse).double(), BidirectionalMamba(sizes).double()
    perturb(mamba)
    perturb(both)
    features = torch.randn(2, 11, sizes.num_features, dtype=torch.float64)
    turned = features.flip(1) if reverse else features
    x, z = (turned @ mamba.in_proj.weight.T).chunk(2, dim=-1)
    expected = plain_ssm(mamba, x, z, sizes) @ mamba.out_proj.weight.T
    torch.testing.assert_close(mamba(features), expected.flip(1) if reverse else expected)

    x, z = (features @ both.in_proj.weight.T).chunk(2, dim=-1)
    first = plain_ssm(both.forward_ssm, x, z, sizes)
    second = plain_ssm(both.backward_ssm, x.flip(1), z.flip(1), sizes).flip(1)
    torch.testing.assert_close(both(features), (0.5 * first + 0.5 * second) @ both.out_proj.weight.T)


def test_a_stack_adds_and_may_end_with_a_norm() -> None:
    sizes = MambaSizes(6, 3)
    stack = MambaStack(6, [lambda: Mamba(sizes)] * 2, final_norm=True, eps=0.1).double()
    perturb(stack)
    features = torch.randn(1, 5, 6, dtype=torch.float64)

    def rms(value: Tensor, norm: nn.Module) -> Tensor:
        return (
            value
            / (value.square().mean(-1, keepdim=True) + 0.1).sqrt()
            * dict(norm.named_parameters())["weight"]
        )

    expected = features
    for norm, mixer in zip(stack.norms, stack.mixers, strict=True):
        expected = expected + mixer(rms(expected, norm))
    torch.testing.assert_close(stack(features), rms(expected, stack.final_norm))


def test_initial_steps_lie_in_the_published_range() -> None:
    bias = Mamba(MambaSizes(64)).dt_proj.bias
    steps = F.softplus(bias)
    assert 1e-3 * 0.99 < float(steps.detach().min()) < 5e-3
    assert 5e-2 < float(steps.detach().max()) < 1e-1 * 1.01
