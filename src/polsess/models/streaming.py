"""Causal networks that estimate piece by piece, as the sound comes in: the protocol and who follows it.

A stream begins with ``begin_stream`` and goes on with ``stream``, a whole number of ``stream_step`` samples
at a time; all memory is in the state that goes in and comes out, tensors of shapes that never change.

Shapes: B batch, C sources, n samples.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from polsess.models.base import SeparationModel
from polsess.models.layers.stream import Stream, StreamState


class StreamingModel(SeparationModel):
    """A network that can stream where its configuration is causal.

    What comes out of ``stream`` is late by ``stream_delay`` samples: as many of the first ones are before the
    sound and mean nothing.
    """

    causal_options: ClassVar[str]
    """The options that make a configuration causal, for messages."""

    @property
    def stream_obstacle(self) -> str:
        """Why this configuration cannot stream and what to choose instead; empty where it can."""
        return "" if self.causal else f"it looks ahead without limit; {self.causal_options} makes one causal"

    @property
    def stream_head(self) -> int:
        """Samples from the beginning that ``begin_stream`` needs."""
        return self.minimum_samples

    @property
    @abstractmethod
    def stream_lead(self) -> int:
        """Samples of the head that the first step does not get again, because the state holds them."""

    @property
    def stream_step(self) -> int:
        """Samples of which ``stream`` takes a multiple."""
        return self.hop_length

    @property
    @abstractmethod
    def stream_delay(self) -> int:
        """Samples by which the outputs of a step lag behind its inputs but for the lead."""

    @property
    def stream_latency(self) -> int:
        """The most samples behind a sample that must have come before its estimate is given."""
        return self.stream_lead + self.stream_delay + self.stream_step - 1

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Frames that a whole signal of at least ``minimum_samples`` has."""

    def end_padding(self, recent: Tensor) -> Tensor:
        """Samples behind the end of the sound, beyond which there are zeros.

        Args:
            recent: The last ``minimum_samples`` samples, ``[B, n]``.
        """
        return recent[:, :0]

    @torch.no_grad()
    def begin_stream(self, head: Tensor) -> StreamState:
        """The state before the first step.

        Args:
            head: The first ``stream_head`` samples, ``[B, stream_head]``.
        """
        start = Stream(self.layer_names)
        self.stream_piece(head.new_zeros(len(head), self.stream_step), start)
        return start.initial

    def stream(
        self, samples: Tensor, state: StreamState, num_real: int | Tensor | None = None
    ) -> tuple[Tensor, StreamState]:
        """One step.

        Args:
            samples: The next samples, ``[B, n]`` with n a multiple of ``stream_step``.
            state: What the step before, or ``begin_stream``, returned; it is left as it is.
            num_real: Frames of the step that a whole signal would have, at its end; None for all, a whole
                number in a tensor for graphs.

        Returns:
            Estimates ``[B, C, n]``, late by ``stream_delay``, and the next state.
        """
        stream = Stream(self.layer_names, state, num_real)
        return self.stream_piece(samples, stream), stream.kept

    @abstractmethod
    def stream_piece(self, samples: Tensor, stream: Stream) -> Tensor:
        """Estimates of a piece with the memory in ``stream``, ``[B, n]`` -> ``[B, C, n]``."""

    def for_graphs(self) -> StreamingModel:
        """The model as it streams in a graph, which takes the same way in every step: as everywhere."""
        return self

    @cached_property
    def layer_names(self) -> Mapping[nn.Module, str]:
        """The name of every layer, under which it is remembered."""
        return {module: name for name, module in self.named_modules()}


def check_streams(model: SeparationModel) -> StreamingModel:
    """The model, if it can stream.

    Raises:
        ValueError: If it cannot; the message says which option or which other model can.
    """
    name = model.config.model_type
    if not isinstance(model, StreamingModel):
        raise ValueError(
            f"{name} sees whole recordings in every configuration and cannot stream; choose one that "
            "`polsess models` calls causal or can be."
        )
    if model.stream_obstacle:
        raise ValueError(f"{name} cannot stream: {model.stream_obstacle}.")
    return model
