"""Objectives of training, computed in float32 under any autocast."""

from polsess.losses.angular_margin import VerificationConfig, angular_margin_loss
from polsess.losses.mixture_invariant import (
    MixtureInvariantLoss,
    MixtureInvariantLossConfig,
    mixture_invariant,
)
from polsess.losses.separation import LossConfig, SeparationLoss, SignalRatio, permutation_invariant
from polsess.losses.silent_references import SilenceAwareSnr, SilentReferencesConfig, active_first
from polsess.losses.spectral import SpectralLoss, SpectralLossConfig

__all__ = [
    "LossConfig",
    "MixtureInvariantLoss",
    "MixtureInvariantLossConfig",
    "SeparationLoss",
    "SignalRatio",
    "SilenceAwareSnr",
    "SilentReferencesConfig",
    "SpectralLoss",
    "SpectralLossConfig",
    "VerificationConfig",
    "active_first",
    "angular_margin_loss",
    "mixture_invariant",
    "permutation_invariant",
]
