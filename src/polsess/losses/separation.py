"""The training objective: negative signal ratios under the best assignment of estimates to references.

Utterance-level permutation-invariant training (uPIT): Kolbaek et al. (2017), https://arxiv.org/abs/1703.06284.
Losses are computed in float32 under any autocast.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from polsess.losses.mixture_invariant import (
    MixtureInvariantLoss,
    MixtureInvariantLossConfig,
    mixture_invariant,
)
from polsess.losses.silent_references import SilenceAwareSnr, SilentReferencesConfig, is_silent
from polsess.losses.spectral import SpectralLoss, SpectralLossConfig
from polsess.permutation import apply_permutation, best_permutation
from polsess.schema import Schema
from polsess.signal_ratios import sd_sdr, si_snr, snr

SignalRatio = Callable[[Tensor, Tensor], Tensor]
"""A ratio in dB from (estimate, reference), ``[..., T]`` each, to ``[...]``."""

SIGNAL_RATIOS: dict[str, SignalRatio] = {"si_snr": si_snr, "snr": snr, "sd_sdr": sd_sdr}


class LossConfig(Schema):
    """The ratio to maximise, its bounds, and further terms."""

    name: Literal["si_snr", "snr", "sd_sdr", "silence_aware_snr", "mixit"] = "si_snr"
    """The signal ratio; SI-SNR has its means removed. ``mixit`` needs no references: mixtures are added up,
    and sums of estimates are compared with each of them. ``silence_aware_snr`` is for references that may be
    silent, as in conversations."""
    zero_mean: bool = False
    """Whether ``snr`` removes the means of estimates and references, as in Asteroid and Look2Hear."""
    silence: SilentReferencesConfig | None = None
    """Options of ``silence_aware_snr``; null for its defaults."""
    mixit: MixtureInvariantLossConfig | None = None
    """Options of ``mixit``; null for its defaults."""
    discard_above_db: float | None = None
    """Utterances already better than this many dB give no gradient (SpeechBrain's threshold is 30)."""
    clamp_above_db: float | None = None
    """The ratio of an utterance counts at most this many dB."""
    auxiliary_weight: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of the auxiliary estimates, for models that have them."""
    presence_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the cross-entropy of which speakers are there, for models that count them; null for 1."""
    spectral: SpectralLossConfig | None = None
    """Adds the distance of magnitude spectra at several resolutions, in the best order for the ratio."""

    @property
    def num_mixtures(self) -> int:
        """Mixtures that make one training example; 1 but for MixIT."""
        return (self.mixit or MixtureInvariantLossConfig()).num_mixtures if self.name == "mixit" else 1

    @model_validator(mode="after")
    def _check_names(self) -> LossConfig:
        if self.name != "silence_aware_snr" and self.silence is not None:
            raise ValueError(
                f"silence has options, but the loss is {self.name}; write name: silence_aware_snr."
            )
        if self.name != "snr" and self.zero_mean:
            raise ValueError(
                f"zero_mean is an option of snr, but the loss is {self.name}; the other two ratios always "
                "remove the means."
            )
        if self.name != "mixit" and self.mixit is not None:
            raise ValueError(f"mixit has options, but the loss is {self.name}; write name: mixit.")
        others = ("discard_above_db", "clamp_above_db", "spectral")
        if self.name == "mixit" and (given := [key for key in others if getattr(self, key) is not None]):
            raise ValueError(f"mixit has no {given[0]}; its own bound is mixit.max_snr_db.")
        return self


def permutation_invariant(ratio: SignalRatio, estimates: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """The mean ratio of every item under its best assignment.

    Args:
        ratio: The ratio to maximise.
        estimates: ``[B, C, T]``.
        references: ``[B, C, T]``.

    Returns:
        The mean ratio in dB, ``[B]``, and the index of the estimate for each reference, ``[B, C]``.

    Raises:
        ValueError: If the shapes differ.
    """
    if estimates.ndim != 3 or estimates.shape != references.shape:
        raise ValueError(
            "permutation_invariant: expected estimates and references of one shape [B, C, T], got "
            f"{list(estimates.shape)} and {list(references.shape)}."
        )
    pairwise = ratio(estimates.unsqueeze(1), references.unsqueeze(2))  # [B, C reference, C estimate]
    order = best_permutation(pairwise.detach())
    chosen = apply_permutation(pairwise.mT.contiguous(), order)  # [B, C reference, C reference']
    return chosen.diagonal(dim1=1, dim2=2).mean(-1), order


def _mean_of(chosen: Tensor, values: Tensor) -> Tensor:
    """The mean over the chosen sources, ``[B, C]`` to ``[B]``; 0 where none is."""
    return (values * chosen).sum(-1) / chosen.sum(-1).clamp(min=1)


class SeparationLoss:
    """The training objective of a configuration.

    Args:
        config: Which ratio, which thresholds.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self.ratio = SIGNAL_RATIOS.get(config.name, si_snr)
        if config.zero_mean:
            self.ratio = partial(snr, zero_mean=True)
        self.mixit: MixtureInvariantLoss | None = None
        if config.name == "mixit":
            self.mixit = MixtureInvariantLoss(config.mixit or MixtureInvariantLossConfig())
        self.spectral = SpectralLoss(config.spectral) if config.spectral else None

    def __call__(
        self,
        estimates: Tensor,
        references: Tensor,
        auxiliary: list[Tensor] | None = None,
        mixture: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            estimates: ``[B, C, T]``.
            references: ``[B, C, T]``; for MixIT the mixtures that were added up, ``[B, N, T]``.
            auxiliary: Further estimates of the same references, ``[B, C, T]`` each.
            mixture: Input of the model, ``[B, T]``, for ``silence_aware_snr``; the sum of the references if
                left out.

        Returns:
            A scalar in negative dB, spectral distances added: the mean over the batch. Zero, with zero
            gradients, when every utterance is above ``discard_above_db``.
        """
        with torch.autocast(estimates.device.type, enabled=False):
            loss = self._mean_loss(estimates, references, mixture)
            if not auxiliary or not self.config.auxiliary_weight:
                return loss
            extra = torch.stack([self._mean_loss(each, references, mixture) for each in auxiliary]).mean()
            weight = self.config.auxiliary_weight
            return (1 - weight) * loss + weight * extra

    def score(self, estimates: Tensor, references: Tensor) -> Tensor:
        """The mean SI-SNR of each item in dB, ``[B]``, under the best order or assignment.

        Silent references are left out where the loss is made for them; 0 for an item in which all are silent.
        """
        if self.config.name == "silence_aware_snr":
            ratio = self._ratio(references, None)
            _, order = permutation_invariant(ratio, estimates, references)
            return self.mean_over_active(si_snr(apply_permutation(estimates, order), references), references)
        assign = permutation_invariant if self.mixit is None else mixture_invariant
        values, _ = assign(si_snr, estimates, references)
        return values

    def mean_over_active(self, values: Tensor, references: Tensor) -> Tensor:
        """The mean over the sources, ``[B, C]`` to ``[B]``, as ``score`` takes it.

        Args:
            values: ``[B, C]``.
            references: ``[B, C, T]``.
        """
        return _mean_of(self.active(references), values)

    def active(self, references: Tensor) -> Tensor:
        """Which references ``score`` counts: all but the silent ones, where the loss is made for these.

        Args:
            references: ``[B, C, T]``.

        Returns:
            Booleans, ``[B, C]``.
        """
        if self.config.name != "silence_aware_snr":
            return torch.ones_like(references[..., 0], dtype=torch.bool)
        return ~is_silent(references, references.sum(1, keepdim=True))

    def _ratio(self, references: Tensor, mixture: Tensor | None) -> SignalRatio:
        if self.config.name != "silence_aware_snr":
            return self.ratio
        total = references.sum(1) if mixture is None else mixture.float()
        return SilenceAwareSnr(self.config.silence or SilentReferencesConfig(), total)

    def _mean_loss(self, estimates: Tensor, references: Tensor, mixture: Tensor | None) -> Tensor:
        if self.mixit is not None:
            return self.mixit(estimates, references)
        ratio = self._ratio(references, mixture)
        values, order = permutation_invariant(ratio, estimates, references)  # [B]
        limit = self.config.clamp_above_db
        losses = -values if limit is None else -values.clamp(max=limit)
        if self.spectral is not None and self.config.spectral is not None:
            distances = self.spectral(apply_permutation(estimates, order), references)  # [B, C]
            total = references.sum(1) if mixture is None else mixture
            heard = ~is_silent(references, total.unsqueeze(1))  # anything is far from silence, in its norm
            losses = losses + self.config.spectral.weight * _mean_of(heard, distances)
        if self.config.discard_above_db is not None:
            kept = values < self.config.discard_above_db
            return (losses * kept).sum() / kept.sum().clamp(min=1)
        return losses.mean()
