"""FLASepformer's ModelScope folders through the door: parity, and settings that do not fit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.flasepformer import CONVERTERS
from tests.checkpoints.parity import assert_parity_within_noise
from tests.conftest import GOLDEN

FOLDERS = ["fla_tflocoformer", "fla_tflocoformer_layernorm_nogate", "fla_sepreformer"]


@pytest.mark.parametrize("name", FOLDERS)
def test_parity(name: str) -> None:
    model = json.loads((GOLDEN / name / "configuration.json").read_text())["model"]
    network = model.pop("type").partition("_separation_")[0]
    state = torch.load(GOLDEN / name / "pytorch_model.pt", weights_only=True)
    assert_parity_within_noise(GOLDEN / name, CONVERTERS[network], {**model, "sample_rate": 8000}, state)


def test_a_folder_says_its_rate() -> None:
    checkpoint = read_checkpoint(GOLDEN / FOLDERS[0])
    assert (checkpoint.format, checkpoint.config.sample_rate) == ("flasepformer", 8000)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("layers_type",), ["f", "x"], "layers_type: expected f or t, got 'x'"),
        (("layers_type",), "ft", "layers_type: expected a list of 1 to 256 entries, got 'ft'"),
        (("n_layers",), 3, "n_layers=3 is not read, only 4"),
        (("attn_types",), ["Softmax"], "attn_types: 'Softmax' is not read"),
        (("use_rope",), False, "use_rope=False is not read, only True"),
        (("ffn_type",), ["conv1d", "conv1d"], "is not read, only swiglu_conv1d_layerchange"),
        (("attn_addition_conf", "ega_addition_conf", "norm_type"), "BatchNorm", "norm_type='BatchNorm'"),
        (("attn_addition_conf", "ega_addition_conf", "colour"), 1, "arguments that are not read: colour=1"),
        (("attn_addition_conf",), None, "attn_addition_conf must be a mapping, got None"),
        (("emb_dim",), 10, "focused_norm_groups|num_groups"),
    ],
)
def test_settings_of_a_tflocoformer_that_do_not_fit(
    tmp_path: Path, path: tuple[str, ...], value: Any, message: str
) -> None:
    check_refusal(Path(shutil.copytree(GOLDEN / FOLDERS[0], tmp_path / "published")), path, value, message)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("num_spks",), 3, "num_spks=3, but the tensors have 2"),
        (("module_separator", "use_rope_pos"), True, "use_rope_pos=True is not read, only False"),
        (("module_separator", "linear_layers_flag"), [1, 0], "linear_layers_flag is read only with 1"),
        (("module_separator", "enc_stage", "addition_conf"), None, "addition_conf must be a mapping"),
        (
            ("module_separator", "enc_stage", "addition_conf", "ega_addition_conf", "gated"),
            False,
            "the addition_conf of enc_stage and dec_stage differ",
        ),
    ],
)
def test_settings_of_a_sepreformer_that_do_not_fit(
    tmp_path: Path, path: tuple[str, ...], value: Any, message: str
) -> None:
    check_refusal(Path(shutil.copytree(GOLDEN / FOLDERS[2], tmp_path / "published")), path, value, message)


def check_refusal(folder: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    content = json.loads((folder / "configuration.json").read_text())
    place = content["model"]["separator_conf"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "configuration.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message if "|" in message else re.escape(message)) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
