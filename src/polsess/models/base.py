"""The interface of every model: waveforms of a mixture in, waveforms of its sources out.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from polsess.models.network import Network, NetworkConfig
from polsess.tasks import SEPARATION_TASKS


class ModelConfig(NetworkConfig):
    """Fields of every separation model's configuration; each model adds its own in its own file."""

    num_sources: int = Field(default=2, ge=1)
    """C, the number of estimates. The task decides it in a training configuration."""


@dataclass(frozen=True)
class SpeakerCounts:
    """How many speakers a network hears in each mixture."""

    numbers: Tensor
    """``[B]``, whole numbers from 0 to C."""
    probabilities: Tensor
    """``[B, C + 1]``: of each number from 0 to C."""

    @classmethod
    def from_presence(cls, presence: Tensor, most: int) -> SpeakerCounts:
        """Counts from the probabilities that the first, the second, ... speaker is there.

        Args:
            presence: ``[B, n]``, taken as independent of each other.
            most: C; a number beyond it counts as C.
        """
        numbers = (presence > 0.5).sum(-1).clamp_max(most)
        probabilities = torch.ones_like(presence[:, :1])
        for each in presence.unbind(-1):  # one speaker more, or not
            here = each[:, None]
            longer = F.pad(probabilities * here, (1, 0))
            probabilities = longer + F.pad(probabilities * (1 - here), (0, 1))
        beyond = probabilities[:, most + 1 :].sum(-1)
        probabilities = torch.cat(
            [probabilities[:, :most], probabilities[:, most : most + 1] + beyond[:, None]], -1
        )
        return cls(numbers, probabilities)


