"""ESPnet experiments through the door: parity, and one clear line for what does not fit."""

from __future__ import annotations

import re
import resource
import shutil
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.espnet import tfgridnet, tflocoformer
from polsess.checkpoints.translation import number_paths, rename
from polsess.models.layers.stft import STFT
from tests.conftest import GOLDEN
from tests.models.noise_floor import assert_parity

FOLDERS = ["tfgridnet", "tfgridnetv2", "tfgridnetv2_ks_eq_hs", "tflocoformer"]


def stored(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob("*.pth")
    content: dict[str, Tensor] = torch.load(path, weights_only=True)
    return {key.removeprefix("separator."): value for key, value in content.items()}


def with_heads_together(key: str) -> str:
    """Version 1's name as version 2's; gradients there are those of all heads together."""
    key = re.sub(r"(attn_conv_[QKV])_\d+\.0\.", r"\1.", key)
    key = re.sub(r"attn_conv_([QKV])_\d+\.1\.", r"attn_norm_\1.act.", key)
    return re.sub(r"attn_conv_([QKV])_\d+\.2\.", r"attn_norm_\1.", key)


def parameter_names(folder: Path) -> dict[str, str]:
    """The reference's name of every parameter with a gradient, and ours."""
    if folder.name == "tflocoformer":
        found = tflocoformer.rules(("freq", "frame"), 2)
    else:
        found = tfgridnet.rules(steps_have_biases=folder.name.endswith("ks_eq_hs"))
    state = {with_heads_together(key): value for key, value in stored(folder).items()}
    trained = {key: value for key, value in state.items() if not key.endswith(("rope.freqs", "deconv.bias"))}
    return dict(zip(trained, number_paths(rename(trained, found, "test")), strict=True))


@pytest.mark.parametrize("name", FOLDERS)
def test_parity(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    analyse = STFT.analyse

    def through_float32(transform: STFT, wave: Tensor) -> Tensor:  # as ESPnet, in float64 too
        return analyse(transform, wave + (wave.float().to(wave.dtype) - wave).detach())

    monkeypatch.setattr(STFT, "analyse", through_float32)
    folder = GOLDEN / name
    # The reference rounds the gradient of the mixture to float32 there.
    assert_parity(load_model(folder), folder, parameter_names(folder), relative=1e-7)


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[[str], Path]:
    """Copies that a test may spoil."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(GOLDEN / name, tmp_path / name))

    return copy


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the experiment's configuration; ``part__key=value`` changes a key of ``part_conf``."""
    path = folder / "config.yaml"
    content = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        part, _, inner = key.partition("__")
        if inner:
            content.setdefault(f"{part}_conf", {})[inner] = value
        else:
            content[part] = value
    path.write_text(yaml.safe_dump(content))


def rewrite_state(folder: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    (path,) = folder.glob("*.pth")
    torch.save(dict(change(torch.load(path, weights_only=True))), path)


def test_the_sample_rate_is_the_files_or_the_users(experiment: Callable[[str], Path]) -> None:
    folder = experiment("tflocoformer")
    assert read_checkpoint(folder).config.sample_rate == 8000
    assert read_checkpoint(folder, config={"sample_rate": 16000}).config.sample_rate == 16000
    rewrite(folder, sample_rate=16000)
    assert read_checkpoint(folder).config.sample_rate == 16000
    with pytest.raises(CheckpointError, match="config may give only sample_rate"):
        read_checkpoint(folder, config={"num_blocks": 2})


@pytest.mark.parametrize("key", ["normalize_variance", "normalize_variance_per_ch"])
def test_locoformers_see_what_they_were_trained_on(key: str, experiment: Callable[[str], Path]) -> None:
    folder = experiment("tflocoformer")
    mixture = torch.randn(1, 300)
    plain = load_model(folder)
    rewrite(folder, **{f"model__{key}": True})
    normalized = load_model(folder)
    with torch.no_grad():
        level = mixture.std()
        torch.testing.assert_close(normalized(mixture), level * plain(mixture / level))


def test_the_averaged_model_is_preferred_and_the_named_file_taken(experiment: Callable[[str], Path]) -> None:
    folder = experiment("tfgridnetv2")
    average = folder / "valid.loss.ave.pth"
    other = folder / "valid.loss.best.pth"
    state = torch.load(average, weights_only=True)
    state["separator.deconv.bias"] += 1.0
    torch.save(state, other)
    (folder / "checkpoint.pth").write_bytes(b"the state of the optimiser")
    assert read_checkpoint(folder).provenance["file"] == average.name
    difference = read_checkpoint(other).state["deconv.bias"] - read_checkpoint(folder).state["deconv.bias"]
    torch.testing.assert_close(difference, torch.ones(4))
    (folder / "valid.loss.ave_5best.pth").symlink_to(average.name)
    assert read_checkpoint(folder).provenance["file"] == average.name
    shutil.copy(other, folder / "valid.loss.ave_3best.pth")
    with pytest.raises(CheckpointError, match="name the file"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("tfgridnet", {"separator": "tfgridnetv3"}, "'tfgridnetv3' is not known here.*tfgridnet"),
        ("tfgridnet", {"separator": "tfgridnetv2"}, "not part of this architecture"),
        ("tfgridnetv2", {"separator": "tfgridnet"}, "tensors are those of tfgridnetv2"),
        ("tfgridnetv2", {"encoder": "conv"}, "encoder='conv'"),
        ("tfgridnetv2", {"separator__n_imics": 2}, "n_imics=2 is not read"),
        ("tfgridnetv2", {"separator__activation": "relu"}, "activation='relu'"),
        ("tfgridnetv2", {"separator__emb_dim": 16}, "asks for|does not fit"),
        ("tfgridnetv2", {"separator__emb_ks": "x"}, "does not fit|kernel_size"),
        ("tfgridnetv2", {"separator__colour": 1}, "not read: colour=1"),
        ("tfgridnetv2", {"separator__n_srcs": 3}, "asks for"),
        ("tfgridnetv2", {"separator_conf": [1]}, "separator_conf must be a mapping"),
        ("tfgridnetv2", {"separator__n_layers": 1}, "blocks.1"),
        ("tflocoformer", {"encoder__win_length": 16}, "win_length"),
        ("tflocoformer", {"encoder__center": False}, "center=False"),
        ("tflocoformer", {"decoder__hop_length": 8}, "not the encoder's"),
        ("tflocoformer", {"separator__ffn_type": ["conv1d", "swiglu_conv1d"]}, "list of swiglu_conv1d"),
        ("tflocoformer", {"separator__ffn_hidden_dim": [10]}, "differ in length"),
        ("tflocoformer", {"separator__norm_type": "batchnorm"}, "norm_type='batchnorm'"),
        ("tflocoformer", {"separator__n_layers": 3}, "missing"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, changes: dict[str, Any], message: str, experiment: Callable[[str], Path]
) -> None:
    folder = experiment(name)
    rewrite(folder, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "claim"), [("n_layers", 20_000), ("attention_dim", 1 << 29)])
def test_claims_take_no_memory(key: str, claim: int, experiment: Callable[[str], Path]) -> None:
    folder = experiment("tflocoformer")
    rewrite(folder, **{f"separator__{key}": claim})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"many more tensors|at most 65536"):
        load_model(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_foreign_missing_and_misshapen_tensors_are_named(experiment: Callable[[str], Path]) -> None:
    folder = experiment("tfgridnet")
    key = "separator.blocks.0.attn_conv_Q_1.2.gamma"
    rewrite_state(folder, lambda state: {**state, key: state[key][..., :5]})
    with pytest.raises(CheckpointError, match="expected heads of one shape"):
        load_model(folder)
    rewrite_state(folder, lambda state: {k: v for k, v in state.items() if k != key})
    with pytest.raises(CheckpointError, match=r"blocks\.0: the tensor 'attn_conv_Q_1\.2\.gamma' is missing"):
        load_model(folder)
    rewrite_state(folder, lambda state: {**state, "encoder.conv1d.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"encoder\.conv1d\.weight"):
        load_model(folder)


def test_a_folder_without_weights_says_so(experiment: Callable[[str], Path]) -> None:
    folder = experiment("tfgridnetv2")
    (folder / "valid.loss.ave.pth").unlink()
    with pytest.raises(CheckpointError, match=r"no \.pth file"):
        load_model(folder)


def test_time_first_order_and_single_feed_forward(experiment: Callable[[str], Path]) -> None:
    folder = experiment("tflocoformer")
    first = read_checkpoint(folder).state
    rewrite(folder, separator__tf_order="tf")
    swapped = read_checkpoint(folder)
    assert swapped.config.model_dump()["axis_order"] == "time_first"
    torch.testing.assert_close(
        swapped.state["paths.0.attention.to_qkv.weight"], first["paths.1.attention.to_qkv.weight"]
    )
    rewrite(folder, separator__ffn_type=["swiglu_conv1d"], separator__ffn_hidden_dim=[12])
    rewrite_state(folder, lambda state: {k: v for k, v in state.items() if "ffn.1." not in k})
    rewrite_state(folder, lambda state: {k: v for k, v in state.items() if "ffn_norm.1." not in k})
    load_model(folder)
