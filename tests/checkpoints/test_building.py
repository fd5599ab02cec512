"""Models for the tensors of a file: nothing is drawn, nothing heavy imported, no claim believed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from polsess.checkpoints import CheckpointError
from polsess.checkpoints.building import build_model, check_state
from polsess.models import create_model, list_models, parse_model_config

CHECK_EVERY_ARCHITECTURE = """
import sys
from polsess.checkpoints import check_state
from polsess.models import create_model, list_models

for name in list_models():
    model = create_model(name, preset="tiny")
    check_state(model.config, model.state_dict(), name)
heavy = {"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules)
sys.exit(f"imported: {sorted(heavy)}" if heavy else 0)
"""


def test_checking_sizes_imports_no_compiler() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHECK_EVERY_ARCHITECTURE], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", list_models())
def test_weights_arrive_and_no_generator_moves(name: str) -> None:
    model = create_model(name, preset="tiny")
    before = torch.get_rng_state()
    built = build_model(model.config, model.state_dict(), "file")
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
    ],
)
def test_claims_beyond_the_tensors_cost_no_memory(name: str, claim: dict[str, int]) -> None:
    state = create_model(name, preset="tiny").state_dict()
    config = parse_model_config({"model_type": name, "preset": "tiny", **claim})
    with pytest.raises(CheckpointError, match=r"^file: the configuration asks for (many|a network many)"):
        check_state(config, state, "file")
