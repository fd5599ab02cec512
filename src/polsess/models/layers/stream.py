"""What the layers of a causal network remember of a stream, so that pieces of it give what the whole would.

A layer that looks back takes a ``Stream`` as an optional argument. Without one it sees a whole signal that
begins with zeros; with one, the place of the zeros is taken by what the layer kept of the piece before.

Shapes: B batch, L frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

StreamState = dict[str, Tensor]
"""Everything that a network remembers between two pieces, by layer; tensors of shapes that never change."""


class Stream:
    """The memory of all layers during one piece of a stream.

    Args:
        names: The name of every layer that may remember.
        past: What was kept of the piece before; None at the beginning.
        num_real: Frames of this piece that are of the sound; those behind are beyond its end. None for all;
            a whole number in a tensor for graphs.
    """

    def __init__(
        self,
        names: Mapping[nn.Module, str],
        past: StreamState | None = None,
        num_real: int | Tensor | None = None,
    ) -> None:
        self._names, self._past, self._num_real = names, past, num_real
        self.initial: StreamState = {}
        """What the layers that were asked had begun with, had there been no past."""
        self.kept: StreamState = dict(past or {})
        """What the next piece needs."""

    def take(self, layer: nn.Module, what: str, initial: Tensor) -> Tensor:
        """What a layer kept last under a name, in this piece or before it; else what it begins with."""
        key = self._key(layer, what)
        self.initial.setdefault(key, initial)
        return self.kept.get(key, initial)

    def keep(self, layer: nn.Module, what: str, tensor: Tensor) -> None:
        """Keep a tensor of a layer for the next piece."""
        self.kept[self._key(layer, what)] = tensor.clone()

    def join(self, layer: nn.Module, piece: Tensor, count: int, dim: int = -1, what: str = "past") -> Tensor:
        """The piece with the last ``count`` steps before it, which were zeros at the beginning.

        Args:
            layer: Whose input it is.
            piece: The next steps.
            count: How many earlier ones are put before them.
            dim: The dimension of the steps.
            what: The name of the memory.
        """
        shape = list(piece.shape)
        shape[dim] = count
        joined = torch.cat([self.take(layer, what, piece.new_zeros(shape)), piece], dim)
        self.keep(layer, what, joined.narrow(dim, joined.shape[dim] - count, count))
        return joined

    def delay(self, layer: nn.Module, steps: Tensor, count: int, what: str = "waiting") -> Tensor:
        """As many steps as came, those of ``count`` steps earlier; steps are the last dimension."""
        return self.join(layer, steps, count, what=what)[..., : steps.shape[-1]] if count else steps

    def overlap(
        self, layer: nn.Module, sums: Tensor, count: int, dim: int = -1, what: str = "sums"
    ) -> Tensor:
        """Sums of overlapping pieces that are complete: the last ``count`` wait for the next piece.

        Args:
            layer: Whose output it is.
            sums: Contributions of this piece.
            count: Steps at the end that later pieces add to.
            dim: The dimension of the steps.
            what: The name of the memory.
        """
        shape = list(sums.shape)
        shape[dim] = count
        waiting = self.take(layer, what, sums.new_zeros(shape))
        complete = sums.shape[dim] - count
        sums = torch.cat([sums.narrow(dim, 0, count) + waiting, sums.narrow(dim, count, complete)], dim)
        self.keep(layer, what, sums.narrow(dim, complete, count))
        return sums.narrow(dim, 0, complete)

    def run(self, rnn: nn.RNNBase, steps: Tensor) -> Tensor:
        """The outputs of a forward recurrent network that goes on from its last state."""
        sequences = steps.shape[0 if rnn.batch_first else 1]
        zeros = steps.new_zeros(rnn.num_layers, sequences, rnn.hidden_size)
        hidden = self.take(rnn, "hidden", zeros)
        if isinstance(rnn, nn.LSTM):
            outputs, (hidden, cell) = rnn(steps, (hidden, self.take(rnn, "cell", zeros)))
            self.keep(rnn, "cell", cell)
        else:
            outputs, hidden = rnn(steps, hidden)
        self.keep(rnn, "hidden", hidden)
        return outputs

    def real(self, frames: Tensor, dim: int) -> Tensor:
        """The frames of a piece, zero where they are beyond the end of the sound."""
        if isinstance(self._num_real, Tensor):
            steps = torch.arange(frames.shape[dim], device=frames.device)
            return frames * (steps < self._num_real).view(-1, *[1] * (frames.ndim - 1 - dim % frames.ndim))
        if self._num_real is None or self._num_real >= frames.shape[dim]:
            return frames
        frames = frames.clone()
        frames.narrow(dim, self._num_real, frames.shape[dim] - self._num_real).zero_()
        return frames

    def _key(self, layer: nn.Module, what: str) -> str:
        return f"{self._names[layer]}.{what}".lstrip(".")


def with_past(stream: Stream | None, layer: nn.Module, steps: Tensor, count: int, dim: int = -1) -> Tensor:
    """Steps with ``count`` earlier ones before them: of the stream, or zeros without one."""
    if stream is not None:
        return stream.join(layer, steps, count, dim)
    shape = list(steps.shape)
    shape[dim] = count
    return torch.cat([steps.new_zeros(shape), steps], dim)


def run_recurrent(stream: Stream | None, rnn: nn.Module, steps: Tensor) -> Tensor:
    """The outputs of a forward recurrent network, from its last state on in a stream, else from zeros."""
    if stream is not None:
        assert isinstance(rnn, nn.RNNBase)
        return stream.run(rnn, steps)
    outputs: Tensor = rnn(steps)[0]
    return outputs
