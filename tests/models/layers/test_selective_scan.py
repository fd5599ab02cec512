from __future__ import annotations

import json
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from polsess.models.layers import selective_scan as module
from polsess.models.layers.kernels import load_kernel, scan_native, scan_torch
from polsess.models.layers.selective_scan import selective_scan, selective_scan_with_state
from tests.conftest import GOLDEN

SOFTPLUS: dict[str, bool] = json.loads((GOLDEN / "selective_scan/meta.json").read_text())["delta_softplus"]
NAMES = {"A": "a", "B": "b", "C": "c", "D": "d"}
BACKENDS = ["torch", "native"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setenv("POLSESS_KERNELS", "off")
    elif load_kernel("mamba") is None:
        pytest.skip("no C++ compiler")
    return str(request.param)


def used(monkeypatch: pytest.MonkeyPatch) -> list[ModuleType]:
    """Records which path each scan takes."""
    taken: list[ModuleType] = []
    choose = module._backend

    def record(inputs: scan_torch.ScanInputs) -> ModuleType:
        taken.append(choose(inputs))
        return taken[-1]

    monkeypatch.setattr(module, "_backend", record)
    return taken


def naive(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    delta_softplus: bool = False,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The definition, one step after another, differentiated by autograd."""
    if reverse:
        u, delta, b, c = (x.flip(1) if x.ndim > 2 else x for x in (u, delta, b, c))
        z = None if z is None else z.flip(1)
    batch, length, channels = u.shape
    dt = delta if delta_bias is None else delta + delta_bias
    dt = F.softplus(dt) if delta_softplus else dt

    def steps(matrix: Tensor) -> tuple[Tensor, ...]:  # each [B, D, N]
        if matrix.ndim == 2:
            return (matrix.expand(batch, -1, -1),) * length
        grouped = matrix.unsqueeze(2) if matrix.ndim == 3 else matrix
        return grouped.repeat_interleave(channels // grouped.shape[2], 2).unbind(1)

    h = u.new_zeros(batch, *a.shape) if initial_state is None else initial_state
    outputs = []
    for now, x, b_now, c_now in zip(dt.unbind(1), u.unbind(1), steps(b), steps(c), strict=True):
        h = torch.exp(now[..., None] * a) * h + (now * x)[..., None] * b_now
        outputs.append((c_now * h).sum(-1) + (0 if d is None else d * x))
    result = torch.stack(outputs, 1)
    result = result if z is None else result * F.silu(z)
    return (result.flip(1) if reverse else result), h


def random_inputs(
    batch: int, length: int, channels: int, states: int, dtype: torch.dtype = torch.float64, **shapes: Any
) -> dict[str, Any]:
    def matrix(kind: str | int) -> Tensor:
        if kind == "constant":
            return torch.randn(channels, states)
        groups = () if kind == "plain" else (int(kind),)
        return torch.randn(batch, length, *groups, states)

    values = {
        "u": torch.randn(batch, length, channels),
        "delta": 2 * torch.rand(batch, length, channels),
        "a": -2 * torch.rand(channels, states) - 0.05,
        "b": matrix(shapes.get("b", "plain")),
        "c": matrix(shapes.get("c", "plain")),
        "d": torch.randn(channels),
        "z": torch.randn(batch, length, channels),
        "delta_bias": torch.rand(channels),
        "initial_state": torch.randn(batch, channels, states),
    }
    return {key: value.to(dtype).requires_grad_() for key, value in values.items()}


def gradients(function: Any, inputs: dict[str, Any], **options: bool) -> dict[str, Tensor]:
    """Outputs and the gradients of a fixed weighting of them."""
    y, last = function(**inputs, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(each.shape, generator=generator).to(each.dtype) for each in (y, last)]
    grads = torch.autograd.grad((y * weights[0]).sum() + (last * weights[1]).sum(), list(inputs.values()))
    return {"y": y, "last": last, **dict(zip(inputs, grads, strict=True))}


def relative(value: Tensor, expected: Tensor) -> float:
    return float(
        (value.detach().double() - expected.detach()).norm() / expected.detach().norm().clamp_min(1e-12)
    )


def steps_second(name: str, value: Tensor) -> Tensor:
    """Golden tensors have the length last."""
    if name in {"b", "c"} and value.ndim > 2:
        return value.movedim(-1, 1)
    return value.mT if name in {"u", "delta", "z", "y", "probe_y"} else value


@pytest.mark.parametrize("case", SOFTPLUS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("kind", ["grad.", "gradfull."])
def test_golden(case: str, dtype: torch.dtype, tolerance: float, reverse: bool, kind: str) -> None:
    golden = load_file(GOLDEN / f"selective_scan/{case}.f64.safetensors")

    def turned(name: str, value: Tensor) -> Tensor:
        value = steps_second(name, value)
        return value.flip(1) if reverse and value.ndim > 2 and name != "last_state" else value

    names = [key for key in golden if "grad" not in key and not key.startswith(("probe", "y", "last"))]
    inputs = {NAMES.get(key, key): turned(NAMES.get(key, key), golden[key]).to(dtype) for key in names}
    inputs = {key: value.clone().requires_grad_() for key, value in inputs.items()}
    y, last = selective_scan_with_state(**inputs, delta_softplus=SOFTPLUS[case], reverse=reverse)
    loss = (y * turned("probe_y", golden["probe_y"]).to(dtype)).sum()
    if kind == "gradfull.":
        loss = loss + (last * golden["probe_last"].to(dtype)).sum()
    grads = dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True))
    assert y.dtype == dtype
    assert relative(y, turned("y", golden["y"])) < tolerance
    assert relative(last, golden["last_state"]) < tolerance
    for key in names:
        name = NAMES.get(key, key)
        assert relative(grads[name], turned(name, golden[kind + key])) < tolerance, key


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 33, 21, 16), {}),  # 16 states have a path of their own; 21 channels leave lanes over
        ((3, 65, 6, 2), {"b": "3", "c": "3"}),
        ((2, 7, 6, 3), {"b": "plain", "c": "1"}),
        ((2, 40, 4, 3), {"b": "constant", "c": "plain"}),
        ((2, 40, 4, 3), {"b": "2", "c": "constant"}),
    ],
)
def test_the_definition_from_an_initial_state(
    shape: tuple[int, int, int, int], options: dict[str, Any], reverse: bool
) -> None:
    check_the_definition(torch.float64, 1e-11, shape, options, reverse)
    check_the_definition(torch.float32, 3e-6, shape, options, reverse)


@pytest.mark.usefixtures("backend")
def test_the_definition_over_2048_steps() -> None:
    check_the_definition(torch.float32, 3e-6, (1, 2048, 2, 3), {}, False)


def check_the_definition(
    dtype: torch.dtype,
    tolerance: float,
    shape: tuple[int, int, int, int],
    options: dict[str, Any],
    reverse: bool,
) -> None:
    inputs = random_inputs(*shape, dtype, **options)
    found = gradients(selective_scan_with_state, inputs, delta_softplus=True, reverse=reverse)
    double = {key: value.detach().double().requires_grad_() for key, value in inputs.items()}
    expected = gradients(naive, double, delta_softplus=True, reverse=reverse)
    for key, value in expected.items():
        assert relative(found[key], value) < tolerance, key


def test_the_compiled_kernel_is_taken_where_it_applies(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = used(monkeypatch)
    inputs = {k: v.detach().float() for k, v in random_inputs(1, 4, 3, 2).items()}
    selective_scan_with_state(**inputs)
    assert taken == [scan_native if backend == "native" else scan_torch]
    selective_scan_with_state(**{k: v.double() for k, v in inputs.items()})
    assert taken[-1] is scan_torch


@pytest.mark.usefixtures("backend")
def test_two_halves_with_the_state_between_are_the_whole() -> None:
    inputs = {k: v.detach().float() for k, v in random_inputs(2, 50, 5, 4).items()}
    whole, last = selective_scan_with_state(**inputs)

    def part(cut: slice) -> dict[str, Any]:
        return {key: value[:, cut] if value.ndim == 3 else value for key, value in inputs.items()}

    start, state = selective_scan_with_state(
        **{**part(slice(0, 21)), "initial_state": inputs["initial_state"]}
    )
    end, final = selective_scan_with_state(**{**part(slice(21, 50)), "initial_state": state})
    torch.testing.assert_close(torch.cat([start, end], 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(final, last, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("backend")
def test_slices_of_wider_rows_are_read_in_place() -> None:
    inputs = {k: v.detach().float() for k, v in random_inputs(2, 9, 5, 4).items()}
    wide = torch.cat([inputs["z"], inputs["u"], inputs["b"], inputs["c"]], dim=-1)
    views = dict(zip("zubc", wide.split([5, 5, 4, 4], dim=-1), strict=True))
    expected, _ = selective_scan_with_state(**inputs)
    strided = {**inputs, "u": inputs["u"].mT.contiguous().mT}
    for given in ({**inputs, **views}, strided):
        found = selective_scan_with_state(**given)[0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("backend")
def test_reduced_precision_keeps_a_float32_state() -> None:
    inputs = {k: v.detach().float() for k, v in random_inputs(1, 200, 4, 3).items()}
    low = {key: inputs[key].bfloat16().requires_grad_() for key in ("u", "delta", "b", "c", "z")}
    y, last = selective_scan_with_state(**{**inputs, **low}, delta_softplus=True)
    exact, state = selective_scan_with_state(
        **{**inputs, **{key: value.detach().float() for key, value in low.items()}}, delta_softplus=True
    )
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(y, exact.bfloat16())
    assert torch.equal(last, state)
    y.float().sum().backward()
    assert all(each.grad is not None and each.grad.dtype == torch.bfloat16 for each in low.values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again, _ = selective_scan_with_state(**inputs, delta_softplus=True)
    assert torch.equal(again, selective_scan_with_state(**inputs, delta_softplus=True)[0])


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("level", [-60.0, 19.99, 20.01, 200.0])
def test_extreme_step_sizes(level: float) -> None:
    inputs = {k: v.detach().float() for k, v in random_inputs(1, 6, 4, 3).items()}
    inputs["delta"] = torch.full_like(inputs["delta"], level).requires_grad_()
    expected = naive(**{k: v.detach().double() for k, v in inputs.items()}, delta_softplus=True)[0]
    y = selective_scan_with_state(**inputs, delta_softplus=True)[0]
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    y.sum().backward()
    assert inputs["delta"].grad is not None
    assert inputs["delta"].grad.isfinite().all()


@pytest.mark.parametrize(("rows", "channels"), [(5, 3), (1, 40), (1, 3)])
def test_threads_share_the_rows_or_channels(
    rows: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if load_kernel("mamba") is None:
        pytest.skip("no C++ compiler")
    inputs = {k: v.detach().float().requires_grad_() for k, v in random_inputs(rows, 40, channels, 4).items()}
    expected = gradients(selective_scan_with_state, inputs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for key, value in gradients(selective_scan_with_state, inputs).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-5, msg=key)


def test_memory_of_the_backward_pass_grows_with_chunks_not_with_steps() -> None:
    """Saved for the backward pass: the inputs and one state in 32, not [B, D, L, N]."""
    inputs = random_inputs(1, 256, 8, 16)
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        selective_scan(**{k: v for k, v in inputs.items() if k != "initial_state"})
    assert sum(saved) < sum(value.numel() for value in inputs.values()) + 9 * 8 * 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": (2, 5, 4)}, "delta must be"),
        ({"b": (2, 6, 2)}, "b must be"),
        ({"c": (2, 6, 3, 3)}, "c must be"),
        ({"u": (2, 4)}, "u must be"),
        ({"d": (3,)}, "d must be"),
        ({"b": (2, 6, 2, 3), "c": (2, 6, 4, 3)}, "same number of groups"),
        ({"b": (2, 6, 2, 3)}, "same number of groups"),
    ],
)
def test_shapes_that_disagree_are_refused(changes: dict[str, tuple[int, ...]], message: str) -> None:
    inputs = {k: v.detach() for k, v in random_inputs(2, 6, 4, 3).items() if k != "initial_state"}
    inputs |= {key: torch.zeros(shape, dtype=torch.float64) for key, shape in changes.items()}
    with pytest.raises(ValueError, match=message):
        selective_scan(**inputs)


def test_complex_rates_are_refused() -> None:
    inputs = {k: v.detach() for k, v in random_inputs(2, 6, 4, 3).items() if k != "initial_state"}
    with pytest.raises(ValueError, match="complex"):
        selective_scan(**{**inputs, "a": inputs["a"].to(torch.complex128)})


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("b", ["plain", "2", "constant"])
def test_the_mamba_ssm_package_gets_its_own_layout(
    b: str, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with the package's signature, lengths last; the package itself needs CUDA."""

    def selective_scan_fn(
        u: Tensor,
        delta: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        d: Tensor,
        z: Tensor,
        delta_bias: Tensor,
        delta_softplus: bool,
    ) -> Tensor:
        u, delta, z = u.mT, delta.mT, z.mT
        b, c = (x if x.ndim == 2 else x.movedim(-1, 1) for x in (b, c))
        return naive(u, delta, a, b, c, d, z, delta_bias, delta_softplus=delta_softplus)[0].mT

    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mamba_ssm", ModuleType("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", ModuleType("mamba_ssm.ops"))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    values = random_inputs(2, 9, 4, 3, torch.float32, b=b, c=b if b == "2" else "plain")
    del values["initial_state"]
    inputs = scan_torch.ScanInputs(**values, initial_state=None, delta_softplus=True, reverse=reverse)
    expected = selective_scan(**values, delta_softplus=True, reverse=reverse)
    torch.testing.assert_close(module._mamba_ssm(inputs), expected, rtol=1e-5, atol=1e-5)


def test_on_cuda_without_triton_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_installed", lambda _: False)
    on_cuda = SimpleNamespace(is_cuda=True, device=torch.device("cuda"), dtype=torch.float32, shape=(1, 2, 3))
    matrix = torch.zeros(1, 2, 4)
    inputs = SimpleNamespace(u=on_cuda, a=torch.zeros(3, 4), b=matrix, c=matrix)
    assert module._backend(inputs) is scan_torch  # type: ignore[arg-type]


_IN_THE_INTERPRETER = """
import torch
from polsess.models.layers import selective_scan as module
from polsess.models.layers.kernels import scan_torch, scan_triton
from tests.models.layers.test_selective_scan import gradients, random_inputs, relative

torch.manual_seed(0)
for length, channels in ((3, 35), (37, 3)):
    inputs = random_inputs(2, length, channels, 3, torch.float32)
    for reverse in (False, True):
        found = {}
        for backend in (scan_triton, scan_torch):
            module._backend = lambda inputs: backend
            found[backend] = gradients(
                module.selective_scan_with_state, inputs, delta_softplus=True, reverse=reverse
            )
        for key, value in found[scan_torch].items():
            assert relative(found[scan_triton][key], value.double()) < 1e-5, key
"""


def test_the_triton_kernels_in_triton_s_interpreter() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", _IN_THE_INTERPRETER], check=True, env=environment)
