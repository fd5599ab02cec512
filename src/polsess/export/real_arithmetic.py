"""Models traced with real numbers only, for exporters that know neither complex numbers nor every operator.

Within ``real_arithmetic`` a complex tensor is a pair of real ones, short-time Fourier transforms are
convolutions and matrix products, and some operators are written with simpler ones. The models themselves stay
as they are.

Shapes: B batch, T samples, F bins, L frames, n frame length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from polsess.export.associative_scan import associative_scan
from polsess.export.attention import attention_in_blocks
from polsess.models.layers.causal_conv import causal_conv
from polsess.models.layers.selective_scan import selective_scan

_SHAPED = {
    "unsqueeze",
    "squeeze",
    "flatten",
    "unflatten",
    "transpose",
    "movedim",
    "permute",
    "reshape",
    "view",
}
_SHAPED |= {"contiguous", "expand", "narrow", "to", "float"}


class ComplexPair:
    """A complex tensor as two real ones.

    Args:
        real: Any shape.
        imag: The same shape.
    """

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Functions of torch that a pair is given to."""
        return _on_pairs(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name in _SHAPED:
            return lambda *args, **kwargs: self._each(lambda part: getattr(part, name)(*args, **kwargs))
        if name in ("shape", "ndim", "device", "dtype"):
            return getattr(self.real, name)
        raise AttributeError(name)

    def _each(self, function: Callable[[Tensor], Tensor]) -> ComplexPair:
        return ComplexPair(function(self.real), function(self.imag))

    @property
    def mT(self) -> ComplexPair:
        """The last two dimensions exchanged."""
        return self.transpose(-1, -2)

    def __getitem__(self, index: Any) -> ComplexPair:
        return self._each(lambda part: part[index])

    def abs(self) -> Tensor:
        """Magnitudes."""
        return (self.real.square() + self.imag.square()).sqrt()

    def conj(self) -> ComplexPair:
        """The complex conjugate."""
        return ComplexPair(self.real, -self.imag)

    def is_complex(self) -> bool:
        """Always."""
        return True

    def __add__(self, other: Any) -> ComplexPair:
        other = _as_pair(other)
        return ComplexPair(self.real + other.real, self.imag + other.imag)

    def __mul__(self, other: Any) -> ComplexPair:
        if isinstance(other, ComplexPair | complex):
            return ComplexPair(
                self.real * other.real - self.imag * other.imag,
                self.real * other.imag + self.imag * other.real,
            )
        return ComplexPair(self.real * other, self.imag * other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> ComplexPair:
        return ComplexPair(self.real / other, self.imag / other)


def _as_pair(value: Any) -> ComplexPair:
    return value if isinstance(value, ComplexPair) else ComplexPair(value, torch.zeros_like(value))


def _on_pairs(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A function of torch with pairs among its arguments."""
    name = func.__name__.strip("_").removeprefix("r")
    if name in ("mul", "multiply"):
        first, second = args[:2]
        return first * second if isinstance(first, ComplexPair) else second * first
    if name == "add":
        first, second = args[:2]
        return first + second if isinstance(first, ComplexPair) else second + first
    if name in ("cat", "stack"):
        pairs = [_as_pair(each) for each in args[0]]
        return ComplexPair(
            func([pair.real for pair in pairs], *args[1:], **kwargs),
            func([pair.imag for pair in pairs], *args[1:], **kwargs),
        )
    if name in ("zeros_like", "pad"):
        return args[0]._each(lambda part: func(part, *args[1:], **kwargs))
    if name == "view_as_real":
        return torch.stack([args[0].real, args[0].imag], -1)
    raise NotImplementedError(f"{func.__name__} of complex numbers has no form for an export.")


def _fourier(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and negative sines ``[F, n]`` of a real Fourier transform."""
    angles = torch.outer(torch.arange(size // 2 + 1), torch.arange(size)).double() * (2 * math.pi / size)
    return angles.cos().to(like.dtype), (-angles.sin()).to(like.dtype)


def _rfft(frames: Tensor, n: int | None = None) -> ComplexPair:
    if n is not None and n != frames.shape[-1]:
        raise NotImplementedError("a Fourier transform of another length than its frames")
    cosines, sines = _fourier(int(frames.shape[-1]), frames)
    return ComplexPair(frames @ cosines.mT, frames @ sines.mT)


def _irfft(spectrum: ComplexPair, n: int) -> Tensor:
    cosines, sines = _fourier(n, spectrum.real)
    weights = torch.full((n // 2 + 1, 1), 2.0 / n, dtype=spectrum.real.dtype)
    weights[0] = 1.0 / n
    if n % 2 == 0:
        weights[-1] = 1.0 / n
    return spectrum.real @ (weights * cosines) + spectrum.imag @ (weights * sines)


def _stft(
    samples: Tensor,
    n_fft: int,
    hop_length: int,
    *,
    window: Tensor,
    center: bool = True,
    pad_mode: str = "reflect",
    **_: Any,
) -> ComplexPair:
    """``[B, T]`` to ``[B, F, L]``: a convolution with windowed cosines and sines."""
    samples = samples[:, None]
    if center:
        samples = F.pad(samples, (n_fft // 2, n_fft // 2), mode=pad_mode)
    cosines, sines = _fourier(n_fft, samples)
    kernel = (torch.cat([cosines, sines]) * window)[:, None]
    both = F.conv1d(samples, kernel, stride=hop_length)
    return ComplexPair(both[:, : n_fft // 2 + 1], both[:, n_fft // 2 + 1 :])


def _istft(
    spectrum: ComplexPair, n_fft: int, hop_length: int, *, window: Tensor, length: Any, **_: Any
) -> Tensor:
    """``[B, F, L]`` to ``[B, T]``."""
    frames = (_irfft(spectrum.mT, n_fft) * window).mT  # [B, n, L]
    waves = overlap_add(frames, hop_length)
    envelope = overlap_add(torch.ones_like(frames[:1]) * window.square()[:, None], hop_length)
    begin = n_fft // 2
    return waves[:, begin : begin + length] / envelope[:, begin : begin + length]


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Frames ``[B, n, L]`` added where they overlap, ``[B, (L - 1) * hop_length + n]``."""
    size = int(frames.shape[1])
    identity = torch.eye(size, dtype=frames.dtype)[:, None]
    return F.conv_transpose1d(frames, identity, stride=hop_length)[:, 0]


def _fold(
    frames: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    if output_size[0] != 1 or kernel_size[0] != 1 or dilation != 1 or padding not in (0, (0, 0)):
        raise NotImplementedError("a fold of more than one dimension")
    return overlap_add(frames, stride[1] if isinstance(stride, tuple) else stride)[:, None, None]


def _unfold(samples: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows along a dimension, as ``Tensor.unfold``, by an index."""
    dimension %= samples.ndim
    count = (samples.shape[dimension] - size) // step + 1
    index = torch.arange(count)[:, None] * step + torch.arange(size)
    return samples.movedim(dimension, -1)[..., index].movedim(-2, dimension)


def _unflatten(tensor: Tensor, dimension: int, sizes: Sequence[Any]) -> Tensor:
    """As ``Tensor.unflatten``; some exporters take the sizes of its result for constants."""
    dimension %= tensor.ndim
    return tensor.reshape(*tensor.shape[:dimension], *sizes, *tensor.shape[dimension + 1 :])


def _split(tensor: Tensor, sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """As ``Tensor.split``; some exporters take the length of what is not divided for a constant."""
    if isinstance(sizes, list | tuple):
        ends = list(itertools.accumulate(sizes))
        return tuple(tensor.narrow(dim, end - size, size) for end, size in zip(ends, sizes, strict=True))
    length = tensor.shape[dim]
    if sizes >= length:
        return (tensor,)
    starts = range(0, length, sizes)
    return tuple(tensor.narrow(dim, start, min(sizes, length - start)) for start in starts)


def _adaptive_avg_pool1d(features: Tensor, output_size: Any) -> Tensor:
    """Means of as many stretches as wanted, as differences of sums up to their ends."""
    length = features.shape[-1]
    number = torch.arange(output_size)
    begins, ends = number * length // output_size, ((number + 1) * length - 1) // output_size + 1
    sums = F.pad(features.double().cumsum(-1), (1, 0))
    means: Tensor = (sums[..., ends] - sums[..., begins]) / (ends - begins)
    return means.to(features.dtype)


def _interpolate(features: Tensor, size: Any = None, mode: str = "nearest", **_: Any) -> Any:
    """Each step of a new length from the nearest one below, rounded as torch rounds."""
    if size is None or mode != "nearest" or features.ndim != 3:
        return NotImplemented
    length = _number(features.shape[-1])
    rate = length.float() / _number(size).float()
    steps = (torch.arange(size).float() * rate).floor().long()
    return features[..., torch.minimum(steps, length - 1)]


def _number(size: Any) -> Tensor:
    """A size as a whole number of the graph, which ``torch.as_tensor`` takes for a constant in programs."""
    return size if isinstance(size, Tensor) else torch.scalar_tensor(size, dtype=torch.int64)


def _known_filters(features: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The arguments of a convolution; exporters want to see the shape of filters that are computed, too."""
    if not isinstance(weight, nn.Parameter):
        weight = weight.reshape([int(size) for size in weight.shape])
    return (features, weight, *args), kwargs


def _known_shape(features: Tensor, shape: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
    """The arguments of a norm over the last dimensions, whose sizes are constants for exporters."""
    return (features, [int(size) for size in shape], *args), kwargs


def _permute(tensor: Tensor, *dimensions: Any) -> Tensor:
    """As ``Tensor.permute``, with dimensions counted from the first."""
    order = dimensions[0] if isinstance(dimensions[0], list | tuple) else dimensions
    plain: Tensor = torch.permute(tensor, [each % tensor.ndim for each in order])
    return plain


def _movedim(tensor: Tensor, source: Any, destination: Any) -> Tensor:
    """As ``Tensor.movedim``, by a permutation."""
    sources, targets = (
        [each % tensor.ndim for each in ((dims,) if isinstance(dims, int) else dims)]
        for dims in (source, destination)
    )
    order = [each for each in range(tensor.ndim) if each not in sources]
    for target, moved in sorted(zip(targets, sources, strict=True)):
        order.insert(target, moved)
    plain: Tensor = torch.permute(tensor, order)
    return plain


def _mean(tensor: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    """One dimension after the other: runtimes that add up one by one lose digits over long sums."""
    if not isinstance(dim, list | tuple) or len(dim) < 2 or isinstance(tensor, ComplexPair):
        return NotImplemented
    dimensions = sorted((each % tensor.ndim for each in dim), reverse=True)
    for each in dimensions:
        tensor = tensor.mean(each, keepdim=True)
    for each in () if keepdim else dimensions:
        tensor = tensor.squeeze(each)
    return tensor


def _group_norm(
    features: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Of one group, with means as ``_mean`` takes them."""
    if num_groups != 1:
        return NotImplemented
    dimensions = tuple(range(1, features.ndim))
    centred = features - features.mean(dimensions, keepdim=True)
    scaled = centred * (centred.square().mean(dimensions, keepdim=True) + eps).rsqrt()
    for each, combine in ((weight, torch.mul), (bias, torch.add)):
        if each is not None:
            scaled = combine(scaled, each.reshape(-1, *[1] * (features.ndim - 2)))
    return scaled


def _rms_norm(
    features: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    dimensions = tuple(range(-len(shape), 0))
    eps = torch.finfo(features.dtype).eps if eps is None else eps
    scaled = features * (features.square().mean(dimensions, keepdim=True) + eps).rsqrt()
    return scaled if weight is None else scaled * weight


def _causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, silu: bool = True, reverse: bool = False
) -> Tensor:
    past = weight.shape[-1] - 1
    border, taps = ((0, past), weight.flip(-1)) if reverse else ((past, 0), weight)
    sums = F.conv1d(F.pad(x.transpose(1, 2), border), taps, bias, groups=weight.shape[0]).transpose(1, 2)
    return F.silu(sums) if silu else sums


class _RealArithmetic(TorchFunctionMode):
    """Replaces functions of torch by what every exporter knows."""

    def __init__(self) -> None:
        super().__init__()
        self._adapted: dict[Any, Callable[..., Any]] = {
            torch.conv1d: _known_filters,
            torch.conv2d: _known_filters,
            F.layer_norm: _known_shape,
        }
        self._replaced: dict[Any, Callable[..., Any]] = {
            torch.stft: _stft,
            torch.istft: _istft,
            torch.fft.rfft: _rfft,
            torch.fft.irfft: _irfft,
            torch.complex: ComplexPair,
            torch.view_as_complex: lambda parts: ComplexPair(parts[..., 0], parts[..., 1]),
            F.fold: _fold,
            F.scaled_dot_product_attention: attention_in_blocks,
            F.interpolate: _interpolate,
            F.adaptive_avg_pool1d: _adaptive_avg_pool1d,
            F.group_norm: _group_norm,
            F.rms_norm: _rms_norm,
            torch.rms_norm: _rms_norm,
            torch.Tensor.unfold: _unfold,
            torch.Tensor.unflatten: _unflatten,
            torch.Tensor.split: _split,
            torch.Tensor.permute: _permute,
            torch.Tensor.movedim: _movedim,
            torch.mean: _mean,
            torch.Tensor.mean: _mean,
            torch.Tensor.mT.__get__: lambda matrix: matrix.transpose(-1, -2),  # type: ignore[attr-defined]
            selective_scan: associative_scan,
            causal_conv: _causal_conv,
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if replacement := self._replaced.get(func):
            with self:
                replaced = replacement(*args, **kwargs)
            if replaced is not NotImplemented:
                return replaced
        if any(isinstance(each, ComplexPair) for each in _flat(args)):
            with self:
                return _on_pairs(func, args, kwargs)
        if adapt := self._adapted.get(func):
            args, kwargs = adapt(*args, **kwargs)
        return func(*args, **kwargs)


def _flat(args: Sequence[Any]) -> Iterator[Any]:
    for each in args:
        if isinstance(each, list | tuple):
            yield from each
        else:
            yield each


@contextmanager
def real_arithmetic() -> Iterator[None]:
    """Within the block, models run with real numbers and simple operators only."""
    compiling = torch.compiler.is_compiling
    torch.compiler.is_compiling = lambda: True  # then models take no block of a fixed size, and no own kernel
    try:
        with torch.enable_grad(), _RealArithmetic():  # with gradients nothing is written in place
            yield
    finally:
        torch.compiler.is_compiling = compiling
