from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from polsess.audio import read_audio, write_audio
from polsess.evaluation import ModelSystem, evaluate, read_evaluation
from polsess.evaluation.estimate_files import FolderSystem, list_systems, open_estimates
from polsess.evaluation.opening import distinct_names
from polsess.evaluation.score_table import TableFormat
from polsess.evaluation.storage import EvaluationFolder
from polsess.metrics import score_utterance
from polsess.models import create_model
from polsess.schema import ConfigError
from polsess.tasks import Task
from tests.evaluation.corpora import Halves, halves, open_folder, write_items

FAST = ["si_snr"]


def interrupt(done: int, total: int) -> None:
    assert total == 4
    if done == 2:
        raise KeyboardInterrupt


def test_whole_utterances_one_by_one(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path))
    model = create_model("blstm", preset="tiny").eval()
    evaluation = evaluate(ModelSystem(model, "blstm"), corpus, metrics=["si_snr", "sdr"])
    assert [row.identifier for row in evaluation.rows] == ["item0", "item1", "item2", "item3"]
    for index, row in enumerate(evaluation.rows):
        example = corpus.example(0, index)
        with torch.inference_mode():
            estimates = model(example.mixture[None])[0]
        expected = score_utterance(estimates, example.references, example.mixture, 8000, ["si_snr", "sdr"])
        assert row.scores.values == expected.values
        assert row.seconds == len(example.mixture) / 8000


@pytest.mark.parametrize("task", [Task.ES, Task.EB])
def test_tasks_decide_what_is_compared(tmp_path: Path, task: Task) -> None:
    corpus = open_folder(write_items(tmp_path), task)
    evaluation = evaluate(halves(num_sources=1), corpus, metrics=FAST)
    if task is Task.EB:  # the mixture is the sum: there is nothing to improve
        assert evaluation.summary("si_snri").num_failures == 4
        assert evaluation.summary("si_snr").mean > 70
    else:
        assert evaluation.summary("si_snri").mean == pytest.approx(0, abs=1e-6)
        assert evaluation.summary("si_snr").mean == pytest.approx(0, abs=0.5)


def test_models_of_another_task_or_rate_are_refused(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path))
    with pytest.raises(ConfigError, match=r"gives 1 estimate.*Pass --task ES"):
        evaluate(halves(num_sources=1), corpus)
    with pytest.raises(ConfigError, match=r"16000 Hz.*corpus.sample_rate=16000"):
        evaluate(halves(sample_rate=16000), corpus)


def test_a_model_with_more_outputs_than_references_is_scored(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "data"))
    evaluation = evaluate(halves(3), corpus, metrics=FAST, folder=tmp_path / "out", save_estimates=True)
    assert all(len(row.scores.permutation) == 2 for row in evaluation.rows)
    level = 20 * np.log10(1 / 3)  # each output is a third of the mixture
    assert [row.scores.unassigned_db for row in evaluation.rows] == pytest.approx([level] * 4, abs=0.01)
    again = read_evaluation(tmp_path / "out")
    assert again.rows[0].scores.unassigned_db == pytest.approx(level, abs=0.01)
    saved = evaluate(FolderSystem(tmp_path / "out" / "estimates"), corpus, metrics=FAST)
    assert {row.scores.permutation for row in saved.rows} == {(0, 1)}  # in the order of the references
    assert saved.values("si_snr") == pytest.approx(evaluation.values("si_snr"), abs=1e-4)


@pytest.mark.parametrize("pattern", ["{item}/mix_{name}", "{item}_{name}", "{item}/net/{name}"])
def test_estimates_as_separate_writes_them(tmp_path: Path, pattern: str) -> None:
    corpus = open_folder(write_items(tmp_path / "data"))
    for index in range(4):
        example = corpus.example(0, index)
        for number, samples in enumerate(example.references, start=1):
            name = pattern.format(item=example.identifier, name=f"speaker{number}")
            write_audio(tmp_path / "separated" / f"{name}.wav", samples[None], 8000)
    (system,) = open_estimates(tmp_path / "separated")
    assert min(evaluate(system, corpus, metrics=FAST).values("si_snr")) > 60
    (tmp_path / "separated" / f"{pattern.format(item='item2', name='speaker2')}.wav").unlink()
    failures = [row.failure for row in evaluate(system, corpus, metrics=FAST).rows if row.failure]
    assert len(failures) == 1
    assert "1 of 2 estimates of 'item2'" in failures[0]


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "data"))
    folder = tmp_path / "out"

    with pytest.raises(KeyboardInterrupt):
        evaluate(halves(), corpus, metrics=FAST, folder=folder, progress=interrupt)
    journal = folder / "journal.jsonl"
    assert len(journal.read_text().splitlines()) == 3
    assert not (folder / "scores.csv").exists()
    with journal.open("a") as file:
        file.write('{"identifier": "item2", "sco')  # the process died while it wrote
    system = halves()
    evaluation = evaluate(system, corpus, metrics=FAST, folder=folder)
    assert Halves.calls == 2
    assert sorted(path.name for path in folder.iterdir()) == ["scores.csv", "summary.json"]
    fresh = evaluate(system, corpus, metrics=FAST)
    assert [row.scores.values for row in evaluation.rows] == [row.scores.values for row in fresh.rows]
    assert evaluation.list_hash == fresh.list_hash == read_evaluation(folder).list_hash


