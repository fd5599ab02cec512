"""Recurrent stacks against their equations, one sequence, one step and one direction at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polsess.models.layers.recurrent import MultiplicativeRecurrent, Recurrent, RecurrentName


def naive_step(cell: RecurrentName, inputs: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """``inputs`` and ``hidden`` are already multiplied by their matrices, ``[gates, H]``."""
    if cell == "LSTM":
        enter, forget, new, leave = inputs + hidden
        memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * memory.tanh(), memory
    if cell == "GRU":
        reset, update = (inputs[:2] + hidden[:2]).sigmoid()
        new = (inputs[2] + reset * hidden[2]).tanh()
        return (1 - update) * new + update * memory, (1 - update) * new + update * memory
    total = (inputs + hidden)[0]
    return (total.tanh(), memory) if cell == "RNN" else (total.relu(), memory)


def naive(cell: RecurrentName, rnn: nn.RNNBase, sequence: Tensor) -> Tensor:
    """One sequence ``[L, N]`` through all layers and directions."""
    for layer in range(rnn.num_layers):
        directions = []
        for suffix in ("", "_reverse")[: 1 + rnn.bidirectional]:
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            w_in, w_rec, b_in, b_rec = (getattr(rnn, f"{name}_l{layer}{suffix}") for name in names)
            hidden = memory = torch.zeros(rnn.hidden_size, dtype=sequence.dtype)
            outputs = []
            for step in sequence.flip(0) if suffix else sequence:
                parts = [(w @ x + b).view(-1, rnn.hidden_size) for w, x, b in
                         ((w_in, step, b_in), (w_rec, hidden, b_rec))]  # fmt: skip
                hidden, memory = naive_step(cell, parts[0], parts[1], memory)
                outputs.append(hidden)
            joined = torch.stack(outputs)
            directions.append(joined.flip(0) if suffix else joined)
        sequence = torch.cat(directions, -1)
    return sequence


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN", "RNN_RELU"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_equations(cell: RecurrentName, bidirectional: bool) -> None:
    recurrent = Recurrent(cell, 3, 4, 2, bidirectional=bidirectional).double()
    steps = torch.randn(6, 2, 3, dtype=torch.float64)
    expected = torch.stack([naive(cell, recurrent.rnn, steps[:, index]) for index in range(2)], 1)
    assert recurrent.output_size == expected.shape[-1]
    torch.testing.assert_close(recurrent(steps), expected)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_multiply_and_concatenate(bidirectional: bool) -> None:
    recurrent = MultiplicativeRecurrent("GRU", 3, 4, bidirectional=bidirectional)
    steps = torch.randn(5, 2, 3)
    output = recurrent(steps)
    assert output.shape[-1] == recurrent.output_size
    first, second = (factor(steps) for factor in recurrent.factors)
    torch.testing.assert_close(output[..., :-3], first * second)
    assert torch.equal(output[..., -3:], steps)


def test_dropout_acts_between_layers_in_training_only() -> None:
    recurrent = Recurrent("LSTM", 3, 4, 2, dropout=0.5)
    steps = torch.randn(5, 2, 3)
    assert not torch.equal(recurrent(steps), recurrent(steps))
    recurrent.eval()
    assert torch.equal(recurrent(steps), recurrent(steps))
