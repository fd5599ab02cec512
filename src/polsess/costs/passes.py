"""The two passes that are counted, predicted and measured: an inference and a training step."""

from __future__ import annotations

import torch
from torch import Tensor

from polsess.models import SeparationModel


def infer(model: SeparationModel, mixture: Tensor) -> Tensor:
    """Estimates of mixtures ``[B, T]`` without gradients."""
    with torch.no_grad():
        estimates: Tensor = model.eval()(mixture)
    return estimates


def add_gradients(model: SeparationModel, mixture: Tensor) -> None:
    """Forward and backward of a training step on mixtures ``[B, T]``, auxiliary estimates included.

    The loss is the power of the estimates: what training's own losses cost beside a network is little.
    """
    estimates, auxiliary = model.train().forward_with_auxiliary(mixture)
    loss = sum((each.square().mean() for each in auxiliary), estimates.square().mean())
    loss.backward()


def samples_of(model: SeparationModel, seconds: float) -> int:
    """Samples of a mixture at the model's rate.

    Raises:
        ValueError: If there is not one.
    """
    num_samples = round(seconds * model.sample_rate)
    if num_samples < 1:
        raise ValueError(f"seconds: expected at least one sample at {model.sample_rate} Hz, got {seconds}.")
    return num_samples
