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

from polsess.models.layers.stream import Stream, run_recurrent

RecurrentName = Literal["LSTM", "GRU", "RNN", "RNN_RELU"]
"""Cells with a memory and three gates, with two gates, and without gates (tanh; relu in SpeechBrain)."""

_CELLS: dict[RecurrentName, Callable[..., nn.LSTM | nn.GRU | nn.RNN]] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
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
