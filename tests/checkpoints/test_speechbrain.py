from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.checkpoints import CheckpointError, load_model
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Hyperparams, Instance
from polsess.yaml_files import YamlError, read_tagged_yaml
from tests.conftest import GOLDEN


def hyperparams(folder: Path, text: str) -> Hyperparams:
    path = folder / "hyperparams.yaml"
    path.write_text(text)
    return Hyperparams(read_tagged_yaml(path), "hyperparams.yaml")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("!ref <k>", 16),
        ("!ref <k> // 2", 8),
        ("!ref <k> / 2", 8.0),
        ("!ref (<k> + <n>) * 2 - -1", 65),
        ("!ref <folder>/save", "/data/save"),
        ("!ref <inner[size]>", 7),
        ("!ref <inner.size>", 7),
        ("!ref <list[1]>", 5),
        ("!copy <k>", 16),
        ("!tuple (1, 2)", (1, 2)),
        ("!tuple [1, 2.5]", (1, 2.5)),
        ("!tuple (1, ls)", "refused"),
        ("!ref <k> // 0", "refused"),
        ("!ref <nothing>", "refused"),
        ("!ref <x>", "refused"),
        ("!apply:os.system [ls]", "refused"),
        ("!new:os.system [ls]", "refused"),
        ("!include:/etc/passwd", "refused"),
        ("!ref __import__('os').system('ls')", "__import__('os').system('ls')"),
        ("!ref <k>.__class__ ** 99", "16.__class__ ** 99"),
        ("!ref <k> ** 99999", "16 ** 99999"),
    ],
)
def test_values_are_looked_up_and_never_run(expression: str, value: Any, tmp_path: Path) -> None:
    text = f"k: 16\nn: 16\nfolder: /data\ninner: {{size: 7}}\nlist: [4, 5]\nx: {expression}\n"
    data = hyperparams(tmp_path, text)
    if value == "refused":
        with pytest.raises(CheckpointError, match=r"hyperparams.yaml"):
            print(data["x"])
    else:
        assert data["x"] == value


def test_circles_and_explosions_end(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="refers to itself"):
        print(hyperparams(tmp_path, "a: !ref <b>\nb: !ref <a>\n")["a"])
    lines = ["a0: [x, x]"] + [f"a{i}: [!ref <a{i - 1}>, !ref <a{i - 1}>]" for i in range(1, 40)]
    with pytest.raises(CheckpointError, match="more than 10000 references"):
        print(hyperparams(tmp_path, "\n".join(lines))["a39"])
    texts = [f"a: {'x' * 60_000}", "b: [" + ", ".join(["!ref <a><a><a>"] * 900) + "]"]
    with pytest.raises(CheckpointError, match="references expand to more than"):
        print(hyperparams(tmp_path, "\n".join(texts))["b"])
    with pytest.raises(CheckpointError, match="expected a mapping"):
        hyperparams(tmp_path, "[1]")


def copy(folder: Path, change: str = "", to: str = "") -> Path:
    """A copy of the golden folder with a piece of its YAML replaced."""
    shutil.copytree(GOLDEN / "sb_convtasnet", folder, copy_function=shutil.copyfile)
    path = folder / "hyperparams.yaml"
    text = path.read_text()
    assert change in text
    path.write_text(text.replace(change, to))
    return folder


def test_anchors_stand_for_references(tmp_path: Path) -> None:
    folder = copy(tmp_path / "model", "Encoder: !new", "Encoder: &id001 !new")
    path = folder / "hyperparams.yaml"
    path.write_text(path.read_text().replace("encoder: !ref <Encoder>", "encoder: *id001"))
    mixture = torch.randn(1, 300)
    assert torch.equal(load_model(folder)(mixture), load_model(GOLDEN / "sb_convtasnet")(mixture))


@pytest.mark.parametrize(
    ("change", "to", "message"),
    [
        ("conv_tasnet.MaskNet", "conv_tasnet.Masknet", "'Masknet' is not known here. Did you mean 'MaskNet'"),
        ("speechbrain.lobes.models.conv_tasnet.MaskNet", "os.system", "'system' is not known here"),
        ("modules:", "other_modules:", "'modules' is missing"),
        ("    masknet: !ref <MaskNet>\n\npre", "\npre", "modules.masknet must be a '!new:' entry"),
        ("sample_rate: 8000", "rate: 8000", "'sample_rate' is missing"),
        ("N: 20", "N: 21", "asks for"),
        ("X: 3", "X: 4", "missing"),
        ("X: 3", "X: three", "hyperparams.yaml: a value is of a wrong kind"),
        ("R: 2", "R: !apply:os.system [ls]", "'!apply:os.system' is not read"),
    ],
)
def test_files_that_do_not_fit(change: str, to: str, message: str, tmp_path: Path) -> None:
    folder = copy(tmp_path / "model", change, to)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_the_folder_of_a_training(tmp_path: Path) -> None:
    run = tmp_path / "results" / "1234"
    checkpoint = copy(run / "save" / "CKPT+2024-01-01+00-00-00+00")
    shutil.move(checkpoint / "hyperparams.yaml", run)
    (checkpoint / "CKPT.yaml").write_text("epoch: 3\n")
    mixture = torch.randn(1, 300)
    expected = load_model(GOLDEN / "sb_convtasnet")(mixture)
    assert torch.equal(load_model(checkpoint)(mixture), expected)
    assert torch.equal(load_model(checkpoint / "masknet.ckpt")(mixture), expected)
    with pytest.raises(CheckpointError, match=r"name one checkpoint, e.g. .*CKPT\+2024"):
        load_model(run)
    (run / "hyperparams.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"hyperparams.yaml is missing"):
        load_model(checkpoint)


@pytest.mark.parametrize("part", ["encoder", "masknet", "decoder"])
def test_a_missing_part_is_named(part: str, tmp_path: Path) -> None:
    folder = copy(tmp_path / "model")
    (folder / f"{part}.ckpt").unlink()
    with pytest.raises(CheckpointError, match=rf"{part}.ckpt is missing"):
        load_model(folder)


def test_errors_of_the_yaml_file_pass_through(tmp_path: Path) -> None:
    folder = copy(tmp_path / "model", "sample_rate: 8000", "sample_rate: 8000\nsample_rate: 16000")
    with pytest.raises(CheckpointError, match="'sample_rate' comes twice"):
        load_model(folder)
    with pytest.raises(YamlError):
        read_tagged_yaml(folder / "hyperparams.yaml")


def test_instances_know_their_class() -> None:
    assert Instance("package.module.Class", {}).class_name == "Class"
