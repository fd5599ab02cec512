"""SkiM: an LSTM within each segment whose state passes through an LSTM across the segments.

Li, Yang, Zhang, Qian (2022), "SkiM: skipping memory LSTM for low-latency real-time continuous speech
separation", https://arxiv.org/abs/2201.10800. Weights of ESPnet's and SpeechBrain's layouts load; unlike in
the latter, the items of a batch do not see each other.

Shapes: B batch, N features, H hidden units, D directions, K segment length, S segments.
"""

from __future__ import annotations

import copy
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.blocks import into_first
from polsess.models.layers.dual_path import Chunking
from polsess.models.layers.norms import create_token_norm
from polsess.models.layers.products import Linear
from polsess.models.layers.recurrent import LSTM
from polsess.models.layers.segment_masking import SegmentMaskingConfig, SegmentMaskingModel
from polsess.models.layers.stream import Stream, run_recurrent
from polsess.models.registry import register_model

State = tuple[Tensor, Tensor]
"""Hidden and cell state of an LSTM, each ``[D, B * S, H]``."""

SegmentNormName = Literal["gLN", "cLN", "bN"]
"""Normalisations after an LSTM."""

_EPS = 2.0**-23  # of all norms; the published configuration was trained with it


class SkiMConfig(SegmentMaskingConfig):
    """Skipping-memory LSTMs; the defaults are SpeechBrain's configuration for WSJ0-2mix."""

    model_type: Literal["skim"] = "skim"
    num_blocks: int = Field(default=4, ge=1, le=256)
    """Segment LSTMs; with one memory LSTM between two of them."""
    hidden_size: int = Field(default=256, ge=1, le=16384)
    """H, units of each direction."""
    bidirectional: bool = True
    """Whether the LSTMs also run backwards. A causal model needs False, and the norm cLN."""
    norm: SegmentNormName = "gLN"
    """The normalisation after each LSTM, over its sequence (gLN), per step (cLN) or by the batch (bN)."""
    memory_norm: SegmentNormName | None = None
    """The normalisation after each memory LSTM; None for the same as after those of segments."""
    overlap: bool = False
    """Whether segments overlap by half; their outputs are summed."""
    memory: Literal["hc", "h", "c", "id", "none"] = "hc"
    """Initial state of a segment's LSTM: from memory LSTMs of hidden and cell state, from one of them with
    the other zero, the final states of the block before, or zeros."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the segment LSTMs' outputs dropped in training."""
    memory_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the memory LSTMs' outputs dropped in training."""

    @model_validator(mode="after")
    def _segments_can_overlap(self) -> Self:
        if self.overlap and self.segment_size < 2:
            raise ValueError("overlap needs a segment_size of at least 2")
        return self


class SegmentLSTM(nn.Module):
    """An LSTM over the frames of a segment, with a projection, a normalisation and a residual connection.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: SkiMConfig) -> None:
        super().__init__()
        directions = 1 + config.bidirectional
        self.lstm = LSTM(
            config.num_filters, config.hidden_size, batch_first=True, bidirectional=config.bidirectional
        )
        self.dropout = nn.Dropout(config.dropout)
        self.project = Linear(directions * config.hidden_size, config.num_filters)
        self.norm = create_token_norm(config.norm, config.num_filters, _EPS)

    def forward(self, segments: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Process segments, in inference in place.

        Args:
            segments: ``[B * S, K, N]``.
            state: Initial state of each segment; None for zeros.

        Returns:
            ``[B * S, K, N]``, and the state at the end of each segment.
        """
        hidden, state = self.lstm(segments, state)
        change = self.norm(self.project(self.dropout(hidden)))
        return into_first(torch.add, segments, change), state


class MemoryLSTM(nn.Module):
    """An LSTM over the final states of the segments, with a projection, a normalisation and a residual.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: SkiMConfig) -> None:
        super().__init__()
        features = (1 + config.bidirectional) * config.hidden_size  # D * H
        self.lstm = LSTM(features, config.hidden_size, batch_first=True, bidirectional=config.bidirectional)
        self.dropout = nn.Dropout(config.memory_dropout)
        self.project = Linear(features, features)
        self.norm = create_token_norm(config.memory_norm or config.norm, features, _EPS)

    def forward(self, states: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[B, S, D * H]`` to ``[B, S, D * H]``; a stream remembers the segments before these."""
        hidden = run_recurrent(stream, self.lstm, states)
        return states + self.norm(self.project(self.dropout(hidden)))


