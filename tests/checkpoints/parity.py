"""Golden parity through the door: a folder as published against what the toolkit computed from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from polsess.checkpoints import load_model
from polsess.checkpoints.formats import Converter
from polsess.models import SeparationModel

NOISE_FLOORS = 20
"""Times that an error may exceed the rounding of the reference."""
ABSOLUTE, RELATIVE = 1e-5, 1e-5  # processors differ by 6e-6 of the largest value


def assert_parity(
    folder: Path,
    source: str = ".",
    *,
    convert: Converter | None = None,
    arguments: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Check every io case of a golden folder: estimates, input gradients, parameter-gradient norms.

    Args:
        folder: The golden folder with ``meta.json`` and the io files.
        source: The file in it that ``load_model`` shall read; the folder by default.
        convert: The converter, to trace which foreign tensor went where; without it parameter gradients are
            not compared.
        arguments: What the converter takes.
        state: The foreign tensors under the names of ``param_grad_l2``'s converter.
    """
    meta = json.loads((folder / "meta.json").read_text())
    origins = _origins(convert, arguments or {}, state or {}) if convert else None
    for case in meta["cases"]:
        model = load_model(folder / source)
        tensors = load_file(folder / case["file"])
        gradients = _check_signals(model, tensors, case)
        if origins is not None:
            _check_parameter_gradients(gradients, origins, case["param_grad_l2"])


def _check_signals(
    model: SeparationModel, tensors: dict[str, Tensor], case: dict[str, Any]
) -> dict[str, Tensor]:
    mixture = tensors["mixture"].requires_grad_()
    estimates = model(mixture)
    estimates = estimates.unsqueeze(1) if estimates.ndim == 2 else estimates
    length = tensors["estimate"].shape[-1]  # some wrappers cut the last incomplete frame
    assert not estimates[..., length:].any()
    torch.testing.assert_close(
        estimates[..., :length], tensors["estimate"], rtol=RELATIVE, atol=ABSOLUTE, msg=_named(case)
    )
    (estimates[..., :length] * tensors["probe"]).sum().backward()
    assert mixture.grad is not None
    # Gradients are some ten times larger than estimates: as many digits, judged at their own size.
    # Where the toolkit's own rounding is recorded and larger, it is the measure.
    scale = max(1.0, float(tensors["grad_mixture"].abs().max()))
    tolerance = max(ABSOLUTE * scale, case.get("max_abs_float32_minus_float64_grad", 0.0))
    torch.testing.assert_close(
        mixture.grad, tensors["grad_mixture"], rtol=RELATIVE, atol=tolerance, msg=_named(case)
    )
    return {key: value.grad for key, value in model.named_parameters() if value.grad is not None}


def _named(case: dict[str, Any]) -> Any:
    return lambda message: f"{case['file']}: {message}"


def _origins(
    convert: Converter, arguments: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[list[str], dict[str, Tensor]]:
    """Convert numbered tensors: every native element then holds the number of its foreign tensor."""
    names = list(state)
    numbered = {
        name: torch.full(state[name].shape, float(index + 1), dtype=torch.float64)
        for index, name in enumerate(names)
    }
    return names, convert(arguments, numbered).state


def _check_parameter_gradients(
    gradients: dict[str, Tensor],
    origins: tuple[list[str], dict[str, Tensor]],
    expected: dict[str, float | None],
) -> None:
    names, places = origins
    energy = torch.zeros(len(names) + 1, dtype=torch.float64)
    for key, gradient in gradients.items():
        energy.index_add_(0, places[key].flatten().long(), gradient.double().square().flatten())
    found = dict(zip(names, energy[1:].sqrt().tolist(), strict=True))
    assert set(expected) <= set(found), set(expected) - set(found)
    norms = {name: norm or 0.0 for name, norm in expected.items()}  # None: the toolkit gave no gradient
    scale = max(norms.values())
    for name, norm in norms.items():
        assert abs(found[name] - norm) <= 1e-4 * norm + 1e-6 * scale, (name, found[name], norm)


def assert_parity_within_noise(
    folder: Path,
    convert: Converter,
    arguments: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    traced: bool = True,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Check every case of a golden folder by its own rounding: float32 against float64 of the reference.

    Args:
        folder: The folder as published, with ``meta.json`` and the io files.
        convert: The converter, to trace which foreign tensor went where.
        arguments: Its arguments.
        state: The foreign tensors.
        traced: Whether the converter moves elements only, so that numbered tensors show their places.
        config: Settings that no file of the folder holds.
    """
    origins = _origins(convert, arguments, state) if traced else None
    for file, case in json.loads((folder / "meta.json").read_text())["cases"].items():
        for dtype, suffix in ((torch.float32, ""), (torch.float64, "_f64")):
            model, tensors = load_model(folder, config=config).to(dtype), load_file(folder / file)
            mixture = tensors["mixture"].to(dtype, copy=True).requires_grad_()
            shape = tensors["probe"].shape
            estimates = model(mixture).view(*shape[:2], -1)[..., : shape[2]]
            (estimates * tensors["probe"].to(dtype)).sum().backward()
            error = (estimates.detach() - tensors[f"estimate{suffix}"]).abs().max()
            assert error <= NOISE_FLOORS * case["max_abs_dev_f32_vs_f64"], (file, dtype, error)
            assert mixture.grad is not None
            error = (mixture.grad - tensors[f"grad_mixture{suffix}"]).abs().max()
            assert error <= NOISE_FLOORS * case["grad_dev"], (file, dtype, error)
            if origins is not None and dtype == torch.float64 and case.get("param_grads_sum_l2"):
                gradients = {
                    key: each.grad for key, each in model.named_parameters() if each.grad is not None
                }
                norms = {name: l2 for name, (_, l2) in case["param_grads_sum_l2"].items()}
                _check_parameter_gradients(gradients, origins, norms)
