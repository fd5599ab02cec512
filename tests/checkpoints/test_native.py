from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import polsess.checkpoints.native as native
from polsess.checkpoints import CheckpointError, load_model, read_checkpoint, save_model
from polsess.files import sha256
from polsess.models import ActivityDetector, Network, SeparationModel, create_model, list_models

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


@pytest.fixture
def model() -> SeparationModel:
    return create_model("convtasnet", preset="tiny").eval()


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("name", list_models(Network))
def test_the_round_trip_is_bit_equal(name: str, tmp_path: Path) -> None:
    model = create_model(name, kind=Network, preset="tiny").eval()
    loaded = load_model(save_model(model, tmp_path / "model"), kind=Network)
    assert not loaded.training
    assert loaded.config == model.config
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", sorted(set(list_models(Network)) - set(list_models())))
def test_a_network_of_another_kind_says_what_it_is(name: str, tmp_path: Path) -> None:
    folder = save_model(create_model(name, kind=Network, preset="tiny"), tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name}: {name} is a .+, not a separation model; polsess"):
        load_model(folder)
    card = (folder / CARD).read_text()
    assert "separation" not in card
    assert "kind=" in card


def test_a_separation_model_is_no_detector(model: SeparationModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="convtasnet is a separation model, not a speech activity"):
        load_model(save_model(model, tmp_path / "model"), kind=ActivityDetector)


def test_sixteen_bits_round_once(model: SeparationModel, tmp_path: Path) -> None:
    whole, half = (
        save_model(model, tmp_path / name, half_precision=half) for name, half in [("a", False), ("b", True)]
    )
    assert (half / WEIGHTS).stat().st_size < 0.8 * (whole / WEIGHTS).stat().st_size
    loaded = load_model(half).state_dict()
    for key, value in model.state_dict().items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value.half().float())
    again = save_model(load_model(half), tmp_path / "c", half_precision=True)
    assert (again / WEIGHTS).read_bytes() == (half / WEIGHTS).read_bytes()


def test_what_does_not_fit_into_sixteen_bits_is_not_saved(model: SeparationModel, tmp_path: Path) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = 1e6
    save_model(model, tmp_path / "whole")
    with pytest.raises(CheckpointError, match="infinite values in 16 bits"):
        save_model(model, tmp_path / "half", half_precision=True)
    assert not (tmp_path / "half").exists()


def test_the_folder_says_where_it_comes_from(model: SeparationModel, tmp_path: Path) -> None:
    folder = save_model(
        model,
        tmp_path / "model",
        task="SB",
        license_name="cc-by-4.0",
        metrics={"SI-SDRi (dB)": 12.34},
        provenance={"corpus": "PolSESS"},
    )
    checkpoint = read_checkpoint(folder)
    assert (checkpoint.format, checkpoint.task) == ("polsess", "SB")
    assert checkpoint.provenance["corpus"] == "PolSESS"
    assert checkpoint.provenance["metrics"] == {"SI-SDRi (dB)": 12.34}
    _, front, body = (folder / CARD).read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "cc-by-4.0"
    assert (card["library_name"], card["pipeline_tag"]) == ("polsess", "audio-to-audio")
    assert "speech-separation" in card["tags"]
    assert "| SI-SDRi (dB) | 12.34 |" in " ".join(body.split())
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, CARD}


