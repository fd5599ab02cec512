"""SR-CorrNet's hub folder through the door: parity, earlier names, and files that do not fit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from tests.checkpoints.parity import NOISE_FLOORS
from tests.conftest import GOLDEN

FOLDERS = ["sr_corrnet", "sr_corrnet_var"]
EARLIER = (
    (r"^encoder\.", "input_layer."),
    (r"^filter_estim", "mask_estim"),
    (r"\.freq_block\.", ".frame_wise_block."),
    (r"\.time_block\.", ".freq_wise_block."),
    (r"\.ca\.", ".cs."),
    (r"\.block\.sa\.", ".block.ega."),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(GOLDEN / "sr_corrnet", tmp_path / "published"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FOLDERS)
def test_parity(name: str, dtype: torch.dtype) -> None:
    suffix = "" if dtype == torch.float32 else "_f64"
    for file, case in json.loads((GOLDEN / name / "meta.json").read_text())["cases"].items():
        model, tensors = load_model(GOLDEN / name).to(dtype).eval(), load_file(GOLDEN / name / file)
        mixture = tensors["mixture"].to(dtype, copy=True).requires_grad_()
        number, length = tensors["probe"].shape[1:]
        estimates, counts = model.separate_counted(mixture, tensors.get("n_spks_given"))
        assert estimates.shape == (len(mixture), model.output_sources, mixture.shape[-1])
        assert not estimates[:, number:].any()
        assert not estimates[..., length:].any()  # of less than a frame
        estimates = estimates[:, :number, :length]
        (estimates * tensors["probe"].to(dtype)).sum().backward()
        at_unit_level = estimates.detach() / tensors["input_scale"].to(dtype)[..., None]
        error = (at_unit_level - tensors[f"estimate{suffix}"]).abs().max()
        assert error <= NOISE_FLOORS * case["max_abs_dev_f32_vs_f64"], (file, error)
        assert mixture.grad is not None
        error = (mixture.grad - tensors["grad_mixture_rescaled"]).abs().max()
        assert error <= NOISE_FLOORS * case["grad_dev"], (file, error)
        if counts is not None:
            there = tensors["presence_probs"][:, 1:] > 0.5
            assert counts.numbers.tolist() == there.sum(1).clamp_max(model.output_sources).tolist()


@pytest.mark.parametrize("name", FOLDERS)
def test_every_published_spelling_is_the_same_model(name: str, tmp_path: Path) -> None:
    expected = read_checkpoint(GOLDEN / name)
    assert (expected.format, expected.config.sample_rate) == ("sr_corrnet", 8000)
    content = torch.load(GOLDEN / name / "model.pt", weights_only=True)
    state = content.get("model_state_dict", content)
    shutil.copy(GOLDEN / name / "config.yaml", tmp_path)

    def earlier(key: str) -> str:
        for pattern, replacement in EARLIER:
            key = re.sub(pattern, replacement, key)
        return f"_orig_mod.{key}"

    for written in (dict(state), {"model_state_dict": {earlier(key): value for key, value in state.items()}}):
        torch.save(written, tmp_path / "model.pt")
        found = read_checkpoint(tmp_path)
        assert found.config == expected.config
        assert found.state.keys() == expected.state.keys()
        assert all(torch.equal(value, expected.state[key]) for key, value in found.state.items())


def test_sizes_without_a_file(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"model.pt: config.yaml is missing, which holds the sizes"):
        load_model(folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "input_embedding", "num_mics"), 2, "input_embedding: num_mics=2 is not read, only 1"),
        (("model", "mask_estimator", "MIMO"), True, "mask_estimator: MIMO=True is not read, only False"),
        (("model", "multi_path_block", "channel_module", "d_hidden"), 9, "d_hidden: 9 and 12; only equal"),
        (("model", "N_Enc"), 2, "encoder_blocks.1"),
        (("model", "colour"), "red", "arguments that are not read: colour='red'"),
        (("stft", "frame_shift"), 10, "a half or a quarter of n_fft=32"),
        (("stft",), None, "SR-CorrNet: stft must be a mapping, got None"),
        (("dataset", "synthesis_config"), {}, "sampling_rate is missing"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    content = yaml.safe_load((folder / "config.yaml").read_text())
    place = content["config"]
    for key in path[:-1]:
        place[key] = dict(place[key])
        place = place[key]
    place[path[-1]] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match=re.escape(message)) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
