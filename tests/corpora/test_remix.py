"""New conversations are sums of layers of the corpus, and depend on seed, epoch and index alone."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.data import Corpus, Split, create_loader
from polsess.data.loader import DataConfig
from polsess.schema import ConfigError
from polsess.tasks import SEPARATION_TASKS, Task
from tests.conftest import DATA
from tests.corpora.test_polsess import Layers, corpus, write_split

REMIX: dict[str, Any] = {"remix": {"ssr_range_db": [-5.0, 5.0]}, "segment_seconds": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("polsess")
    torch.manual_seed(0)
    for split in ("train", "val"):
        write_split(folder / split, 6)
    return folder


def training(root: Path, **values: Any) -> Corpus:
    return corpus(root, Split.TRAIN, **{**REMIX, **values})


def layers_of(root: Path, location: str) -> list[Layers]:
    return [torch.load(root / f"train/layers{n}.pt") for n in range(0 if location == "indoor" else 1, 6, 2)]


def ratio_db(first: Tensor, second: Tensor) -> float:
    return float(20 * torch.log10(first.norm() / second.norm()))


@pytest.mark.parametrize(("variant", "location"), [("SER", "indoor"), ("SE", "outdoor")])
def test_a_new_conversation_is_a_sum_of_layers(root: Path, variant: str, location: str) -> None:
    rows = training(root, variants=[variant], background_gain_db=[-6.0, -3.0])
    rooms, indoor = layers_of(root, location), location == "indoor"
    seen = set()
    for epoch, index in product(range(4), range(3)):
        example = rows.example(epoch, index)
        first, second = example.references
        torch.testing.assert_close(first, rooms[index]["speaker1File"])
        assert ratio_db(first, second) == pytest.approx(float(example.metadata["ssr_db"]), abs=0.01)
        fits = [
            (j, n)
            for j, n in product(range(3), (1, 2))
            if torch.cosine_similarity(rooms[j][f"speaker{n}File"], second, dim=0) > 0.999
        ]
        ((j, n),) = fits
        gain = second.norm() / rooms[j][f"speaker{n}File"].norm()
        speech = first + second
        if indoor:
            speech = speech + rooms[index]["reverbForSpeaker1"] + gain * rooms[j][f"reverbForSpeaker{n}"]
        background = 10 ** (float(example.metadata["background_gain_db"]) / 20)
        events = [
            room["eventFile"] + room["reverbForEvent"] if indoor else room["eventFile"] for room in rooms
        ]
        sums = [
            (speech + background * (rooms[k]["sceneFile"] + events[m]), (j, n, k, m))
            for k, m in product(range(3), repeat=2)
        ]
        # The noted gain is rounded to hundredths of a dB.
        matches = [cast for total, cast in sums if (total - example.mixture).abs().max() < 1e-3]
        assert len(matches) == 1
        seen.add(matches[0])
        assert (j, n) != (index, 1)  # not speaker 1 again
    assert len(seen) > 6


@pytest.mark.parametrize("task", sorted(SEPARATION_TASKS))
def test_tasks(root: Path, task: Task) -> None:
    rows = training(root, task=task, variants=["C"])
    for index in range(6):
        example = rows.example(1, index)
        torch.testing.assert_close(example.mixture, example.references.sum(0))


def test_reverberant_targets(root: Path) -> None:
    rows = training(root, variants=["R"], target="reverberant")
    example = rows.example(0, 1)
    torch.testing.assert_close(example.mixture, example.references.sum(0))


def test_levels_alone_leave_the_conversation_as_it_is(root: Path) -> None:
    rows = corpus(root, Split.TRAIN, variants=["S"], background_gain_db=[-20.0, -20.0], segment_seconds=None)
    example, layers = rows.example(0, 1), layers_of(root, "outdoor")[1]
    expected = layers["speaker1File"] + layers["speaker2File"] + 0.1 * layers["sceneFile"]
    torch.testing.assert_close(example.mixture, expected)


def test_validation_is_not_changed(root: Path) -> None:
    plain = corpus(root, Split.VAL)
    mixed = corpus(root, Split.VAL, **REMIX, background_gain_db=[-9.0, 9.0])
    for index in range(6):
        assert torch.equal(plain.example(0, index).mixture, mixed.example(3, index).mixture)


def test_draws_depend_on_seed_epoch_and_index_alone(root: Path) -> None:
    settings = {"segment_seconds": 0.1, "background_gain_db": [-5.0, 5.0]}
    rows = training(root, **settings)
    loader = create_loader(rows, DataConfig(corpus=rows.config, batch_size=2, num_workers=2), training=True)
    again = training(root, **settings)
    for batch in loader:
        for key, mixture in zip(batch.keys, batch.mixture, strict=True):
            assert torch.equal(again.example(*key).mixture, mixture)
    assert not torch.equal(rows.example(0, 0).mixture, rows.example(1, 0).mixture)
    assert not torch.equal(
        rows.example(0, 0).mixture, training(root, seed=1, **settings).example(0, 0).mixture
    )


@pytest.mark.parametrize(
    "values", [{"remix": {"ssr_range_db": [5.0, -5.0]}}, {"background_gain_db": [0.0, 99.0]}]
)
def test_bad_ranges(root: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="two rising numbers"):
        training(root, **values)


def test_the_bench(tmp_path: Path) -> None:
    root = DATA / "polsess_mini"
    path = tmp_path / "a.yaml"
    data = f"{{corpus: {{corpus_type: polsess, root: '{root}'}}, batch_size: 2}}"
    path.write_text(f"model: {{model_type: blstm}}\ndata: {data}\n")
    run = CliRunner()
    done = run.invoke(app, ["data", "bench", str(path), "--workers", "0", "--workers", "2", "--items", "4"])
    assert done.exit_code == 0, done.stderr
    header, *counts = done.stdout.splitlines()
    assert header.split() == ["workers", "items/s"]
    assert [line.split()[0] for line in counts] == ["0", "2"]
    assert all(float(line.split()[1]) > 0 for line in counts)
    failed = run.invoke(app, ["data", "bench", str(path), "data.batch_size=8", "--workers", "0"])
    assert failed.exit_code == 1
    assert "fewer than two batches" in failed.stderr