def test_a_failure_while_saving_leaves_the_old_model(
    model: SeparationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(model, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: Any, **__: Any) -> str:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(native, "model_card", fail)
        with pytest.raises(OSError, match="disk full"):
            save_model(create_model("blstm", preset="tiny"), folder)
        with pytest.raises(OSError, match="disk full"):
            save_model(model, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    save_model(create_model("blstm", preset="tiny"), folder)
    assert load_model(folder).model_type == "blstm"


def test_other_files_of_the_user_are_safe(model: SeparationModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds other files \(thesis.tex\)"):
        save_model(model, tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        save_model(model, tmp_path / "thesis.tex")


@pytest.mark.parametrize("position", [8, 0.3, 0.9999])
def test_every_flipped_bit_is_noticed(model: SeparationModel, tmp_path: Path, position: float) -> None:
    folder = save_model(model, tmp_path / "model")
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[int(position if position >= 1 else position * len(content))] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"SHA-256 is .*damaged or was exchanged"):
        load_model(folder)


def resign(folder: Path) -> None:
    """As somebody would who exchanges the weights on purpose."""
    config = json.loads((folder / CONFIG).read_text())
    config["weights"]["sha256"] = sha256(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "nan", "truncated", "header", "empty"])
def test_weights_that_do_not_fit(model: SeparationModel, tmp_path: Path, fault: str) -> None:
    folder = save_model(model, tmp_path / "model")
    state, path = load_file(folder / WEIGHTS), folder / WEIGHTS
    key = "to_masks.weight"
    message = {
        "missing": "to_masks.weight is missing",
        "extra": "zero is unknown",
        "shape": r"to_masks.weight is \[3\], the configuration asks for \[32, 7, 1\]",
        "nan": "to_masks.weight holds NaN",
    }.get(fault, "not a whole safetensors file")
    if fault == "missing":
        del state[key]
    elif fault == "extra":
        state["zero"] = torch.zeros(1)
    elif fault == "shape":
        state[key] = torch.zeros(3)
    elif fault == "nan":
        state[key][0] = torch.nan
    save_file(state, path)
    content = path.read_bytes()
    if fault == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "header":
        path.write_bytes((1 << 40).to_bytes(8, "little") + content[8:])
    elif fault == "empty":
        path.write_bytes(b"")
    resign(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema version 2, this release reads 1"),
        ({"model": {"model_type": "convtasnet", "num_filter": 2}}, "num_filter: unknown key"),
        ({"model": {"model_type": "os.system"}}, "Unknown model 'os.system'"),
        ({"model": ["convtasnet"]}, "must be mappings"),
        ({"weights": {"sha256": None}}, "SHA-256"),
    ],
)
def test_configurations_that_are_refused(
    model: SeparationModel, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = save_model(model, tmp_path / "model")
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_lying_configuration_costs_no_memory(model: SeparationModel, tmp_path: Path) -> None:
    folder = save_model(model, tmp_path / "model")
    huge = {"num_filters": 16384, "kernel_size": 16384, "hidden_channels": 16384, "num_repeats": 64}
    edit(folder, model={**model.config.model_dump(mode="json"), **huge})  # some 40 GB of weights
    with pytest.raises(CheckpointError, match=r"missing|asks for"):
        load_model(folder)


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_half_a_folder_names_the_other_half(model: SeparationModel, tmp_path: Path, missing: str) -> None:
    folder = save_model(model, tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=f"{missing} is missing"):
        load_model(folder)


@pytest.mark.parametrize("content", ["", "[1", "[" * 5000, '{"a": 1}' + " " * (1 << 20)])
def test_broken_json_is_one_clear_line(model: SeparationModel, tmp_path: Path, content: str) -> None:
    folder = save_model(model, tmp_path / "model")
    (folder / CONFIG).write_text(content)
    with pytest.raises(CheckpointError, match=r"config.json: (not readable as JSON|larger than)"):
        load_model(folder)


def test_our_training_checkpoints_load(model: SeparationModel, tmp_path: Path) -> None:
    content = {
        "polsess_config": {"task": "SB", "model": model.config.model_dump()},
        "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()},
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(2.0)}}}],
    }
    torch.save(content, tmp_path / "epoch=3.ckpt")
    checkpoint = read_checkpoint(tmp_path / "epoch=3.ckpt")
    assert (checkpoint.format, checkpoint.task, checkpoint.provenance["epoch"]) == ("training", "SB", 3)
    mixture = torch.randn(1, 300)
    assert torch.equal(load_model(tmp_path / "epoch=3.ckpt")(mixture), model(mixture))


def test_a_tensor_given_twice_is_refused(model: SeparationModel, tmp_path: Path) -> None:
    folder = save_model(model, tmp_path / "model")
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip()
    name, entry = next(iter(json.loads(header).items()))
    twice = b"{" + json.dumps(name).encode() + b":" + json.dumps(entry).encode() + b"," + header[1:]
    path.write_bytes(len(twice).to_bytes(8, "little") + twice + content[8 + size :])
    edit(folder, weights={"file": path.name, "sha256": sha256(path)})
    with pytest.raises(CheckpointError, match="is given twice"):
        load_model(folder)


@pytest.mark.parametrize("rate", [0, 300_000_000, 1e300, True])
def test_a_rate_that_no_audio_has_is_refused(model: SeparationModel, tmp_path: Path, rate: float) -> None:
    folder = save_model(model, tmp_path / "model")
    edit(folder, model={**model.config.model_dump(mode="json"), "sample_rate": rate})
    with pytest.raises(CheckpointError, match=r"model\.sample_rate: "):
        load_model(folder)
