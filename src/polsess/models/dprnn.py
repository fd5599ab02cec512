"""DPRNN: masks on a learned filterbank from recurrent networks within and across chunks.

Luo, Chen, Yoshioka (2020), "Dual-path RNN: efficient long sequence modeling for time-domain single-channel
speech separation", https://arxiv.org/abs/1910.06379. Published weights are Asteroid's and SpeechBrain's.

Shapes: B batch, C sources, T samples, N filters, L frames, H channels, K chunk length, S chunks.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.layers.blocks import into_first
from polsess.models.layers.dual_path import Chunking
from polsess.models.layers.filterbank_model import ChosenFilterbankConfig, StreamedMasking
from polsess.models.layers.masks import ChunkMasks, MaskActivation
from polsess.models.layers.norms import NOT_CAUSAL, NormName, create_norm, create_token_norm, normalise
from polsess.models.layers.products import Linear
from polsess.models.layers.recurrent import MultiplicativeRecurrent, Recurrent, RecurrentName
from polsess.models.layers.stream import Stream, StreamState
from polsess.models.registry import register_model
from polsess.schema import Schema


class AcrossChunks(Schema):
    """Options of the recurrent networks across chunks; None for the option of those within chunks."""

    rnn_type: RecurrentName | None = None
    """Their cell."""
    hidden_size: int | None = Field(default=None, ge=1, le=16384)
    """Units of each direction."""
    num_layers: int | None = Field(default=None, ge=1, le=64)
    """Layers of each network."""
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of activations dropped between layers in training."""


