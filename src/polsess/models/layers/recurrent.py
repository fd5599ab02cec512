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

from polsess.models.layers.kernels import gru_native
from polsess.models.layers.products import linear
from polsess.models.layers.stream import Stream, run_recurrent

RecurrentName = Literal["LSTM", "GRU", "RNN", "RNN_RELU"]
"""Cells with a memory and three gates, with two gates, and without gates (tanh; relu in SpeechBrain)."""


class GRU(nn.GRU):
    """PyTorch's, but in inference on a CPU by a kernel: a step of PyTorch's is a dozen small operations."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map ``[L, M, N]``, or ``[M, L, N]`` with ``batch_first``, to the outputs and the last states.

        Args:
            input: The steps.
            hx: The first states ``[layers * D, M, H]``; None for zeros.
        """
        if not self._is_covered(input, hx):
            output, last = super().forward(input, hx)
            return output, last
        if hx is None:
            states = input.new_zeros(self._states(input))
        else:
            states = hx.clone(memory_format=torch.contiguous_format)
        for layer in range(self.num_layers):
            input = self._run_layer(layer, input, states)
        return input, states

    def _states(self, steps: Tensor) -> tuple[int, int, int]:
        """The size of all first states."""
        sequences = steps.shape[0 if self.batch_first else 1]
        return self.num_layers * (1 + self.bidirectional), sequences, self.hidden_size

    def _is_covered(self, steps: Tensor, first: Tensor | None) -> bool:
        if not isinstance(steps, Tensor):  # packed sequences
            return False
        if steps.ndim != 3 or not steps.numel():
            return False
        if first is not None and (first.shape, first.dtype) != (self._states(steps), steps.dtype):
            return False  # PyTorch says what is wrong with them
        drops = self.training and self.dropout
        return bool(self.bias and not drops and gru_native.is_available(steps))

    def _run_layer(self, layer: int, steps: Tensor, states: Tensor) -> Tensor:
        names = [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]
        output = steps.new_empty(*steps.shape[:2], len(names) * self.hidden_size)
        directions = []
        for number, name in enumerate(names):
            weights = [getattr(self, f"{which}_{name}") for which in ("weight_ih", "bias_ih")]
            own = output[..., number * self.hidden_size :][..., : self.hidden_size]
            gates = linear(steps, *weights)
            if not self.batch_first:
                gates, own = gates.transpose(0, 1), own.transpose(0, 1)
            directions.append(
                gru_native.Direction(
                    gates,
                    getattr(self, f"weight_hh_{name}"),
                    getattr(self, f"bias_hh_{name}"),
                    own,
                    states[layer * len(names) + number],
                    reverse=number == 1,
                )
            )
        gru_native.run_layer(directions)
        return output


_CELLS: dict[RecurrentName, Callable[..., nn.LSTM | nn.GRU | nn.RNN]] = {
    "LSTM": nn.LSTM,
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
