"""SepFormer, RE-SepFormer and SkiM files of SpeechBrain and of the original trainer give their numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint, save_model
from polsess.checkpoints.formats import Converter
from polsess.checkpoints.toolkits import original
from polsess.checkpoints.toolkits.speechbrain import reader as speechbrain
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Hyperparams
from polsess.checkpoints.weight_files import WeightFiles, state_of
from tests.checkpoints.parity import assert_parity
from tests.conftest import GOLDEN

SPEECHBRAIN = [
    "sb_sepformer",
    "sb_sepformer_enh1",
    "sb_sepformer_options",
    "sb_sepformer_unequal",
    "sb_resepformer",
    "sb_resepformer_options",
    "sb_skim",
    "sb_skim_causal",
]
ORIGINAL = {"polsess_sepformer_legacy": "best_model.pt", "polsess_resepformer": "resepformer_SB_best.pt"}


def foreign(folder: Path, source: str) -> tuple[Converter, dict[str, Any], dict[str, Tensor]]:
    """The converter of a golden folder and what it takes."""
    files = WeightFiles(folder / source)
    if source != ".":
        content = files.torch_dict(source)
        name, arguments = original.model_arguments(content["config"]["model"], source)
        return original.CONVERTERS[name], arguments, state_of(content["model_state_dict"], source)
    hyperparams = Hyperparams(files.yaml("hyperparams.yaml"), "hyperparams.yaml")
    arguments = speechbrain.network_arguments(hyperparams, "hyperparams.yaml")
    state = {
        f"{part}.{key}": value
        for part in speechbrain.PARTS
        for key, value in state_of(files.torch_file(f"{part}.ckpt"), part).items()
    }
    return speechbrain.CONVERTERS[speechbrain._network_name(hyperparams)], arguments, state


@pytest.mark.parametrize(
    ("name", "source"), [*((name, ".") for name in SPEECHBRAIN), *ORIGINAL.items()], ids=str
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
        torch.testing.assert_close(estimate[..., : target.shape[-1]], target, rtol=1e-5, atol=1e-5)


def test_resepformer_items_do_not_attend_to_each_other() -> None:
    tensors = load_file(GOLDEN / "sb_resepformer" / "io_batch2.safetensors")
    estimates = load_model(GOLDEN / "sb_resepformer")(tensors["mixture"])
    torch.testing.assert_close(estimates, tensors["estimate_items_run_alone"], rtol=1e-5, atol=1e-5)
    assert (estimates - tensors["estimate"]).abs().max() > 0.1  # as the toolkit mixes them


def test_published_layout_variants_load(tmp_path: Path) -> None:
    """Anchors in place of references; a table of positions of another length."""
    folder = shutil.copytree(GOLDEN / "sb_sepformer", tmp_path / "anchors")
    text = (folder / "hyperparams.yaml").read_text()
    for name in ("Encoder", "Decoder", "MaskNet"):
        text = text.replace(f"{name}: !new", f"{name}: &id_{name} !new").replace(
            f"!ref <{name}>", f"*id_{name}"
        )
    (folder / "hyperparams.yaml").write_text(text)
    change_tensors(folder, lambda state: {**state, POSITIONS: state[POSITIONS][:, :700]})
    mixture = torch.randn(1, 500)
    with torch.no_grad():
        assert torch.equal(load_model(folder)(mixture), load_model(GOLDEN / "sb_sepformer")(mixture))


POSITIONS = "dual_mdl.0.inter_mdl.pos_enc.pe"


def change_tensors(folder: Path, change: Any, name: str = "masknet.ckpt") -> None:
    state = torch.load(folder / name, weights_only=True)
    torch.save(change(state), folder / name)


TEXT_MISTAKES = [
    ("sb_sepformer", "norm_before: True", "norm_befor: True", "arguments that are not read: norm_befor=True"),
    ("sb_sepformer", "norm: ln", "norm: bn", "norm='bn' is not read, only ln, gln, cln"),
    ("sb_sepformer", "nhead: 4", "nhead: 5", "d_model 16 must be a multiple of num_heads 5"),
    ("sb_sepformer", "K: 20", "K: twenty", "model.chunk_size"),
    ("sb_sepformer", "num_spks: 2", "num_spks: 3", r"to_sources.weight is \[32, 16\].*asks for \[48, 16\]"),
    (
        "sb_sepformer",
        "SBTransformerBlock",
        "SBConformerBlock",
        "the SpeechBrain class '.*' is not known here",
    ),
    ("sb_sepformer", "    norm: ln", "    use_global_pos_enc: True", "use_global_pos_enc=True is not read"),
    ("sb_sepformer", "dropout: 0", "attention_type: RoPEMHA", "attention_type='RoPEMHA' is not read"),
    ("sb_resepformer", "mem_type: 'av'", "mem_type: hc", "mem_type='hc' is not read, only av, None"),
    ("sb_resepformer", "num_spks: 2", "num_spks: 3", r"to_masks.weight is \[32, 16\].*asks for \[48, 16\]"),
    ("sb_skim", "mem_type: hc", "mem_type: av", "mem_type='av' is not read"),
    ("sb_skim", "layer: 3", "layer: 4", "missing; the configuration asks for it"),
    ("sb_skim", "    norm_type: gln", "    dropout: 0", "norm.running_mean and 8 more"),  # a batch norm there
]


@pytest.mark.parametrize(("name", "old", "new", "message"), TEXT_MISTAKES)
def test_yaml_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    folder = shutil.copytree(GOLDEN / name, tmp_path / name)
    text = (folder / "hyperparams.yaml").read_text()
    assert old in text
    (folder / "hyperparams.yaml").write_text(text.replace(old, new))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_transformers_across_chunks_may_have_options_of_their_own(tmp_path: Path) -> None:
    config = read_checkpoint(GOLDEN / "sb_sepformer_unequal").config.model_dump(exclude_none=True)
    assert (config["num_heads"], config["num_intra_layers"], config["num_inter_layers"]) == (2, 2, 1)
    different = {"num_heads": 4, "d_ffn": 10, "activation": "relu"}
    assert config["across"] == {**different, "norm_first": True, "positional_encoding": True}
    model = load_model(GOLDEN / "sb_sepformer_unequal")
    again = load_model(save_model(model, tmp_path / "saved"))
    mixture = torch.randn(1, 200)
    assert torch.equal(again(mixture), model(mixture))
    equal = read_checkpoint(GOLDEN / "sb_sepformer").config.model_dump(exclude_none=True)
    assert equal["across"] == {}


TENSOR_MISTAKES: list[tuple[Any, str]] = [
    (lambda state: {**state, POSITIONS: state[POSITIONS] + 0.1}, "does not hold sinusoidal positions"),
    (lambda state: {**state, POSITIONS: state[POSITIONS][0]}, "does not hold sinusoidal positions"),
    (lambda state: {**state, "prelu.weights": state["prelu.weight"]}, "'masknet.prelu.weights' is not part"),
    (lambda state: {k: v for k, v in state.items() if k != "conv2d.bias"}, "to_sources.bias is missing"),
    (lambda state: {k: v for k, v in state.items() if k != "output.0.bias"}, "'output.bias' is missing"),
    (lambda state: {**state, "output.0.weight": torch.zeros(2, 3)}, r"output.weight is \[2, 3\]"),
    (lambda state: {**state, "norm.weight": torch.full((16,), torch.nan)}, "NaN or infinite"),
]


@pytest.mark.parametrize(("change", "message"), TENSOR_MISTAKES)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = shutil.copytree(GOLDEN / "sb_sepformer", tmp_path / "changed")
    change_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_original_files_with_other_arguments_are_refused() -> None:
    folder, source = GOLDEN / "polsess_sepformer_legacy", ORIGINAL["polsess_sepformer_legacy"]
    convert, arguments, state = foreign(folder, source)
    with pytest.raises(CheckpointError, match="stride=4 does not fit the encoder, 8 would"):
        convert({**arguments, "stride": 4}, state)
    with pytest.raises(CheckpointError, match="arguments that are not read: depth=3"):
        convert({**arguments, "depth": 3}, state)
