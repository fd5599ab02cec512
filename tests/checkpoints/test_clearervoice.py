"""MossFormer2's published layouts through the door: parity, and one clear line for what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.clearervoice import convert_mossformer2, native_name
from tests.checkpoints.parity import assert_parity_within_noise
from tests.conftest import GOLDEN
from tests.models.noise_floor import assert_parity

FOLDER = GOLDEN / "mossformer2"
HUB = "pytorch_model.bin"
CLEARER = "clearvoice_MossFormer2_SS"
GROUP = {"group_size": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "published"))


def parameter_names(path: Path) -> dict[str, str]:
    state = torch.load(path, weights_only=True)
    return {key: native_name(key) for key in state if not key.endswith(("freqs", "inv_freq"))}


def change(path: Path, key: str, value: torch.Tensor | None, inner: str | None = None) -> None:
    content = torch.load(path, weights_only=True)
    state = content[inner] if inner else content
    if value is None:
        del state[key]
    else:
        state[key] = value
    torch.save(content, path)


def test_parity_of_the_masking_variant() -> None:
    model = load_model(FOLDER, config=GROUP)
    assert_parity(model, FOLDER, parameter_names(FOLDER / HUB))


def test_parity_of_the_mapping_variant() -> None:
    folder = GOLDEN / "mossformer2_whamr_map"
    model = load_model(folder, config={"group_size": 8})
    assert model.config.model_dump()["output_mode"] == "map"
    assert_parity(model, folder, parameter_names(folder / HUB))


def test_parity_of_the_dual_path_names() -> None:
    folder = GOLDEN / "mossformer2_dual_path"
    arguments, state = (
        json.loads((folder / "config.json").read_text()),
        torch.load(folder / HUB, weights_only=True),
    )
    assert_parity_within_noise(
        folder, convert_mossformer2, arguments, state, traced=False, config={"group_size": 16}
    )


@pytest.mark.parametrize(
    ("source", "sample_rate"),
    [
        ("masknet.ckpt", 8000),
        (HUB, 8000),
        (CLEARER, 16000),
        (f"{CLEARER}/last_best_checkpoint", 16000),
        (f"{CLEARER}/last_best_checkpoint.pt", 16000),
        ("modelscope_temporal_8k", 8000),
        (f"modelscope_temporal_8k/{HUB}", 8000),
    ],
)
def test_all_layouts_hold_the_same_model(source: str, sample_rate: int, folder: Path) -> None:
    if source == "masknet.ckpt":
        (folder / HUB).unlink()
    expected = read_checkpoint(FOLDER).state
    found = read_checkpoint(folder / source)
    assert found.format == "clearervoice"
    assert found.config.sample_rate == sample_rate
    assert found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[key], expected[key]) for key in expected)


def test_three_parts_without_the_single_file(folder: Path) -> None:
    (folder / HUB).unlink()
    assert read_checkpoint(folder).config == read_checkpoint(FOLDER).config


@pytest.mark.parametrize("inner", ["model", None])
def test_prefixes_of_parallel_training_and_absent_constants(inner: str | None, tmp_path: Path) -> None:
    content = torch.load(FOLDER / CLEARER / "last_best_checkpoint.pt", weights_only=True)["model"]
    state = {f"module.{k}": v for k, v in content.items() if not k.endswith(("freqs", "inv_freq"))}
    path = tmp_path / "model.ckpt-12-3400.pt"
    torch.save({"model": state, "optimizer": {}} if inner else state, path)
    found, expected = read_checkpoint(path), read_checkpoint(FOLDER / CLEARER)
    assert all(torch.equal(found.state[key], expected.state[key]) for key in expected.state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision(dtype: torch.dtype, folder: Path) -> None:
    content = torch.load(folder / HUB, weights_only=True)
    torch.save({key: value.to(dtype) for key, value in content.items()}, folder / HUB)
    found, expected = read_checkpoint(folder), read_checkpoint(FOLDER)
    assert found.config == expected.config
    assert torch.equal(found.state["encoder.weight"], expected.state["encoder.weight"].to(dtype))


def test_the_rate_from_the_folder_s_name(tmp_path: Path) -> None:
    target = tmp_path / "MossFormer2_SS_8K"
    shutil.copytree(FOLDER / CLEARER, target)
    assert read_checkpoint(target).config.sample_rate == 8000
    assert read_checkpoint(target, config={"sample_rate": 16000}).config.sample_rate == 16000


@pytest.mark.parametrize(
    ("files", "sample_rate"),
    [
        (["encoder.ckpt", "masknet.ckpt", "decoder.ckpt"], 8000),
        ([HUB], 8000),
        ([f"modelscope_temporal_8k/{HUB}"], 8000),
        ([f"{CLEARER}/last_best_checkpoint", f"{CLEARER}/last_best_checkpoint.pt"], 16000),
    ],
)
def test_the_rate_of_the_publication_where_nothing_states_one(
    files: list[str], sample_rate: int, tmp_path: Path
) -> None:
    for name in files:
        shutil.copy(FOLDER / name, tmp_path)
    found = read_checkpoint(tmp_path, config={"output_mode": "mask"})
    assert found.config.sample_rate == sample_rate


def test_without_its_name_the_variant_must_be_said(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="say whether the network masks or maps"):
        load_model(folder)
    model = load_model(folder, config={"output_mode": "map"})
    assert model.config.model_dump()["output_mode"] == "map"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("encoder.conv1d.weight", None, "encoder.weight is missing"),
        ("encoder.conv1d.weight", torch.zeros(3), r"encoder.weight is \[3\]; expected 3 dimensions"),
        ("masknet.prelu.weight", None, "split.0.weight is missing"),
        ("masknet.surplus.weight", torch.zeros(2), "surplus.weight is unknown"),
        ("masknet.conv1d_out.bias", torch.zeros(5), r"split.1.bias is \[5\], the configuration asks"),
        ("masknet.pos_enc.inv_freq", torch.ones(12), "other frequencies"),
        ("masknet.pos_enc.inv_freq", torch.ones(12, dtype=torch.bfloat16), "other frequencies"),
        ("masknet.prelu.weight", torch.full((1,), torch.nan), "NaN"),
        ("masknet.prelu.weight", torch.ones(1, dtype=torch.int8), "int8, expected floating-point"),
        ("module.masknet.prelu.weight", torch.zeros(1), "two tensors take one place"),
    ],
)
def test_damaged_tensors(folder: Path, key: str, value: torch.Tensor | None, message: str) -> None:
    change(folder / HUB, key, value)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("masknet_numspks", 3, "masknet_numspks is 3, the tensors have 2"),
        ("masknet_norm", "cln", "masknet_norm='cln' is not read, only 'ln'"),
        ("masknet_extraskipconnection", False, "masknet_extraskipconnection=False is not read"),
        ("encoder_kernel_size", 8, "encoder_kernel_size is 8, the tensors have 16"),
        ("intra_numlayers", 24, "intra_numlayers is 24, the tensors have 2"),
        ("sample_rate", "8k", "sample_rate"),
    ],
)
def test_contradicting_configurations(folder: Path, key: str, value: object, message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_configuration_for_what_the_tensors_tell_is_refused() -> None:
    with pytest.raises(CheckpointError, match="config may give only"):
        load_model(FOLDER, config={"num_filters": 24})


@pytest.mark.parametrize("name", ["missing.pt", "../pytorch_model.bin", "", "\x00"])
def test_a_pointer_to_nothing_or_out_of_the_folder(folder: Path, name: str) -> None:
    (folder / CLEARER / "last_best_checkpoint").write_text(name)
    with pytest.raises(CheckpointError, match="missing beside it"):
        load_model(folder / CLEARER)


def test_another_network_of_the_toolkit_is_named(folder: Path) -> None:
    target = folder / CLEARER / "last_best_checkpoint.pt"
    torch.save({"model": {"module.mossformer.masknet.weight": torch.zeros(2)}}, target)
    with pytest.raises(CheckpointError, match="not of its MossFormer2 for separation"):
        load_model(folder / CLEARER)
