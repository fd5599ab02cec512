"""Recurrent networks over whole sequences, time first.

Hochreiter, Schmidhuber (1997), "Long short-term memory"; multiply-and-concatenate: Nachmani, Adi, Wolf
(2020), "Voice separation with an unknown number of multiple speakers", https://arxiv.org/abs/2003.01531.

Shapes: L steps, M sequences, N features, H hidden units, D directions. Time comes first because the kernels
want it so: other orders are copied there and back, the wide output too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from polsess.models.layers.kernels import recurrent_native
from polsess.models.layers.kernels.recurrent_gradients import run_layer_with_gradients
from polsess.models.layers.kernels.recurrent_native import Direction, Kind
from polsess.models.layers.stream import Stream, run_recurrent

RecurrentName = Literal["LSTM", "GRU", "RNN", "RNN_RELU"]
"""Cells with a memory and three gates, with two gates, and without gates (tanh; relu in SpeechBrain)."""
_ENDS = ("", "_reverse")
"""Of the names of the weights of a layer's directions."""


class LSTM(nn.LSTM):
    """PyTorch's, but on a CPU by a kernel, which lets more sequences share a weight.

    In inference, and under autocast to bfloat16 in training, where the processor multiplies tiles of it.
    """

    def forward(  # type: ignore[override]
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map ``[L, M, N]``, or ``[M, L, N]`` with ``batch_first``, to outputs, last states and cells.

        Args:
            input: The steps.
            hx: The first states and cells, each ``[layers * D, M, H]``; None for zeros.
        """
        if not _is_covered("lstm", self, input, hx or ()):
            output, last = super().forward(input, hx)
            return output, last
        if torch.is_grad_enabled():
            return _run_layers_with_gradients(self, input, hx)
        states, cells = (_kept(self, input, each) for each in hx or (None, None))
        return _run_layers(self, input, states, cells), (states, cells)


class GRU(nn.GRU):
    """PyTorch's, but in inference on a CPU by a kernel: a step of PyTorch's is a dozen small operations."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map ``[L, M, N]``, or ``[M, L, N]`` with ``batch_first``, to the outputs and the last states.

        Args:
            input: The steps.
            hx: The first states ``[layers * D, M, H]``; None for zeros.
        """
        if not _is_covered("gru", self, input, () if hx is None else (hx,)):
            output, last = super().forward(input, hx)
            return output, last
        states = _kept(self, input, hx)
        return _run_layers(self, input, states), states


def _states(rnn: nn.RNNBase, steps: Tensor) -> tuple[int, int, int]:
    """The size of all first states."""
    sequences = steps.shape[0 if rnn.batch_first else 1]
    return rnn.num_layers * (1 + rnn.bidirectional), sequences, rnn.hidden_size


def _is_covered(kind: Kind, rnn: nn.RNNBase, steps: Tensor, first: tuple[Tensor, ...]) -> bool:
    """Whether the kernel takes these: PyTorch runs the rest, and says what is wrong."""
    if not isinstance(steps, Tensor):  # packed sequences
        return False
    if steps.ndim != 3 or not steps.numel() or steps.shape[-1] != rnn.input_size:
        return False
    types = (torch.float32, steps.dtype)
    if any(each.shape != _states(rnn, steps) or each.dtype not in types for each in first):
        return False
    drops = rnn.training and rnn.dropout and not torch.is_grad_enabled()
    plain = rnn.bias and not rnn.proj_size and not drops and rnn.weight_hh_l0.dtype == torch.float32
    return bool(plain and recurrent_native.is_available(kind, steps))


def _kept(rnn: nn.RNNBase, steps: Tensor, first: Tensor | None) -> Tensor:
    """The first states, where the last ones may replace them."""
    if first is None:
        return steps.new_zeros(_states(rnn, steps), dtype=torch.float32)
    return first.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _weights(rnn: nn.RNNBase, layer: int, end: str) -> list[Tensor]:
    """Those of a direction, in the order of ``Direction``."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(rnn, f"{kind}_l{layer}{end}").contiguous() for kind in kinds]


def _run_layers(rnn: nn.LSTM | nn.GRU, steps: Tensor, states: Tensor, cells: Tensor | None = None) -> Tensor:
    """The outputs; the last states replace the first ones."""
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    ends = _ENDS[: 1 + rnn.bidirectional]
    rows_first = partial(torch.transpose, dim0=0, dim1=0 if rnn.batch_first else 1)
    for layer in range(rnn.num_layers):
        output = steps.new_empty(*steps.shape[:2], len(ends) * rnn.hidden_size, dtype=dtype)
        directions = []
        for number, (end, own) in enumerate(zip(ends, output.chunk(len(ends), -1), strict=True)):
            place = layer * len(ends) + number
            cell = None if cells is None else cells[place]
            directions.append(
                Direction(_weights(rnn, layer, end), rows_first(own), states[place], cell, number == 1)
            )
        recurrent_native.run_layer("gru" if cells is None else "lstm", rows_first(steps), directions)
        steps = output
    return steps


def _run_layers_with_gradients(
    rnn: nn.LSTM, steps: Tensor, first: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The outputs, and the last states and cells."""
    ends = _ENDS[: 1 + rnn.bidirectional]
    if first is None:
        zeros = steps.new_zeros(_states(rnn, steps), dtype=torch.float32)
        first = (zeros, zeros)
    last = []
    by_layer = zip(*(each.split(len(ends)) for each in first), strict=True)
    for layer, (states, cells) in enumerate(by_layer):
        if layer:
            steps = functional.dropout(steps, rnn.dropout, rnn.training)
        weights = [each for end in ends for each in _weights(rnn, layer, end)]
        steps, *after = run_layer_with_gradients(steps, rnn.batch_first, states, cells, weights)
        last.append(after)
    last_states, last_cells = (torch.cat(each) for each in zip(*last, strict=True))
    return steps, (last_states, last_cells)


_CELLS: dict[RecurrentName, Callable[..., nn.LSTM | nn.GRU | nn.RNN]] = {
    "LSTM": LSTM,
    "GRU": GRU,
    "RNN": nn.RNN,
    "RNN_RELU": partial(nn.RNN, nonlinearity="relu"),
}


class Recurrent(nn.Module):
    """A stack of recurrent layers that starts from zeros.

    Args:
        cell: The kind of cell.
        input_size: N.
        hidden_size: H.
        num_layers: Layers on top of each other.
        bidirectional: Whether every layer also runs backwards; D is then 2.
        dropout: Share of activations dropped between layers in training.
    """

    def __init__(
        self,
        cell: RecurrentName,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size = (1 + bidirectional) * hidden_size
        self.rnn = _CELLS[cell](
            input_size,
            hidden_size,
            num_layers,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
        )

    def forward(self, steps: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[L, M, N]`` to ``[L, M, D * H]``; a stream goes on from its last state."""
        return run_recurrent(stream, self.rnn, steps)


class MultiplicativeRecurrent(nn.Module):
    """The product of two recurrent stacks beside their input; arguments as ``Recurrent``."""

    def __init__(
        self,
        cell: RecurrentName,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.factors = nn.ModuleList(
            Recurrent(cell, input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=dropout)
            for _ in range(2)
        )
        self.output_size = (1 + bidirectional) * hidden_size + input_size

    def forward(self, steps: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[L, M, N]`` to ``[L, M, D * H + N]``; a stream goes on from its last state."""
        first, second = self.factors
        return torch.cat([first(steps, stream) * second(steps, stream), steps], dim=-1)
