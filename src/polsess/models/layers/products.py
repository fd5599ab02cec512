"""Dense products by the faster of two libraries: MKL, PyTorch's choice, or oneDNN where MKL falls behind.

MKL runs its AVX2 code on every AMD processor, also on one with AVX-512, where oneDNN is about twice as fast.
That code takes up to 1.5 times as long for results whose rows are no whole vectors, as of channels-first
features of 4001 frames; oneDNN does not.
PyTorch reaches oneDNN for float32 only through the operator of its compiler's frozen graphs, which has no
gradient and a private name. So it is called here alone: for products that are large enough, outside autocast,
compilation and tracing, after a short trial that compares both libraries. Elsewhere the plain call runs.
``POLSESS_PRODUCTS=plain`` switches it off.

Shapes: B batch, M and N rows, K features that are summed over, L steps.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from polsess.machine import processor_vendor

_LEAST_MACS, _LEAST_SIDE = 1 << 21, 8
"""Smaller and thinner products are not faster."""
_VECTOR = 8
"""Numbers in a register of AVX2."""
_TRIAL_ROUNDS = 5
_LARGEST_ERROR = 1e-5


@dataclass(frozen=True)
class Products:
    """The library of large float32 products on this processor.

    Attributes:
        library: ``oneDNN``, or ``MKL`` for PyTorch's own choice.
        gain: How many times as fast as MKL it was in the trial; 1 for MKL.
        reason: Why it is MKL; empty for oneDNN.
        whole_vectors: Whether oneDNN also takes results whose rows are whole vectors of AVX2.
    """

    library: str
    gain: float = 1.0
    reason: str = ""
    whole_vectors: bool = True

    def __str__(self) -> str:
        where = "" if self.whole_vectors else f"for rows that {_VECTOR} does not divide, "
        about = self.reason or f"{where}{self.gain:.1f} times as fast as MKL"
        return f"{self.library} ({about})"


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply by a weight as ``torch.nn.functional.linear``.

    Args:
        features: ``[..., K]``.
        weight: ``[N, K]``.
        bias: ``[N]``.

    Returns:
        ``[..., N]``.
    """
    large = _is_large(features.numel() // weight.shape[1], *weight.shape)
    if not large or not _may_use_onednn(len(weight), features, weight):
        return F.linear(features, weight, bias)
    if torch.is_grad_enabled():
        product: Tensor = _Linear.apply(features, weight, bias)  # type: ignore[no-untyped-call]
        return product
    return _rows_by_rows(features.flatten(0, -2), weight, bias).view(*features.shape[:-1], len(weight))


def pointwise_conv(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with a kernel of one step, channels first.

    In inference on a CPU under autocast the product alone is reduced: layers between such convolutions would
    take most of their time for copies.

    Args:
        features: ``[B, K, L]``.
        weight: ``[N, K, 1]``.
        bias: ``[N]``.

    Returns:
        ``[B, N, L]``.
    """
    large = _is_large(features.shape[-1], *weight.shape[:2]) and features.is_contiguous()
    if large and _reduces_with(features, weight):
        half = torch.get_autocast_dtype("cpu")
        matrix = weight.squeeze(-1).to(half)
        output = features.new_empty(len(features), len(weight), features.shape[-1])
        for frames, target in zip(features, output, strict=True):
            reduced = matrix @ frames.to(half)
            target.copy_(reduced) if bias is None else torch.add(reduced, bias.unsqueeze(-1), out=target)
        return output
    if not large or not _may_use_onednn(features.shape[-1], features, weight):
        return F.conv1d(features, weight, bias)
    if torch.is_grad_enabled():
        product: Tensor = _PointwiseConv.apply(features, weight.squeeze(-1))  # type: ignore[no-untyped-call]
        return product if bias is None else product + bias.unsqueeze(-1)
    output = _matrix_by_frames(weight.squeeze(-1), features)
    return output if bias is None else output.add_(bias.unsqueeze(-1))


def matmul(first: Tensor, second: Tensor) -> Tensor:
    """Multiply batches of matrices as ``first @ second``, without broadcasting.

    Args:
        first: ``[..., M, K]``.
        second: ``[..., K, N]``.

    Returns:
        ``[..., M, N]``.
    """
    large = _is_large(*first.shape[-2:], second.shape[-1])
    if not large or not _may_use_onednn(second.shape[-1], first, second):
        return first @ second
    if torch.is_grad_enabled():
        product: Tensor = _Matmul.apply(first, second)  # type: ignore[no-untyped-call]
        return product
    return _matrices_by_matrices(first, second)


def reduces_alone(*operands: Tensor) -> bool:
    """Whether autocast asks for a product of these in 16 bits, in inference on the CPU."""
    return torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled() and _simply_run(*operands)


def _reduces_with(features: Tensor, weight: Tensor) -> bool:
    """As ``reduces_alone``, of features that may be reduced already."""
    return type(features) is Tensor and features.device.type == "cpu" and reduces_alone(weight)


class Linear(nn.Linear):
    """``torch.nn.Linear`` with the faster product."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class PointwiseConv1d(nn.Conv1d):
    """``torch.nn.Conv1d`` of kernel size 1 with the faster product.

    Args:
        in_channels: K.
        out_channels: N.
        bias: Whether a bias is added.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return pointwise_conv(input, self.weight, self.bias)


class PointwiseConv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` of kernel size 1, of features whose channels are innermost with the faster product.

    Args:
        in_channels: K.
        out_channels: N.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        if not self._is_large(input):
            return super().forward(input)
        if self.reduces(input):
            output = self.multiply(input)
            return output.float() if self.bias is None else output + self.bias.view(-1, 1, 1)
        if not _may_use_onednn(len(self.weight), input, self.weight):
            return super().forward(input)
        return linear(input.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)

    def reduces(self, input: Tensor) -> bool:
        """Whether autocast reduces the product alone, as ``pointwise_conv`` says, of ``[B, K, ...]``."""
        return self._is_large(input) and _reduces_with(input, self.weight)

    def multiply(self, input: Tensor) -> Tensor:
        """That product, reduced and without the bias, ``[B, N, ...]``."""
        half = torch.get_autocast_dtype("cpu")
        return F.linear(input.movedim(1, -1).to(half), self.weight.flatten(1).to(half)).movedim(-1, 1)

    def _is_large(self, input: Tensor) -> bool:
        tokens = input.movedim(1, -1)
        large = _is_large(tokens.numel() // tokens.shape[-1], *self.weight.shape[:2])
        return large and tokens.is_contiguous()


@functools.cache
def choose_products() -> Products:
    """Choose the library, once in a process: by the processor, then by a trial of some milliseconds."""
    if os.environ.get("POLSESS_PRODUCTS") == "plain":
        return Products("MKL", reason="POLSESS_PRODUCTS=plain")
    capability = torch.backends.cpu.get_cpu_capability()
    if processor_vendor() != "AMD" or capability not in ("AVX2", "AVX512"):
        return Products("MKL", reason="no AMD processor with AVX2 or AVX-512")
    return _try_onednn(whole_vectors=capability == "AVX512")


def _try_onednn(whole_vectors: bool) -> Products:
    generator = torch.Generator().manual_seed(0)
    sizes = ((512, 256), (192, 256)) if whole_vectors else ((128, 64), (4001, 64))
    features, weight = (torch.randn(size, generator=generator) for size in sizes)
    try:
        with torch.inference_mode():
            expected, found = F.linear(features, weight), _rows_by_rows(features, weight)
            if not bool((found - expected).norm() <= _LARGEST_ERROR * expected.norm()):
                return Products("MKL", reason="oneDNN gives other numbers")
            plain, fast = (
                min(_seconds(product, features, weight) for _ in range(_TRIAL_ROUNDS))
                for product in (F.linear, _rows_by_rows)
            )
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        return Products("MKL", reason=f"oneDNN's product is not available: {str(error).splitlines()[0]}")
    if fast >= plain:
        return Products("MKL", reason="oneDNN is not faster here")
    return Products("oneDNN", plain / fast, whole_vectors=whole_vectors)


def _seconds(product: Callable[[Tensor, Tensor], Tensor], features: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    product(features, weight)
    return time.perf_counter() - start


def _is_large(rows: int, *sides: int) -> bool:
    if torch.compiler.is_compiling():  # sizes are symbols there, and a comparison is a guard
        return False
    return min(sides) >= _LEAST_SIDE and rows * math.prod(sides) >= _LEAST_MACS


def _may_use_onednn(row: int, *operands: Tensor) -> bool:
    """Whether these are plain float32 tensors on the CPU, in code that simply runs, and oneDNN pays.

    Args:
        row: Numbers in a row of the product.
        operands: Its factors.
    """
    if torch.is_autocast_enabled("cpu") or not _simply_run(*operands):
        return False
    products = choose_products()
    return products.library == "oneDNN" and (products.whole_vectors or row % _VECTOR != 0)


def _simply_run(*operands: Tensor) -> bool:
    """Whether these are plain float32 tensors on the CPU, in code that nothing traces."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return all(
        type(each) in (Tensor, nn.Parameter) and each.dtype == torch.float32 and each.device.type == "cpu"
        for each in operands
    )


def _rows_by_rows(first: Tensor, second: Tensor, bias: Tensor | None = None) -> Tensor:
    """``[M, K]`` and ``[N, K]`` to ``first @ second.T + bias``, ``[M, N]``, by oneDNN.

    Other layouts than a matrix or a transposed one are copied: the operator may take a reference
    implementation for them, which is hundreds of times slower.
    """
    operator: Any = torch.ops.mkldnn._linear_pointwise
    product: Tensor = operator(_dense(first), _dense(second), bias, "none", [], "")
    return product


def _dense(matrix: Tensor) -> Tensor:
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


def _matrix_by_frames(matrix: Tensor, frames: Tensor) -> Tensor:
    """``[N, K]`` and ``[B, K, L]`` to ``[B, N, L]``."""
    if len(frames) == 1:
        return _rows_by_rows(matrix, frames[0].mT).unsqueeze(0)
    return torch.stack([_rows_by_rows(matrix, each.mT) for each in frames])


def _matrices_by_matrices(first: Tensor, second: Tensor) -> Tensor:
    """``[..., M, K]`` and ``[..., K, N]`` to ``[..., M, N]``."""
    if first.ndim == 2:
        return _rows_by_rows(first, second.mT)
    pairs = zip(first.flatten(0, -3), second.flatten(0, -3), strict=True)
    products = [_rows_by_rows(one, other.mT) for one, other in pairs]
    return torch.stack(products).view(*first.shape[:-1], second.shape[-1])


def _weight_gradient(gradient: Tensor, features: Tensor) -> Tensor:
    """``[M, N]`` and ``[M, K]`` to ``gradient.T @ features``; fewer rows on the left are faster."""
    if gradient.shape[1] > features.shape[1]:
        return _rows_by_rows(features.mT, gradient.mT).mT
    return _rows_by_rows(gradient.mT, features.mT)


class _Linear(torch.autograd.Function):
    """``linear`` with its gradients."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight)
        product = _rows_by_rows(features.flatten(0, -2), weight, bias)
        return product.view(*features.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_features = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_features = _rows_by_rows(rows, weight.mT).view(features.shape)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(rows, features.flatten(0, -2))
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_features, of_weight, of_bias


class _Matmul(torch.autograd.Function):
    """``matmul`` with its gradients."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return _matrices_by_matrices(first, second)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, second = ctx.saved_tensors
        of_first = of_second = None
        if ctx.needs_input_grad[0]:
            of_first = _matrices_by_matrices(gradient, second.mT)
        if ctx.needs_input_grad[1]:
            of_second = _matrices_by_matrices(first.mT, gradient)
        return of_first, of_second


class _PointwiseConv(torch.autograd.Function):
    """``[B, K, L]`` and ``[N, K]`` to ``[B, N, L]``, with gradients."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(frames, matrix)
        return _matrix_by_frames(matrix, frames)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        frames, matrix = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_frames = of_matrix = None
        if ctx.needs_input_grad[0]:
            of_frames = _matrix_by_frames(matrix.mT, gradient)
        if ctx.needs_input_grad[1]:
            pairs = zip(gradient, frames, strict=True)
            of_matrix = torch.stack([_rows_by_rows(rows, each) for rows, each in pairs]).sum(0)
        return of_frames, of_matrix
