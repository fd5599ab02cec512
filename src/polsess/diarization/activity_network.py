"""How many people talk: a small convolutional recurrent network, per frame nobody, one or several.

Shapes: B batch, T samples, L frames.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from polsess.diarization.features import LogSpectrum
from polsess.schema import Schema

NUM_CLASSES = 3
"""Nobody, one, several."""


class ActivityConfig(Schema):
    """Sizes of the network."""

    sample_rate: int = Field(default=8000, ge=4000, le=192_000)
    """Rate in Hz of what it hears."""
    n_fft: int = Field(default=512, ge=32, le=8192)
    """Window of the spectrum; long enough to tell the harmonics of two voices apart."""
    hop_length: int = Field(default=80, ge=8, le=4096)
    """From one spectrum to the next; the network decides at every second one."""
    num_channels: int = Field(default=96, ge=8, le=1024)
    """Of the convolutions."""
    hidden_size: int = Field(default=72, ge=8, le=1024)
    """Of the recurrent layers, per direction."""
    num_layers: int = Field(default=2, ge=1, le=8)
    """Recurrent layers."""
    dropout: float = Field(default=0.1, ge=0, lt=1)


class ActivityNetwork(nn.Module):
    """Two convolutions over log spectra, then bidirectional GRU layers.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ActivityConfig) -> None:
        super().__init__()
        self.config = config
        self.features = LogSpectrum(config.sample_rate, config.n_fft, config.hop_length)
        channels = config.num_channels
        self.convolutions = nn.Sequential(
            nn.BatchNorm1d(self.features.num_features),
            nn.Conv1d(self.features.num_features, channels, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Dropout(config.dropout),
        )
        self.recurrent = nn.GRU(
            channels,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.to_classes = nn.Linear(2 * config.hidden_size, NUM_CLASSES)

    @property
    def hop_seconds(self) -> float:
        """From one decision to the next."""
        return 2 * self.config.hop_length / self.config.sample_rate

    def forward(self, mixture: Tensor) -> Tensor:
        """Scores of the classes.

        Args:
            mixture: ``[B, T]`` at ``config.sample_rate``, at any level.

        Returns:
            Logits ``[B, L, 3]`` of nobody, one and several, at every ``hop_seconds`` from 0 on.
        """
        hidden = self.convolutions(self.features(mixture))  # [B, N, L]
        output, _ = self.recurrent(hidden.mT)
        logits: Tensor = self.to_classes(output)
        return logits
