"""The interfaces of networks that say who speaks when: how many talk, and whose voice it is.

Shapes: B batch, T samples, L frames, D dimensions.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.audio import resample
from polsess.models.network import Network
from polsess.tasks import Task

NUM_ACTIVITY_CLASSES = 3
"""Nobody, one, several."""


class ActivityDetector(Network):
    """A network that says frame by frame whether nobody, one or several talk.

    An architecture writes ``classify_frames`` and ``hop_length``.
    """

    kind = "speech activity detector"
    usage = "polsess speakers scores it, polsess train trains it with task OSD"
    tasks = frozenset({Task.OSD})

    @property
    @abstractmethod
    def hop_length(self) -> int:
        """Samples from one decision to the next; the first is made at sample 0."""

    @property
    def hop_seconds(self) -> float:
        """Seconds from one decision to the next."""
        return self.hop_length / self.sample_rate

    def num_frames(self, num_samples: int) -> int:
        """L, the number of decisions on T samples."""
        return num_samples // self.hop_length + 1

    @abstractmethod
    def classify_frames(self, mixture: Tensor) -> Tensor:
        """Logits of the classes.

        Args:
            mixture: ``[B, T]``.

        Returns:
            ``[B, L', 3]`` with L' at least ``num_frames(T)``.
        """

    def forward(self, mixture: Tensor) -> Tensor:
        """Logits of nobody, one and several; ``softmax(-1)`` makes them probabilities.

        Args:
            mixture: ``[B, T]`` or ``[B, 1, T]`` at ``sample_rate``, at any level.

        Returns:
            ``[B, L, 3]`` with L = ``num_frames(T)``.

        Raises:
            ValueError: If the shape is not one of the two.
        """
        mixture = self.as_batch(mixture)
        return self.classify_frames(mixture)[:, : self.num_frames(mixture.shape[-1])]

    @property
    def hub_tags(self) -> tuple[str, str]:
        """Pipeline tag and tag on the Hugging Face hub."""
        return "voice-activity-detection", "overlapped-speech-detection"

    @property
    def output_text(self) -> str:
        """What the network gives, for its card."""
        return f"nobody, one or several talk, every {1000 * self.hop_seconds:g} ms"

    def example_code(self, source: str) -> str:
        """Lines of Python that load and use the network, for its card.

        Args:
            source: The folder or id of its weights.
        """
        return (
            "from polsess import load_model\nfrom polsess.models import ActivityDetector\n\n"
            f'model = load_model("{source}", kind=ActivityDetector)\n'
            "probabilities = model(mixture).softmax(-1)  # [B, T] -> [B, L, 3]"
        )


class SpeakerEmbedder(Network):
    """A network that turns a piece of one voice into a unit vector that is near for pieces of one speaker.

    An architecture writes ``embed_speech`` and ``dimensions``.
    """

    kind = "speaker embedder"
    usage = "polsess speakers scores it, polsess train trains it with task SV"
    tasks = frozenset({Task.SV})

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """D, of the embedding."""

    @abstractmethod
    def embed_speech(self, speech: Tensor) -> Tensor:
        """Embeddings of any length.

        Args:
            speech: ``[B, T]``.

        Returns:
            ``[B, D]``.
        """

    def forward(self, speech: Tensor) -> Tensor:
        """Embeddings of unit length; the cosine of two is high for one speaker.

        Args:
            speech: ``[B, T]`` or ``[B, 1, T]`` at ``sample_rate``, at any level; a second or more of one
                voice.

        Returns:
            ``[B, D]``.

        Raises:
            ValueError: If the shape is not one of the two.
        """
        return F.normalize(self.embed_speech(self.as_batch(speech)), dim=-1)

    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Embeddings of pieces at another rate, without gradients.

        Args:
            samples: N pieces, ``[N, T]``.
            sample_rate: Their rate in Hz.

        Returns:
            Unit vectors, ``[N, D]``.
        """
        device = next((each.device for each in self.parameters()), torch.device("cpu"))
        with torch.no_grad():
            embeddings: Tensor = self(resample(samples, sample_rate, self.sample_rate).to(device))
        return embeddings.cpu()

    @property
    def hub_tags(self) -> tuple[str, str]:
        """Pipeline tag and tag on the Hugging Face hub."""
        return "feature-extraction", "speaker-verification"

    @property
    def output_text(self) -> str:
        """What the network gives, for its card."""
        return f"a unit vector of {self.dimensions} dimensions"

    def example_code(self, source: str) -> str:
        """Lines of Python that load and use the network, for its card.

        Args:
            source: The folder or id of its weights.
        """
        return (
            "from polsess import load_model\nfrom polsess.models import SpeakerEmbedder\n\n"
            f'model = load_model("{source}", kind=SpeakerEmbedder)\n'
            "embeddings = model.embed(pieces, sample_rate=16000)  # [N, T] -> [N, D]"
        )
