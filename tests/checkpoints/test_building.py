"""Models for the tensors of a file: nothing is drawn, nothing heavy imported, no claim believed."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from polsess.checkpoints import CheckpointError
from polsess.checkpoints.building import build_model, check_state
from polsess.models import Network, create_model, list_models, parse_model_config
from polsess.schema import ConfigError

MODELS: dict[str, Network] = {}
CHECK_EVERY_ARCHITECTURE = """
import sys
from polsess.checkpoints import check_state
from polsess.models import Network, create_model, list_models

for name in list_models(Network):
    model = create_model(name, kind=Network, preset="tiny")
    check_state(model.config, model.state_dict(), name)
heavy = {"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules)
sys.exit(f"imported: {sorted(heavy)}" if heavy else 0)
"""


def test_checking_sizes_imports_no_compiler() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHECK_EVERY_ARCHITECTURE], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", list_models(Network))
def test_weights_arrive_and_no_generator_moves(name: str) -> None:
    model = create_model(name, kind=Network, preset="tiny")
    before = torch.get_rng_state()
    built = build_model(model.config, model.state_dict(), "file", kind=Network)
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in model.state_dict().items():
        assert torch.equal(built.state_dict()[key], value), key
    kept = [(key, value.requires_grad) for key, value in model.named_parameters()]
    assert [(key, value.requires_grad) for key, value in built.named_parameters()] == kept
    buffers = dict(model.named_buffers())
    assert all(torch.equal(value, buffers[key]) for key, value in built.named_buffers())


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("convtasnet", {"num_filters": 16384, "bottleneck_channels": 16384}),
        ("convtasnet", {"num_blocks": 16, "num_repeats": 64, "hidden_channels": 1 << 14}),
        ("lstmtasnet", {"num_layers": 1 << 6, "hidden_size": 1 << 14}),
        ("crnn", {"num_channels": 512, "hidden_size": 1024, "num_layers": 8}),
        ("tdnn", {"num_channels": 2048, "dilations": [1] * 32}),
    ],
)
def test_claims_beyond_the_tensors_cost_no_memory(name: str, claim: dict[str, int]) -> None:
    state = create_model(name, kind=Network, preset="tiny").state_dict()
    config = parse_model_config({"model_type": name, "preset": "tiny", **claim}, kind=Network)
    with pytest.raises(CheckpointError, match=r"^file: the configuration asks for (many|a network many)"):
        check_state(config, state, "file")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_eight_bits_are_refused(dtype: torch.dtype) -> None:
    model = create_model("convtasnet", preset="tiny")
    state = {**model.state_dict(), "to_masks.weight": model.state_dict()["to_masks.weight"].to(dtype)}
    with pytest.raises(CheckpointError, match=rf"^file: to_masks.weight is {dtype}, expected weights of 16"):
        check_state(model.config, state, "file")


def sizes() -> list[tuple[str, str]]:
    configs = {
        name: parse_model_config({"model_type": name, "preset": "tiny"}, kind=Network)
        for name in list_models(Network)
    }
    return [
        (name, field)
        for name, config in configs.items()
        for field, value in config.model_dump().items()
        if isinstance(value, int) and not isinstance(value, bool) and field != "sample_rate"
    ]


@pytest.mark.parametrize("size", [1 << 16, 10**9, 10**30])
@pytest.mark.parametrize(("name", "field"), sizes())
def test_a_size_that_is_not_that_of_the_tensors_takes_neither_time_nor_memory(
    name: str, field: str, size: int
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reason = refusal(name, field, size)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert reason.startswith(("file: ", "model")) or (not reason and size == 1 << 16)  # e.g. of chunks
    assert grown < 1_000_000  # KiB
    assert torch.is_grad_enabled()


def refusal(name: str, field: str, size: int) -> str:
    """Why the tiny model with one other size is refused; nothing if it is not."""
    model = MODELS.setdefault(name, create_model(name, kind=Network, preset="tiny"))
    try:
        config = parse_model_config({"model_type": name, "preset": "tiny", field: size}, kind=Network)
        check_state(config, model.state_dict(), "file")
    except (ConfigError, CheckpointError) as error:
        return str(error)
    return ""
