"""Every experiment in configs/ is read, and one step of it is run at a tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest

from polsess.config import load_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_experiment_is_read_and_named_after_what_it_is(path: Path) -> None:
    config = load_config(path)
    model, task, corpus = path.stem.split("_", 2)
    assert model == config.model.model_type
    assert task == config.task.lower()
    assert corpus.startswith(config.data.corpus.corpus_type)
