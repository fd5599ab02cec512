"""Golden parity judged by the reference's own noise: how far its float32 run is from its float64 run."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from polsess.models import SeparationModel

FACTOR = 20.0
"""How many noise floors an estimate may be off."""


def assert_parity(
    model: SeparationModel, folder: Path, names: Mapping[str, str], *, relative: float = 1e-9
) -> None:
    """Check estimates and gradients of every case of a golden folder, in float32 and in float64.

    Args:
        model: The model with the weights of the folder.
        folder: Holds ``meta.json`` and the files of the cases.
        names: The reference's name of every parameter that has a gradient there, and ours; several of theirs
            may be one of ours.
        relative: Relative error allowed in float64.
    """
    for case in json.loads((folder / "meta.json").read_text())["cases"]:
        tensors = load_file(folder / case["file"])
        twin = copy.deepcopy(model)
        estimate, gradient = _run(twin, tensors, torch.float32)
        assert _distance(estimate, tensors["estimate"]) <= FACTOR * case["estimate_noise"], case["file"]
        assert _distance(gradient, tensors["grad_mixture"]) <= FACTOR * case["gradient_noise"], case["file"]
        if "parameter_gradient_l2" in case:
            _check_parameters(twin, names, case)
        estimate, gradient = _run(copy.deepcopy(model).double(), tensors, torch.float64)
        for found, key in ((estimate, "estimate_f64"), (gradient, "grad_mixture_f64")):
            expected = tensors[key]
            assert (found - expected).norm() <= relative * expected.norm(), (case["file"], key)


def _run(model: SeparationModel, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    mixture = tensors["mixture"].to(dtype, copy=True).requires_grad_()
    shape = tensors["probe"].shape
    estimate = model(mixture).view(*shape[:2], -1)[..., : shape[2]]  # some references cut the last frame
    (estimate * tensors["probe"].to(dtype)).sum().backward()
    assert mixture.grad is not None
    return estimate.detach(), mixture.grad


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


def _check_parameters(model: SeparationModel, names: Mapping[str, str], case: dict[str, Any]) -> None:
    gradients = {key: value.grad for key, value in model.named_parameters()}
    energies: dict[str, float] = {}
    for name, norm in zip(sorted(names), case["parameter_gradient_l2"], strict=True):
        energies[names[name]] = energies.get(names[name], 0.0) + norm**2
    largest = max(energies.values()) ** 0.5
    for name, energy in energies.items():
        gradient = gradients[name]
        found = 0.0 if gradient is None else float(gradient.double().norm())
        assert abs(found - energy**0.5) <= 1e-4 * energy**0.5 + 1e-5 * largest, (name, found, energy)