def test_a_finished_evaluation_is_read_not_repeated(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "data"))
    first = evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out")
    again = evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out")
    assert Halves.calls == 0
    assert again.summary("si_snri").mean == pytest.approx(first.summary("si_snri").mean, abs=1e-4)
    evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out", overwrite=True)
    assert Halves.calls == 4


@pytest.mark.parametrize("finished", [True, False])
def test_another_evaluation_is_not_continued(tmp_path: Path, finished: bool) -> None:
    corpus = open_folder(write_items(tmp_path / "data"))
    folder = tmp_path / "out"
    if finished:
        evaluate(halves(), corpus, metrics=FAST, folder=folder)
    else:
        with pytest.raises(KeyboardInterrupt):
            evaluate(halves(), corpus, metrics=FAST, folder=folder, progress=interrupt)
    with pytest.raises(FileExistsError, match=r"other settings \(different: metrics\)"):
        evaluate(halves(), corpus, metrics=["si_snr", "sdr"], folder=folder)
    with pytest.raises(FileExistsError, match="num_utterances"):
        evaluate(halves(), corpus, metrics=FAST, folder=folder, limit=2)


@pytest.mark.parametrize("finished", [True, False])
def test_results_of_data_that_has_changed_are_not_taken(tmp_path: Path, finished: bool) -> None:
    folder, out = write_items(tmp_path / "data"), tmp_path / "out"
    if finished:
        evaluate(halves(), open_folder(folder), metrics=FAST, folder=out)
    else:
        with pytest.raises(KeyboardInterrupt):
            evaluate(halves(), open_folder(folder), metrics=FAST, folder=out, progress=interrupt)
    mixture = folder / "item0" / "mix.wav"
    samples, rate = read_audio(mixture)
    write_audio(mixture, 0.5 * samples, rate)
    facts = mixture.stat()
    os.utime(mixture, ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))  # clocks of disks are coarse
    with pytest.raises(FileExistsError, match=r"data whose files have changed since.*--overwrite"):
        evaluate(halves(), open_folder(folder), metrics=FAST, folder=out)
    evaluate(halves(), open_folder(folder), metrics=FAST, folder=out, overwrite=True)
    assert Halves.calls == 4


def test_results_of_earlier_versions_do_not_say_what_data_they_are_of(tmp_path: Path) -> None:
    corpus, out = open_folder(write_items(tmp_path / "data")), tmp_path / "out"
    evaluate(halves(), corpus, metrics=FAST, folder=out)
    summary = json.loads((out / "summary.json").read_text())
    del summary["settings"]["data"]
    (out / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(FileExistsError, match=r"earlier version.*state of the data.*--overwrite"):
        evaluate(halves(), corpus, metrics=FAST, folder=out)


def test_what_cannot_be_read_is_said_and_the_rest_done(tmp_path: Path) -> None:
    folder = write_items(tmp_path)
    corpus = open_folder(folder)  # what is amiss already would be refused here
    damaged = folder / "item1" / "s1.wav"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    (folder / "item3" / "s2.wav").unlink()
    evaluation = evaluate(halves(), corpus, metrics=FAST)
    assert evaluation.num_failed == 2
    failures = [row.failure for row in evaluation.rows]
    assert failures[0] == failures[2] == ""
    assert "item1/s1.wav" in failures[1]
    assert "item3/s2.wav: there is no such file" in failures[3]
    summary = evaluation.summary("si_snri")
    assert (summary.count, summary.num_failures) == (2, 2)


def test_a_failing_model_loses_the_utterance_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Halves, mixture: torch.Tensor) -> torch.Tensor:
        if mixture.shape[-1] == 2007:
            raise RuntimeError("out of\nmemory")
        return torch.full((1, 2, mixture.shape[-1]), math.nan if mixture.shape[-1] == 2014 else 0.0)

    monkeypatch.setattr(Halves, "estimate_sources", fail)
    evaluation = evaluate(halves(), open_folder(write_items(tmp_path)), metrics=FAST)
    assert [row.failure for row in evaluation.rows] == ["", "out of memory", "", ""]
    reasons = [row.reason("si_snr") for row in evaluation.rows]
    assert reasons == ["silent estimate", "out of memory", "non-finite estimate", "silent estimate"]
    assert json.loads(json.dumps(evaluation.rows[2].to_plain())) is not None


