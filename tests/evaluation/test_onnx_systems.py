"""Networks in ONNX files are evaluated like those that they were exported from."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from polsess.checkpoints import CheckpointError, save_model
from polsess.evaluation import OnnxSystem, evaluate, open_combined, open_models, read_evaluation
from polsess.evaluation.storage import SavedEvaluation
from polsess.export import export_model
from polsess.models import create_model
from polsess.schema import ConfigError
from tests.evaluation.corpora import open_folder, write_items

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network, and the same as ONNX."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    network = save_model(create_model("convtasnet", preset="tiny"), folder / "net")
    export_model(network, folder / "net.onnx")
    return network, folder / "net.onnx"


def test_the_scores_are_those_of_the_network(files: tuple[Path, Path], tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "data", 2))
    ours, exported = (open_models([str(path)])[0] for path in files)
    assert (exported.name, exported.sample_rate, exported.num_sources) == ("net", 8000, 2)
    expected = evaluate(ours, corpus, metrics=["si_snr"])
    found = evaluate(exported, corpus, metrics=["si_snr"], folder=tmp_path / "out")
    for one, other in zip(expected.rows, found.rows, strict=True):
        assert one.scores.values["si_snri"] == pytest.approx(other.scores.values["si_snri"], abs=0.01)
    saved = SavedEvaluation(tmp_path / "out")
    assert saved.sounds(found.rows[0].identifier).estimates.shape == (2, 2000)
    assert read_evaluation(tmp_path / "out").origin["model"] == str(files[1].resolve())


def test_it_runs_in_pieces_and_on_other_machines(files: tuple[Path, Path], tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "data", 1))
    system = OnnxSystem(files[1], "net")
    pieces = system.as_separate(gate="auto", num_speakers=None)
    assert pieces.options == {}  # there are no networks that listen
    assert len({system.identity, pieces.identity, system.as_separate(overlap=0.3).identity}) == 3
    example = corpus.example(0, 0)
    copy = pickle.loads(pickle.dumps(pieces))
    assert (copy.estimate(example).tracks == pieces.estimate(example).tracks).all()


def test_what_does_not_fit_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    onnx = str(files[1])
    (tmp_path / "cut.onnx").write_bytes(files[1].read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"cut\.onnx: not usable as ONNX"):
        open_models([str(tmp_path / "cut.onnx")])
    with pytest.raises(ConfigError, match="run alone, without --ensemble"):
        open_combined([str(files[0]), onnx], ensemble=True)
    with pytest.raises(ConfigError, match="run alone"):
        open_combined([str(files[0])], then=onnx)
    with pytest.raises(ConfigError, match="--device cuda: ONNX files run on the processor"):
        open_models([onnx], "cuda")
    with pytest.raises(ConfigError, match="--precision bfloat16: ONNX"):
        open_models([onnx], "cpu", "bfloat16")
