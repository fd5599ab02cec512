"""The engine adds nothing to the training of a model: its result is that of a plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.checkpoints import load_model
from polsess.config import parse_config
from polsess.training.run import train
from tests.training.plain_loop import test_score as score_of
from tests.training.plain_loop import train_plainly

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_the_engine_trains_what_a_plain_loop_trains(
    experiment: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    """Bit for bit on one thread; the seeds beyond the first are slow and need not be run every time."""
    experiment |= {"model": {"model_type": "convtasnet", "preset": "tiny"}, "seed": seed}
    experiment["training"] = {"max_epochs": 3, "optimizer": {"learning_rate": 0.003, "schedule": "constant"}}
    config = parse_config(experiment)
    plain = train_plainly(config)
    train(config, tmp_path / "run", progress=False)
    weights = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in plain.model.state_dict().items():
        assert torch.equal(weights[f"model.{name}"], value), name
    engine = load_model(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert score_of(engine, config) == pytest.approx(score_of(plain.model, config), abs=1e-3)
    assert plain.losses[-1] < plain.losses[0] - 3.0  # it did learn
