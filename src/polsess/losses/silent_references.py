"""The negative SNR where references may be silent, as in conversations.

Wisdom, Erdogan, Ellis, Serizel, Turpault, Fonseca, Salamon, Seetharaman, Hershey (2021), "What's all the fuss
about free universal sound separation data?", https://arxiv.org/abs/2011.00803. An active reference counts
with its SNR under a soft threshold, a silent one with the level of its estimate against the mixture, under
another.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from polsess.permutation import apply_permutation
from polsess.schema import Schema

_SILENT_SHARE = 1e-6  # of the mixture's energy: 60 dB below it
_FLOOR = 1e-10


class SilentReferencesConfig(Schema):
    """The soft thresholds of active and of silent references."""

    max_snr_db: float = Field(default=30.0, gt=0)
    """Bound of the SNR of an active reference: tau is ``10^(-max_snr_db / 10)``."""
    max_silence_db: float = Field(default=20.0, gt=0)
    """Bound of the level of an estimate below the mixture, where its reference is silent."""


def is_silent(references: Tensor, mixture: Tensor) -> Tensor:
    """Whether references lie more than 60 dB below the mixture, or are zero.

    Args:
        references: ``[..., T]``.
        mixture: ``[..., T]``, broadcast against the references.

    Returns:
        Booleans, ``[...]``.
    """
    energy = references.square().sum(-1)
    return (energy <= _SILENT_SHARE * mixture.square().sum(-1)) | (energy == 0)


def active_first(references: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
    """References with the silent ones last, and how many are active.

    Args:
        references: ``[B, C, T]``.
        mixture: ``[B, T]``.

    Returns:
        ``[B, C, T]``, the active ones in their order, and their numbers ``[B]``.
    """
    silent = is_silent(references, mixture.unsqueeze(1))
    order = silent.int().argsort(dim=-1, stable=True)
    return apply_permutation(references, order), (~silent).sum(-1)


class SilenceAwareSnr:
    """A ratio from (estimate, reference) for ``permutation_invariant``; silent references count too.

    Args:
        config: The thresholds.
        mixture: ``[B, T]``, the input of the model.
    """

    def __init__(self, config: SilentReferencesConfig, mixture: Tensor) -> None:
        self.tau = 10 ** (-config.max_snr_db / 10)
        self.tau_silent = 10 ** (-config.max_silence_db / 10)
        self.mixture = mixture

    def __call__(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Decibels ``[B, ...]`` from ``[B, ..., T]`` each; finite, with finite gradients, for silence.

        At most about ``max_snr_db`` for an active reference and ``max_silence_db`` for a silent one.
        """
        mixture = self.mixture.reshape(len(self.mixture), *[1] * (reference.ndim - 2), -1)
        floor = _FLOOR * reference.shape[-1]
        total = mixture.square().sum(-1) + floor
        energy = reference.square().sum(-1)
        silent = is_silent(reference, mixture)
        # Both branches are computed: the unused one must have finite gradients as well.
        error = (reference - estimate).square().sum(-1)
        active = (energy + floor) / (error + self.tau * energy + floor)
        level = total / (estimate.square().sum(-1) + self.tau_silent * total)
        return 10 * torch.log10(torch.where(silent, level, active))