class DPRNNConfig(ChosenFilterbankConfig):
    """The defaults are the paper's network with its longest filters; ``paper`` has the shortest."""

    model_type: Literal["dprnn"] = "dprnn"
    num_filters: int = Field(default=64, ge=1, le=16384)
    bottleneck_channels: int = Field(default=64, ge=1, le=16384)
    """H, channels between the recurrent networks."""
    bottleneck_bias: bool = True
    """Whether the map from filters to channels has a bias; SpeechBrain's has none."""
    hidden_size: int = Field(default=128, ge=1, le=16384)
    """Units of each direction of a recurrent network."""
    num_layers: int = Field(default=1, ge=1, le=64)
    """Layers of each recurrent network."""
    rnn_type: RecurrentName = "LSTM"
    """The cell of all recurrent networks."""
    multiplicative: bool = False
    """Whether two networks are multiplied and their input is appended (multiply-and-concatenate)."""
    intra_bidirectional: bool = True
    """Whether networks within chunks also run backwards."""
    inter_bidirectional: bool = True
    """Whether networks across chunks also run backwards. False with a norm other than gLN is causal, with a
    look-ahead of one chunk; of one filter, when ``intra_bidirectional`` is False and the norm is cLN."""
    linear_after_rnn: bool = True
    """Whether a linear map follows each recurrent network, whose width is then free."""
    skip_around_intra: bool = True
    """Whether the input of the network within chunks is added to its output."""
    num_blocks: int = Field(default=6, ge=1, le=64)
    """Pairs of a network within and one across chunks."""
    chunk_size: int = Field(default=100, ge=2)
    """K, frames of a chunk."""
    hop_size: int | None = Field(default=None, ge=1)
    """Frames between chunks; None for half a chunk."""
    chunk_padding: Literal["chunk", "half"] = "chunk"
    """Zeros around the frames: a whole chunk (Asteroid) or half of one (SpeechBrain), which fixes the hop."""
    norm: NormName | None = "gLN"
    """The normalisation of the encoder's output and after each network; None needs an input_norm."""
    input_norm: NormName | None = None
    """The normalisation of the encoder's output; None for the same as after each network."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations dropped between layers of a recurrent network in training."""
    mask_activation: MaskActivation = "sigmoid"
    across: AcrossChunks = AcrossChunks()
    """Options in which the networks across chunks differ from those within."""

    @property
    def first_norm(self) -> NormName | None:
        """The normalisation of the encoder's output."""
        return self.input_norm or self.norm

    @property
    def paths(self) -> tuple[DPRNNConfig, DPRNNConfig]:
        """Configurations whose ``rnn_type``, sizes and ``dropout`` are those within and across chunks."""
        return self, self.model_copy(update=self.across.model_dump(exclude_none=True))

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.chunk_padding == "half" and self.hop_size is not None:
            raise ValueError("chunk_padding 'half' has a hop of half a chunk; leave hop_size out")
        if (self.hop_size or 1) > self.chunk_size:
            raise ValueError(f"hop_size {self.hop_size} skips frames of chunk_size {self.chunk_size}")
        if self.first_norm is None:
            raise ValueError("norm null needs an input_norm, e.g. bN")
        for path in self.paths:
            if path.dropout and path.num_layers == 1:
                raise ValueError("dropout acts between layers; with num_layers 1 leave it 0")
        if not self.linear_after_rnn:
            self._check_widths()
        return self

    def _check_widths(self) -> None:
        directions = (self.intra_bidirectional, self.inter_bidirectional)
        for path, direction in zip(self.paths, directions, strict=True):
            width = (1 + direction) * path.hidden_size + self.multiplicative * self.bottleneck_channels
            if width != self.bottleneck_channels:
                raise ValueError(
                    f"without linear_after_rnn a recurrent network's {width} outputs must be the "
                    f"{self.bottleneck_channels} bottleneck_channels"
                )

    def chunking(self, num_frames: int) -> Chunking:
        """The chunks of ``num_frames`` frames."""
        if self.chunk_padding == "half":
            return Chunking.half_overlapping(num_frames, self.chunk_size)
        return Chunking.strided(num_frames, self.chunk_size, self.hop_size or self.chunk_size // 2)


_ASTEROID: dict[str, Any] = {"bottleneck_channels": 128}
_ASTEROID_KS2: dict[str, Any] = {**_ASTEROID, "kernel_size": 2, "chunk_size": 250}
_SPEECHBRAIN: dict[str, Any] = {
    "encoder_activation": "relu",
    "bottleneck_bias": False,
    "chunk_padding": "half",
    "mask_activation": "relu",
}


@register_model("dprnn", DPRNNConfig)
class DPRNN(StreamedMasking):
    """Encoder, blocks of one recurrent network within and one across chunks, masks, decoder."""

    config: DPRNNConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"
    causal_options = "inter_bidirectional: false with norm: cgLN"
    presets = {
        "tiny": {
            "num_filters": 12,
            "kernel_size": 8,
            "bottleneck_channels": 10,
            "hidden_size": 8,
            "num_blocks": 2,
            "chunk_size": 20,
        },
        "paper": {"kernel_size": 2, "chunk_size": 250},
        "causal": {"kernel_size": 2, "chunk_size": 250, "inter_bidirectional": False, "norm": "cgLN"},
        "DPRNNTasNet-ks16_WHAM_sepclean": _ASTEROID,
        "DPRNNTasNet-ks2_WHAM_sepclean": _ASTEROID_KS2,
        "DPRNNTasNet-ks2_Libri1Mix_enhsingle_16k": {
            **_ASTEROID_KS2,
            "num_sources": 1,
            "sample_rate": 16000,
        },
        "dprnn-wsj02mix": {
            **_SPEECHBRAIN,
            "num_filters": 256,
            "bottleneck_channels": 256,
            "hidden_size": 256,
            "chunk_size": 250,
        },
        "report": _SPEECHBRAIN,
    }

    def __init__(self, config: DPRNNConfig) -> None:
        super().__init__(config)
        filters, channels = config.num_filters, config.bottleneck_channels
        self.encoder = config.create_encoder(config.encoder_activation)
        assert config.first_norm is not None
        self.input_norm = create_norm(config.first_norm, filters)
        self.bottleneck = Linear(filters, channels, bias=config.bottleneck_bias)
        self.blocks = nn.ModuleList(DualPathBlock(config) for _ in range(config.num_blocks))
        self.to_masks = ChunkMasks(channels, channels, config.num_sources, filters, config.mask_activation)
        self.decoder = config.create_decoder()

    @property
    def causal(self) -> bool:
        """Whether neither networks across chunks nor norms nor masks see the future beyond a chunk."""
        norms = {self.config.norm, self.config.first_norm}
        seers = (norms & NOT_CAUSAL, self.config.mask_activation == "frame_softmax")
        return not (self.config.inter_bidirectional or any(seers))

    @property
    def look_ahead_samples(self) -> int | None:
        """The rest of the last frame that overlaps a sample, and of its chunk where a chunk is seen whole."""
        if not self.causal:
            return None
        whole_chunk = self.config.intra_bidirectional or self.config.norm == "cgLN"
        frames = self.config.chunk_size - 1 if whole_chunk else 0
        return frames * self.hop_length + self.frame_look_ahead

    @property
    def delayed_frames(self) -> int:
        return self._stream_chunking.context

    @property
    def frames_per_step(self) -> int:
        return self._stream_chunking.period

    @property
    def _stream_chunking(self) -> Chunking:
        return self.config.chunking(self.config.chunk_size)

    def begin_stream(self, head: Tensor) -> StreamState:
        """The state before the first step, behind the chunk of padding that comes before the sound."""
        state = super().begin_stream(head)
        stream, chunking = Stream(self.layer_names, state), self._stream_chunking
        rounds = (chunking.padding - chunking.context) // chunking.period
        if rounds:
            sizes = (len(head), rounds, chunking.chunk_size, self.config.bottleneck_channels)
            with torch.no_grad():
                self._process(head.new_zeros(sizes), stream)
        return stream.kept

    def estimate_masks(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        frames = self.bottleneck(normalise(self.input_norm, features, stream).mT)  # [B, L, H]
        chunking = self.config.chunking(frames.shape[1]).streamed(stream, self)
        return self.to_masks(self._process(chunking.segment(frames), stream), chunking)

    def _process(self, chunks: Tensor, stream: Stream | None) -> Tensor:
        """Map chunks ``[B, S, K, H]`` to ``[B, S, K, H]``."""
        for block in self.blocks:
            chunks = block(chunks, stream)
        return chunks


class DualPathBlock(nn.Module):
    """A recurrent network within chunks, then one across them, each normalised and with a residual.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: DPRNNConfig) -> None:
        super().__init__()
        self.skip_around_intra = config.skip_around_intra
        within, across = config.paths
        self.intra = _create_path(within, config.intra_bidirectional)
        self.intra_norm = create_token_norm(config.norm, config.bottleneck_channels)
        self.inter = _create_path(across, config.inter_bidirectional)
        self.inter_norm = create_token_norm(config.norm, config.bottleneck_channels)

    def forward(self, chunks: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[B, S, K, H]`` to ``[B, S, K, H]``, in inference in place; a stream has the chunks before."""
        num_items, num_chunks, chunk_size = chunks.shape[:3]
        steps = chunks.permute(2, 0, 1, 3).flatten(1, 2)  # [K, B * S, H]
        intra = self.intra(steps).unflatten(1, (num_items, num_chunks)).permute(1, 2, 0, 3)
        intra = normalise(self.intra_norm, intra, stream)
        if self.skip_around_intra:
            intra = into_first(torch.add, chunks, intra)
        steps = intra.transpose(0, 1).flatten(1, 2)  # [S, B * K, H]
        rnn, *rest = self.inter
        inter = rnn(steps, stream)
        for layer in rest:
            inter = layer(inter)
        inter = inter.unflatten(1, (num_items, chunk_size)).transpose(0, 1)
        return into_first(torch.add, intra, normalise(self.inter_norm, inter, stream))


def _create_path(config: DPRNNConfig, bidirectional: bool) -> nn.Sequential:
    """A recurrent network of ``[steps, sequences, H]`` and the map back to H."""
    kind = MultiplicativeRecurrent if config.multiplicative else Recurrent
    rnn = kind(
        config.rnn_type,
        config.bottleneck_channels,
        config.hidden_size,
        config.num_layers,
        bidirectional=bidirectional,
        dropout=config.dropout,
    )
    if not config.linear_after_rnn:
        return nn.Sequential(rnn)
    return nn.Sequential(rnn, Linear(rnn.output_size, config.bottleneck_channels))
