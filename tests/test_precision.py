"""The choice of a precision: native or not, by name or automatic, and that it is told."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from polsess import precision as rooms
from polsess.cli.main import app
from polsess.evaluation.systems import ModelSystem
from polsess.inference import Separator
from polsess.models import SeparationModel, create_model
from polsess.models.combination import Cascade, combine
from polsess.precision import choose_precision, multiplies_natively, times_as_long
from tests.processors import skipped_without_bfloat16

CPU = torch.device("cpu")


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16, and nothing else of 16 bits."""
    monkeypatch.setattr(rooms, "processor_flags", lambda: frozenset({"avx512_bf16"}))


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without instructions for 16 bits, on which a product takes 50 times as long."""
    monkeypatch.setattr(rooms, "processor_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(rooms, "times_as_long", lambda *_: 50.0)


def model(name: str = "blstm") -> SeparationModel:
    torch.manual_seed(0)
    return create_model({"model_type": name, "preset": "tiny"}).eval()


@pytest.mark.usefixtures("native")
def test_auto_takes_what_device_and_model_are_made_for() -> None:
    assert choose_precision("auto", torch.bfloat16, CPU) == torch.bfloat16
    assert choose_precision("auto", None, CPU) == torch.float32
    assert not multiplies_natively(CPU, torch.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_precision("bfloat16", None, CPU) == torch.bfloat16


@pytest.mark.usefixtures("old")
def test_without_instructions_auto_is_float32_and_a_name_is_warned_of() -> None:
    assert choose_precision("auto", torch.bfloat16, CPU) == torch.float32
    for name in ("bfloat16", "float16"):
        with pytest.warns(UserWarning, match=rf"no instructions for products in {name}; one took 50.0 times"):
            assert choose_precision(name, None, CPU) == getattr(torch, name)


def test_the_ratio_is_measured() -> None:
    assert times_as_long(CPU, torch.bfloat16) > 0


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="precision: expected auto, float32, bfloat16, float16; got 'half'"):
        Separator(model(), precision="half")  # type: ignore[arg-type]


@pytest.mark.usefixtures("native")
def test_a_separation_runs_in_what_it_says() -> None:
    mixture = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1
    with skipped_without_bfloat16():
        results = {
            name: Separator(model(), precision=name, gate="never").separate(mixture, 8000)
            for name in ("float32", "bfloat16", "auto")
        }
    assert {name: each.precision for name, each in results.items()} == {
        "float32": "float32",
        "bfloat16": "bfloat16",
        "auto": "bfloat16",
    }
    exact, reduced = results["float32"].sources, results["bfloat16"].sources
    assert not torch.equal(exact, reduced)
    assert float((exact - reduced).norm() / exact.norm()) < 0.05
    assert torch.equal(reduced, results["auto"].sources)


def test_a_combination_has_the_precision_that_all_of_it_has() -> None:
    blstm = {"model_type": "blstm", "preset": "tiny"}
    alike, unlike = create_model({**blstm, "sample_rate": 8000}), create_model({"model_type": "gtcrn"})
    assert combine([model(), alike]).inference_dtype == torch.bfloat16
    assert Cascade(unlike, then=create_model({**blstm, "sample_rate": 16000})).inference_dtype is None


@pytest.mark.usefixtures("native")
def test_an_evaluation_is_float32_unless_asked_and_another_one_otherwise() -> None:
    plain = ModelSystem(model(), "a")
    reduced = ModelSystem(model(), "a", precision="auto")
    assert (plain.precision, reduced.precision) == ("float32", "bfloat16")
    assert "precision" not in plain.origin
    assert reduced.origin["precision"] == "bfloat16"
    assert reduced.identity == f"{plain.identity}-bfloat16"
    assert plain.as_separate(gate="never").precision == "float32"
    assert reduced.as_separate(gate="never").precision == "bfloat16"


@pytest.mark.usefixtures("native")
def test_the_command_says_what_ran(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(2000) * 0.1
    soundfile.write(tmp_path / "a.wav", noise, 8000)
    words = ["separate", str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), "--gate", "never", "--json"]
    for name, ran in (("auto", "bfloat16"), ("float32", "float32")):
        result = CliRunner().invoke(app, [*words, "--overwrite", "--precision", name])
        assert result.exit_code == 0, result.output
        line = next(line for line in result.output.splitlines() if line.startswith("{"))
        assert json.loads(line)["precision"] == ran