def fail_at(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network fail on mixtures of these lengths, as long as they are in the list."""
    separate = Halves.estimate_sources

    def fail(model: Halves, mixture: torch.Tensor) -> torch.Tensor:
        if mixture.shape[-1] in lengths:
            raise RuntimeError("out of memory")
        return separate(model, mixture)

    monkeypatch.setattr(Halves, "estimate_sources", fail)


@pytest.mark.parametrize("table_format", ["csv", "parquet"])
def test_what_failed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_format: TableFormat
) -> None:
    pytest.importorskip("pyarrow" if table_format == "parquet" else "csv")
    corpus, out = open_folder(write_items(tmp_path / "data")), tmp_path / "out"
    lengths = [2007, 2014]

    def again() -> list[str]:
        found = evaluate(halves(), corpus, metrics=FAST, folder=out, table_format=table_format)
        return [row.failure for row in found.rows]

    fail_at(lengths, monkeypatch)
    assert again() == ["", "out of memory", "out of memory", ""]
    files = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.warns(UserWarning, match="2 utterances that failed before: evaluated again"):
        assert again() == ["", "out of memory", "out of memory", ""]
    assert Halves.calls == 2
    assert {path: path.read_bytes() for path in out.iterdir()} == files
    lengths.remove(2007)
    with pytest.warns(UserWarning, match="evaluated again"):
        assert again() == ["", "", "out of memory", ""]
    lengths.clear()
    with pytest.warns(UserWarning, match="1 utterance that failed before"):
        assert again() == [""] * 4
    assert again() == [""] * 4
    assert Halves.calls == 0
    assert sorted(path.name for path in out.iterdir()) == [f"scores.{table_format}", "summary.json"]
    fresh = evaluate(halves(), corpus, metrics=FAST)
    assert read_evaluation(out).values("si_snr") == pytest.approx(fresh.values("si_snr"), abs=1e-4)
    assert read_evaluation(out).list_hash == fresh.list_hash


@pytest.mark.parametrize("step", ["_remove_results", "finish"])
def test_a_kill_while_mended_rows_are_stored_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    corpus, out = open_folder(write_items(tmp_path / "data")), tmp_path / "out"
    with monkeypatch.context() as broken:
        fail_at([2000, 2007], broken)
        evaluate(halves(), corpus, metrics=FAST, folder=out)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(EvaluationFolder, step, kill)
        with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="2 utterances"):
            evaluate(halves(), corpus, metrics=FAST, folder=out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert evaluate(halves(), corpus, metrics=FAST, folder=out).num_failed == 0
    assert sorted(path.name for path in out.iterdir()) == ["scores.csv", "summary.json"]


def test_workers_score_as_the_process_does(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path, num_items=5, num_samples=6000))
    alone = evaluate(halves(), corpus, metrics=["si_snr", "stoi"], num_workers=0)
    beside = evaluate(halves(), corpus, metrics=["si_snr", "stoi"], num_workers=2)
    for one, other in zip(alone.rows, beside.rows, strict=True):
        assert one.identifier == other.identifier
        assert one.scores.reasons == other.scores.reasons
        for column, values in one.scores.values.items():
            np.testing.assert_allclose(other.scores.values[column], values, rtol=1e-6)


def test_estimates_in_files(tmp_path: Path) -> None:
    folder = write_items(tmp_path)
    for item in folder.iterdir():
        (item / "copy").mkdir()
        for name in ("s1", "s2"):
            (item / "copy" / f"{name}.wav").write_bytes((item / f"{name}.wav").read_bytes())
    assert list_systems(folder) == ["copy"]
    (system,) = open_estimates(folder)
    evaluation = evaluate(system, open_folder(folder), metrics=FAST)
    assert evaluation.summary("si_snr").mean == 100.0
    with pytest.raises(ConfigError, match="Did you mean 'copy'"):
        open_estimates(folder, ["kopy"])
    (folder / "item1" / "copy" / "s1.wav").write_bytes((folder / "item2" / "s1.wav").read_bytes())
    evaluation = evaluate(system, open_folder(folder), metrics=FAST)
    assert "expected one channel of 2007 samples" in evaluation.rows[1].failure


def test_items_whose_names_are_not_utf8(tmp_path: Path) -> None:
    item = write_items(tmp_path / "set", num_items=1) / "item0"
    try:
        item.rename(item.with_name(os.fsdecode(b"\xbf\xf3")))
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    corpus = open_folder(tmp_path / "set")
    evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out", save_estimates=True)
    (row,) = read_evaluation(tmp_path / "out").rows
    assert os.fsencode(row.identifier) == b"\xbf\xf3"
    (saved,) = open_estimates(tmp_path / "out" / "estimates")
    assert saved.estimate(corpus.example(0, 0)).tracks.shape == (2, 2000)


def test_results_have_names_that_differ(tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "best.ckpt").touch()
    paths = [str(tmp_path / run / "best.ckpt") for run in ("a", "b")]
    assert distinct_names(paths[:1]) == ["best"]
    assert distinct_names(paths) == ["a-best", "b-best"]
    assert distinct_names(["JorisCos/ConvTasNet", str(tmp_path / "model.v2")]) == ["ConvTasNet", "model.v2"]
    with pytest.raises(ConfigError, match="named twice"):
        distinct_names([paths[0], paths[0]])
