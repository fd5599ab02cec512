"""SepFormer and RE-SepFormer files of SpeechBrain and of the original trainer give their numbers here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polsess.checkpoints import load_model
from polsess.checkpoints.formats import Converter
from polsess.checkpoints.legacy import reader as legacy
from polsess.checkpoints.speechbrain import reader as speechbrain
from polsess.checkpoints.speechbrain.hyperparams import Hyperparams
from polsess.checkpoints.weight_files import WeightFiles, state_of
from tests.checkpoints.parity import assert_parity
from tests.conftest import GOLDEN

SPEECHBRAIN = ["sb_sepformer", "sb_sepformer_enh1", "sb_resepformer"]
LEGACY = {"polsess_sepformer_legacy": "best_model.pt", "polsess_resepformer": "resepformer_SB_best.pt"}


def foreign(folder: Path, source: str) -> tuple[Converter, dict[str, Any], dict[str, Tensor]]:
    """The converter of a golden folder and what it takes."""
    files = WeightFiles(folder / source)
    if source != ".":
        content = files.torch_dict(source)
        name, arguments = legacy.model_arguments(content["config"]["model"], source)
        return legacy.CONVERTERS[name], arguments, state_of(content["model_state_dict"], source)
    hyperparams = Hyperparams(files.yaml("hyperparams.yaml"), "hyperparams.yaml")
    arguments = speechbrain.network_arguments(hyperparams, "hyperparams.yaml")
    state = {
        f"{part}.{key}": value
        for part in speechbrain.PARTS
        for key, value in state_of(files.torch_file(f"{part}.ckpt"), part).items()
    }
    return speechbrain.CONVERTERS[speechbrain._network_name(hyperparams)], arguments, state


@pytest.mark.parametrize(
    ("name", "source"), [*((name, ".") for name in SPEECHBRAIN), *LEGACY.items()], ids=str
)
def test_golden_parity(name: str, source: str) -> None:
    folder = GOLDEN / name
    convert, arguments, state = foreign(folder, source)
    weights = {key: value for key, value in state.items() if not key.endswith(".pe")}
    assert_parity(folder, source, convert=convert, arguments=arguments, state=weights)
    model = load_model(folder / source)
    expected = json.loads((folder / "meta.json").read_text())["num_params"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    for path in folder.glob("io*.safetensors"):  # what inference computes block by block
        with torch.no_grad():
            tensors = load_file(path)
            estimate = model(tensors["mixture"]).reshape(
                tensors["mixture"].shape[0], model.output_sources, -1
            )
        target = tensors.get("estimate_items_run_alone", tensors["estimate"])
        torch.testing.assert_close(estimate[..., : target.shape[-1]], target, rtol=1e-5, atol=3e-6)


def test_resepformer_items_do_not_attend_to_each_other() -> None:
    tensors = load_file(GOLDEN / "sb_resepformer" / "io_batch2.safetensors")
    estimates = load_model(GOLDEN / "sb_resepformer")(tensors["mixture"])
    torch.testing.assert_close(estimates, tensors["estimate_items_run_alone"], rtol=1e-5, atol=3e-6)
    assert (estimates - tensors["estimate"]).abs().max() > 0.1  # as the toolkit mixes them
