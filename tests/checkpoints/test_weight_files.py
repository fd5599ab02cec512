"""Names of tensors as wrappers of a network leave them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.checkpoints import load_model
from polsess.checkpoints.weight_files import unwrapped
from tests.conftest import GOLDEN

FILES = [
    ("ast_convtasnet", "pytorch_model.bin", "state_dict"),
    ("polsess_convtasnet_legacy", "best_model.pt", "model_state_dict"),
    ("sb_convtasnet", "masknet.ckpt", None),
    ("mambatasnet", "masknet.ckpt", None),
    ("tfgridnetv2", "valid.loss.ave.pth", None),
    ("sepreformer", "epoch.0009.pth", "model_state_dict"),
    ("spmamba", "best_model.pth", "state_dict"),
]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
@pytest.mark.parametrize(("folder", "name", "section"), FILES)
def test_wrapped_networks_load(
    folder: str, name: str, section: str | None, prefix: str, tmp_path: Path
) -> None:
    target = shutil.copytree(GOLDEN / folder, tmp_path / folder)
    content: dict[str, Any] = torch.load(GOLDEN / folder / name, weights_only=False)
    wrapped = {prefix + key: value for key, value in (content[section] if section else content).items()}
    torch.save({**content, section: wrapped} if section else wrapped, target / name)
    plain, loaded = (load_model(each).state_dict() for each in (GOLDEN / folder, target))
    assert plain.keys() == loaded.keys()
    assert all(torch.equal(plain[key], loaded[key]) for key in plain)


def test_only_what_all_names_begin_with_is_left_out() -> None:
    assert unwrapped({"module._orig_mod.a": 1, "module._orig_mod.module.b": 2}) == {"a": 1, "module.b": 2}
    assert unwrapped({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}
    assert unwrapped({}) == {}
