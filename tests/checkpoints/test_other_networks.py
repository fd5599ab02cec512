"""Files in which the tensors of one network lie where those of another are expected."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model
from tests.conftest import GOLDEN


def tensors_of(name: str) -> dict[str, Tensor]:
    if name == "tiger":
        return load_file(GOLDEN / "tiger/model.safetensors")
    if name == "tf_mossformer":
        return load_file(GOLDEN / "bundle_tf_mossformer/weights.safetensors")
    path, key = {"sr_corrnet": ("model.pt", "model_state_dict"), "gtcrn": ("model.tar", "model")}.get(
        name, ("pytorch_model.pt", "")
    )
    content = torch.load(GOLDEN / name / path, weights_only=False)
    return dict(content.get(key, content))


@pytest.mark.parametrize(
    ("folder", "file", "other", "message"),
    [
        (
            "tiger",
            "model.safetensors",
            "sr_corrnet",
            "TIGER: .* model.safetensors holds .* of SR-CorrNet, which is",
        ),
        ("bundle_convtasnet", "weights.safetensors", "tiger", "MaskNet: .* of TIGER, which is read from"),
        ("fla_tflocoformer", "pytorch_model.pt", "fla_sepreformer", "TF-Locoformer: .* of a SepReformer"),
        ("fla_tflocoformer", "pytorch_model.pt", "sr_corrnet", "TF-Locoformer: .* of SR-CorrNet"),
        ("sr_corrnet", "model.pt", "tiger", "model.pt holds the tensors of TIGER"),
        ("sr_corrnet", "model.pt", "gtcrn", "model.pt holds the tensors of GTCRN"),
        ("gtcrn", "model.tar", "tf_mossformer", "model.tar holds the tensors of TF-MossFormer"),
    ],
)
def test_the_network_whose_tensors_they_are_is_named(
    folder: str, file: str, other: str, message: str, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(GOLDEN / folder, tmp_path / "model", ignore=shutil.ignore_patterns("io*")))
    for path in place.glob("*"):
        path.chmod(0o644)
    (place / "pytorch_model.bin").unlink(missing_ok=True)
    state = tensors_of(other)
    if file.endswith(".safetensors"):
        save_file({key: value.contiguous().clone() for key, value in state.items()}, place / file)
    else:
        torch.save(state, place / file)
    with pytest.raises(CheckpointError, match=message):
        load_model(place)


@pytest.mark.parametrize("beside", [False, True])
def test_unmixx_is_refused_with_the_reason(beside: bool, tmp_path: Path) -> None:
    state = tensors_of("tiger")
    more = "separator.freq_path.1.Queries_noise.0.conv.weight"
    state[more] = torch.zeros(4, 8, 1, 1)
    if beside:  # under TIGER's own configuration
        shutil.copy(GOLDEN / "tiger/config.json", tmp_path)
        save_file(state, tmp_path / "model.safetensors")
        source = tmp_path
    else:
        source = tmp_path / "best.ckpt"
        torch.save({"state_dict": {f"audio_model.{key}": value for key, value in state.items()}}, source)
    with pytest.raises(
        CheckpointError, match="of UNMIXX, which is TIGER with a reverse attention for singers"
    ):
        load_model(source)


def test_rates_that_tiger_can_have_are_said(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "tiger/model.safetensors", tmp_path)
    text = (GOLDEN / "tiger/config.json").read_text()
    assert '"sample_rate": 16000' in text
    (tmp_path / "config.json").write_text(text.replace('"sample_rate": 16000', '"sample_rate": 8000'))
    with pytest.raises(CheckpointError, match=r"the bands reach 8000 Hz; expected at least 16000\.$"):
        load_model(tmp_path)