class Memory(nn.Module):
    """From the states at the end of the segments to those at their beginning in the next block.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: SkiMConfig) -> None:
        super().__init__()
        self.kind = config.memory
        self.bidirectional = config.bidirectional
        self.hidden = MemoryLSTM(config) if config.memory in ("h", "hc") else None
        self.cell = MemoryLSTM(config) if config.memory in ("c", "hc") else None

    def forward(self, state: State, num_segments: int, stream: Stream | None = None) -> State | None:
        """Pass states on.

        Args:
            state: At the end of each segment.
            num_segments: S.
            stream: Memory of the segments before these.

        Returns:
            Initial state of each segment; None for zeros.
        """
        if self.kind == "none":
            return None
        passed = self.pass_on(state, num_segments, stream)
        if self.bidirectional:
            return passed
        # A segment may start with what earlier segments ended with.
        shifted = [
            self._shift(each, num_segments, what, stream) for each, what in zip(passed, "hc", strict=True)
        ]
        return shifted[0], shifted[1]

    def pass_on(self, state: State, num_segments: int, stream: Stream | None = None) -> State:
        """What each segment's end, and earlier ones, say about the next segment's beginning."""
        if self.kind == "none":
            return torch.zeros_like(state[0]), torch.zeros_like(state[1])
        hidden, cell = state
        return (
            self._pass(hidden, self.hidden, num_segments, stream),
            self._pass(cell, self.cell, num_segments, stream),
        )

    def _pass(
        self, state: Tensor, memory: MemoryLSTM | None, num_segments: int, stream: Stream | None
    ) -> Tensor:
        if memory is None:
            return state if self.kind == "id" else torch.zeros_like(state)
        directions = len(state)
        states = state.transpose(0, 1).reshape(-1, num_segments, directions * state.shape[-1])  # [B, S, DH]
        states = memory(states, stream)
        return states.reshape(-1, directions, state.shape[-1]).transpose(0, 1).contiguous()

    def _shift(self, state: Tensor, num_segments: int, what: str, stream: Stream | None) -> Tensor:
        """States ``[1, B * S, H]`` one segment later, the first from the stream or zero."""
        states = state[0].unflatten(0, (-1, num_segments))  # [B, S, H]
        if stream is None:
            shifted = F.pad(states, (0, 0, 1, -1))
        else:
            shifted = stream.join(self, states, 1, 1, what)[:, :-1]
        return shifted.flatten(0, 1).unsqueeze(0).contiguous()


@register_model("skim", SkiMConfig)
class SkiM(SegmentMaskingModel):
    """Masks from segments of frames that know each other by the states of their LSTMs only."""

    config: SkiMConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"
    causal_options = "bidirectional: false with norm: cLN"
    presets = {
        "tiny": {"num_filters": 12, "segment_size": 20, "num_blocks": 2, "hidden_size": 8},
        "skim-wsj02mix": {},
        "skim-causal": {"bidirectional": False, "norm": "cLN"},
    }

    def __init__(self, config: SkiMConfig) -> None:
        super().__init__(config)
        self.segment_models = nn.ModuleList(SegmentLSTM(config) for _ in range(config.num_blocks))
        self.memories = nn.ModuleList(Memory(config) for _ in range(config.num_blocks - 1))
        self._waits_for_segments = False

    @property
    def causal(self) -> bool:
        """Whether the LSTMs run forwards only and no norm looks at the whole utterance."""
        norm = self.config.memory_norm or self.config.norm
        normalized_memory = self.config.memory in ("hc", "h", "c") and self.config.num_blocks > 1
        return not self.config.bidirectional and not (norm == "gLN" and normalized_memory)

    @property
    def look_ahead_samples(self) -> int | None:
        """The rest of the segment where a norm sees it, half of it where a memory overlaps with it."""
        if not self.causal:
            return None
        if self.config.norm == "gLN":
            return self.segment_look_ahead
        remembers = self.config.overlap and self.config.memory != "none" and self.config.num_blocks > 1
        frames = (self.config.segment_size - 1) // 2 if remembers else 0
        return frames * self.hop_length + self.frame_look_ahead

    def segmentation(self, num_frames: int) -> Chunking:
        if self.config.overlap:
            return Chunking.half_overlapping(num_frames, self.config.segment_size)
        return super().segmentation(num_frames)

    @property
    def frames_per_step(self) -> int:
        """One, where frames need not wait for the rest of their segment."""
        return 1 if self._goes_by_frames else super().frames_per_step

    def for_graphs(self) -> SkiM:
        """By whole segments, since what happens where one ends is a branch; the latency is a segment more."""
        model = copy.deepcopy(self)
        model._waits_for_segments = True
        return model

    @property
    def _goes_by_frames(self) -> bool:
        return not (self.config.overlap or self.config.norm == "gLN" or self._waits_for_segments)

    def process_segments(self, segments: Tensor, stream: Stream | None = None) -> Tensor:
        num_segments = segments.shape[1]
        frames, state = self.segment_models[0](segments.flatten(0, 1), None)
        for memory, segment_model in zip(self.memories, self.segment_models[1:], strict=True):
            frames, state = segment_model(frames, memory(state, num_segments, stream))
        return frames.view(segments.shape)

    def process_frames(self, frames: Tensor, stream: Stream | None) -> Tensor:
        """As the base class does; a stream goes on within a segment where the configuration lets it."""
        if stream is None or not self._goes_by_frames:
            return super().process_frames(frames, stream)
        size, outputs = self.config.segment_size, []
        while frames.shape[1]:
            place = stream.take(self, "place", torch.zeros(1, dtype=torch.int64, device=frames.device))
            piece, frames = frames.tensor_split([size - int(place)], 1)
            place = (place + piece.shape[1]) % size
            outputs.append(self._continue_segment(piece.clone(), stream, ends=not place))
            stream.keep(self, "place", place)
        return torch.cat(outputs, 1)

    def _continue_segment(self, frames: Tensor, stream: Stream, *, ends: bool) -> Tensor:
        """Frames ``[B, L, N]`` of one segment; where it ends, states are passed on to the next."""
        zeros = frames.new_zeros(1, frames.shape[0], self.config.hidden_size)
        begins = (zeros, zeros)
        for index, model in enumerate(self.segment_models):
            state = stream.take(model, "hidden", zeros), stream.take(model, "cell", zeros)
            frames, state = model(frames, state)
            hidden, cell = begins if ends else state
            stream.keep(model, "hidden", hidden)
            stream.keep(model, "cell", cell)
            if ends and index < len(self.memories):
                memory = self.memories[index]
                assert isinstance(memory, Memory)
                begins = memory.pass_on(state, 1, stream)
        return frames
