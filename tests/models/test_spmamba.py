"""SPMamba, Mamba-TasNet and DPMamba: sizes, the options, and what only they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polsess.models import SeparationModel, create_model
from polsess.schema import ConfigError


def perturbed(name: str, **overrides: Any) -> SeparationModel:
    """A tiny model whose scans matter: with the initial step sizes the skip hides them."""
    model = create_model(name, preset="tiny", **overrides).double().eval()
    for key, parameter in model.named_parameters():
        if key.endswith("dt_proj.bias"):
            nn.init.uniform_(parameter, -2.5, -1.0)
        elif key.endswith(".D"):
            nn.init.uniform_(parameter, 0.3, 0.8)
        elif key.endswith(("x_proj.weight", "in_proj.weight")):
            nn.init.normal_(parameter, std=0.7)
    return model


def mixture(samples: int = 700) -> Tensor:
    return torch.randn(1, samples, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "preset", "parameters"),
    [
        ("spmamba", "wsj0_2mix", 6_094_498),
        ("spmamba", "echo2mix", 6_141_826),
        ("mambatasnet", "xs", 2_210_176),
        ("mambatasnet", "s", 7_926_528),
        ("mambatasnet", "m", 15_647_488),
        ("mambatasnet", "l", 58_951_168),
        ("dpmamba", "xs", 2_265_857),
        ("dpmamba", "s", 8_136_193),
        ("dpmamba", "m", 15_869_441),
        ("dpmamba", "l", 59_788_289),
    ],
)
def test_published_parameter_counts(name: str, preset: str, parameters: int) -> None:
    with torch.device("meta"):
        model = create_model(name, preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("spmamba", {"eps": 0.1}),
        ("spmamba", {"stride": 2}),
        ("spmamba", {"window": "sqrt_hann"}),
        ("dpmamba", {"skip_around_intra": True}),
        ("dpmamba", {"chunk_size": 14}),
        ("dpmamba", {"norm": "cLN"}),
    ],
)
def test_options_without_parameters_change_the_estimate(name: str, changes: dict[str, Any]) -> None:
    model = perturbed(name)
    other = create_model(name, preset="tiny", **changes).double().eval()
    other.load_state_dict(model.state_dict())
    wave = mixture()
    with torch.no_grad():
        assert not torch.allclose(model(wave), other(wave), rtol=1e-3)


@pytest.mark.parametrize("name", ["spmamba", "mambatasnet", "dpmamba"])
@pytest.mark.parametrize("field", ["num_states", "conv_kernel_size", "expansion"])
def test_sizes_of_the_state_space_models_change_the_tensors(name: str, field: str) -> None:
    sizes: dict[str, Any] = {field: 3}
    model, other = create_model(name, preset="tiny"), create_model(name, preset="tiny", **sizes)
    suffix = {"num_states": "A_log", "conv_kernel_size": "conv1d.weight", "expansion": ".D"}[field]
    keys = [key for key in model.state_dict() if key.endswith(suffix)]
    assert keys
    assert all(3 in other.state_dict()[key].shape or field == "expansion" for key in keys)
    assert all(other.state_dict()[key].shape != model.state_dict()[key].shape for key in keys)


@pytest.mark.parametrize("name", ["spmamba", "mambatasnet", "dpmamba"])
def test_the_scan_matters(name: str) -> None:
    """Guards the tests themselves: decay rates must reach the estimate."""
    model, wave = perturbed(name), mixture()
    with torch.no_grad():
        before = model(wave)
        for key, parameter in model.named_parameters():
            if key.endswith("A_log"):
                parameter.add_(0.3)
        assert (model(wave) - before).norm() > 1e-3 * before.norm()


def test_recomputed_blocks_give_the_same_gradients_from_less_memory() -> None:
    model, wave = perturbed("spmamba"), mixture()
    twin = create_model("spmamba", preset="tiny", recompute_blocks=True).double()
    twin.load_state_dict(model.state_dict())
    kept: list[int] = []
    for each in (model, twin):
        saved: list[int] = []

        def pack(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = each(wave).square().sum()
        kept.append(sum(saved))
        loss.backward()
    assert kept[1] < kept[0] / 3
    others = dict(twin.named_parameters())
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(others[key].grad, parameter.grad)


def test_the_level_of_the_mixture_is_the_level_of_the_estimate() -> None:
    model, wave = perturbed("spmamba"), mixture()
    with torch.no_grad():
        torch.testing.assert_close(model(1e-3 * wave), 1e-3 * model(wave))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("spmamba", {"num_heads": 3}, "num_channels=4 must be a multiple of num_heads=3"),
        ("spmamba", {"stride": 4}, "stride=4 must be at most kernel_size=3"),
        ("spmamba", {"hop_length": 20}, "overlap"),
        ("mambatasnet", {"kernel_size": 1}, "kernel_size"),
        ("dpmamba", {"chunk_size": 1}, "chunk_size"),
        ("dpmamba", {"expansion": 0}, "expansion"),
    ],
)
def test_wrong_configurations(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, preset="tiny", **changes)