class SeparationModel(Network):
    """A network that estimates the sources in a single-channel mixture.

    A model writes one method, ``estimate_sources``; this class checks shapes, pads what is too short and
    restores the length, the same way for every model.
    """

    config: ModelConfig
    config_class: ClassVar[type[ModelConfig]]
    kind = "separation model"
    usage = "polsess separate runs it, polsess evaluate scores it"
    tasks = SEPARATION_TASKS

    @property
    def hub_tags(self) -> tuple[str, str]:
        """Pipeline tag and tag on the Hugging Face hub."""
        return "audio-to-audio", "speech-separation" if self.output_sources > 1 else "speech-enhancement"

    @property
    def output_text(self) -> str:
        """What the model gives, for its card."""
        return f"{self.output_sources} waveform(s) as long as the mixture"

    def example_code(self, source: str) -> str:
        """Lines of Python that load and use the model, for its card.

        Args:
            source: The folder or id of its weights.
        """
        return (
            "from polsess import Separator\n\n"
            f'separator = Separator.from_pretrained("{source}")\n'
            'separator.separate("mixture.wav").save("speakers")\n\n'
            "model = separator.model  # the network alone: [B, T] -> [B, C, T]"
        )

    @property
    def output_sources(self) -> int:
        """C, the number of estimates."""
        return self.config.num_sources

    @property
    @abstractmethod
    def hop_length(self) -> int:
        """Samples between frames: the most by which an estimate may differ in length before the fit."""

    @property
    def minimum_samples(self) -> int:
        """The shortest mixture that ``estimate_sources`` takes; shorter ones are zero-padded."""
        return 1

    @property
    def length_multiple(self) -> int:
        """What the samples of a mixture are zero-padded to a multiple of."""
        return 1

    @property
    def causal(self) -> bool:
        """Whether the present estimate never depends on samples beyond ``look_ahead_samples``."""
        return False

    @property
    def look_ahead_samples(self) -> int | None:
        """How far into the future an estimate looks, in samples; None for the whole utterance."""
        return None

    def compile_pass(self) -> None:
        """Compile what training runs."""
        compiled = torch.compile(self.estimate_with_auxiliary)
        self.estimate_with_auxiliary = compiled  # type: ignore[method-assign]

    @property
    def counts_speakers(self) -> bool:
        """Whether the network says how many speakers there are; ``output_sources`` is then the most."""
        return False

    @abstractmethod
    def estimate_sources(self, mixture: Tensor) -> Tensor:
        """Separate waveforms; the one method that an architecture writes.

        Args:
            mixture: ``[B, T]`` with T at least ``minimum_samples``.

        Returns:
            ``[B, C, T']`` with T' within one ``hop_length`` of T.
        """

    def estimate_counted(
        self, mixture: Tensor, num_speakers: Tensor | None
    ) -> tuple[Tensor, SpeakerCounts | None]:
        """Separate as many speakers as there are; a network that counts writes this method too.

        Args:
            mixture: ``[B, T]``.
            num_speakers: How many there are, ``[B]``; None where the network shall count them.

        Returns:
            Estimates ``[B, C, T']``, silent behind those of the speakers, and what the network counted; None
            from one that does not count.

        Raises:
            ValueError: If a number is given to a network that separates a fixed number of sources.
        """
        if num_speakers is not None and num_speakers.ne(self.output_sources).any():
            raise ValueError(
                f"num_speakers: {type(self).__name__} separates {self.output_sources} sources, always; "
                "leave it out."
            )
        return self.estimate_sources(mixture), None

    def estimate_present(self, mixture: Tensor, num_speakers: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """What training looks at in a network that counts, which writes this method too.

        Args:
            mixture: ``[B, T]``.
            num_speakers: How many there are, ``[B]``.

        Returns:
            Estimates and auxiliary estimates as ``estimate_with_auxiliary``, silent behind those of the
            speakers, and logits that the first, the second, ... speaker is there, ``[B, C + 1]``.
        """
        del mixture, num_speakers
        raise TypeError(f"{type(self).__name__} does not count speakers.")

    def estimate_with_auxiliary(self, mixture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Estimates and further estimates that only training looks at (per stage, per layer).

        Args:
            mixture: ``[B, T]``.

        Returns:
            Estimates ``[B, C, T']`` and a list of auxiliary estimates of the same meaning, ``[B, C, T'']``.
        """
        return self.estimate_sources(mixture), []

    def forward(
        self,
        mixture: Tensor,
        lengths: Tensor | None = None,
        num_speakers: int | Tensor | None = None,
    ) -> Tensor:
        """Separate a batch of mixtures.

        Args:
            mixture: Waveforms, ``[B, T]`` or ``[B, 1, T]``.
            lengths: Samples of each item before padding, ``[B]``. Each item is then estimated as if it were
                alone and unpadded, and zero after its end. None when all are T long.
            num_speakers: How many there are, for a network that counts them otherwise: one number for all, or
                ``[B]``. Estimates behind them are silent.

        Returns:
            Estimates as long as the mixture: ``[B, T]`` when ``output_sources == 1``, else ``[B, C, T]``.

        Raises:
            ValueError: If the shape is not one of the two, the type is not that of the weights, the number is
                out of the network's range, or the network broke the length contract.
        """
        mixture = self.as_batch(mixture)
        if num_speakers is not None:
            estimates = self._estimate_given(mixture, lengths, num_speakers)
        elif lengths is None:
            estimates = self._estimate_fitted(mixture)
        else:
            estimates = self.estimate_padded(mixture, lengths)
        return estimates.squeeze(1) if self.output_sources == 1 else estimates

    def separate_counted(
        self, mixture: Tensor, num_speakers: int | Tensor | None = None
    ) -> tuple[Tensor, SpeakerCounts | None]:
        """As ``forward``, always ``[B, C, T]``, with the number of speakers that the network counted.

        Args:
            mixture: ``[B, T]`` or ``[B, 1, T]``.
            num_speakers: How many there are, if that is known: one number for all, or ``[B]``.

        Raises:
            ValueError: If the number is out of the network's range, or the shape is not one of the two.
        """
        mixture = self.as_batch(mixture)
        numbers = None
        if num_speakers is not None:
            numbers = torch.as_tensor(num_speakers, device=mixture.device).expand(len(mixture))
            if numbers.is_floating_point():
                raise ValueError(f"num_speakers: expected whole numbers, got {numbers.tolist()}.")
            if not 0 <= int(numbers.min()) <= int(numbers.max()) <= self.output_sources:
                raise ValueError(
                    f"num_speakers: expected 0 to {self.output_sources}, got {numbers.tolist()}."
                )
        estimates, counts = self.estimate_counted(self._pad_length(mixture), numbers)
        return self._fit_length(estimates, mixture.shape[-1]), counts

    def forward_present(self, mixture: Tensor, num_speakers: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """``estimate_present`` for any length, the estimates as long as the mixture."""
        mixture = self.as_batch(mixture)
        estimates, auxiliary, presence = self.estimate_present(self._pad_length(mixture), num_speakers)
        fitted = [self._fit_length(each, mixture.shape[-1]) for each in (estimates, *auxiliary)]
        return fitted[0], fitted[1:], presence

    def forward_with_auxiliary(self, mixture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As ``forward``, always ``[B, C, T]``, with the auxiliary estimates that training may use."""
        mixture = self.as_batch(mixture)
        estimates, auxiliary = self.estimate_with_auxiliary(self._pad_length(mixture))
        fitted = [self._fit_length(each, mixture.shape[-1]) for each in (estimates, *auxiliary)]
        return fitted[0], fitted[1:]

    def estimate_padded(self, mixture: Tensor, lengths: Tensor) -> Tensor:
        """Separate padded items as if each were alone; an architecture may do so in one pass.

        Args:
            mixture: ``[B, T]``; what lies behind the end of an item changes nothing.
            lengths: Samples of each item, ``[B]``.

        Returns:
            ``[B, C, T]``, zero after each item's end.
        """
        total = mixture.shape[-1]
        estimates = mixture.new_zeros(len(mixture), self.output_sources, total)
        for length in lengths.unique().tolist():  # equal lengths share a pass
            rows = (lengths == length).nonzero().squeeze(1)
            estimates[rows, :, :length] = self._estimate_fitted(mixture[rows, :length])
        return estimates

    def _estimate_given(self, mixture: Tensor, lengths: Tensor | None, num_speakers: int | Tensor) -> Tensor:
        if lengths is None:
            return self.separate_counted(mixture, num_speakers)[0]
        numbers = torch.as_tensor(num_speakers).expand(len(mixture))
        rows = [
            self.separate_counted(mixture[row : row + 1, :length], numbers[row : row + 1])[0]
            for row, length in enumerate(lengths.tolist())
        ]
        return torch.cat([F.pad(each, (0, mixture.shape[-1] - each.shape[-1])) for each in rows])

    def _estimate_fitted(self, mixture: Tensor) -> Tensor:
        return self._fit_length(self.estimate_sources(self._pad_length(mixture)), mixture.shape[-1])

    def _pad_length(self, mixture: Tensor) -> Tensor:
        length = max(mixture.shape[-1], self.minimum_samples)
        missing = length + -length % self.length_multiple - mixture.shape[-1]
        return F.pad(mixture, (0, missing)) if missing > 0 else mixture

    def _fit_length(self, estimates: Tensor, num_samples: int) -> Tensor:
        """Cut or zero-pad to the mixture's length; a gap beyond one hop is a bug in the network."""
        expected = max(num_samples, self.minimum_samples)
        if estimates.ndim != 3 or abs(estimates.shape[-1] - expected) > self.hop_length:
            raise ValueError(
                f"{type(self).__name__}.estimate_sources returned {list(estimates.shape)} for {expected} "
                f"samples; expected [B, {self.output_sources}, T'] within {self.hop_length} samples."
            )
        return F.pad(estimates, (0, num_samples - estimates.shape[-1]))
