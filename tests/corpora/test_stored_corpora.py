"""The corpora of recordings: what is served, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.data import Split
from polsess.schema import ConfigError
from polsess.tasks import Task
from tests.corpora.stored_layouts import (
    MAKERS,
    NAMES,
    RATE,
    Maker,
    libri,
    look2hear,
    manifest,
    noise,
    opened,
    wham,
    whamr,
    write,
    wsj0,
    wsj0_3,
)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("split", list(Split))
def test_whole_recordings_are_served_as_they_lie(make: Maker, split: Split, tmp_path: Path) -> None:
    corpus = opened(make(tmp_path), split, segment_seconds=None)
    assert len(corpus) == 3
    for index, example in enumerate(corpus.example(0, number) for number in range(3)):
        assert NAMES[index] in example.identifier
        assert example.references.shape == (corpus.num_sources, 900)
        sources = torch.stack([noise(17 * index + number) for number in range(corpus.num_sources)])
        torch.testing.assert_close(example.references, sources)
        residual = example.mixture - example.references.sum(0)
        if make in (wsj0, wsj0_3):
            assert residual.abs().max() < 1e-6
            assert example.metadata["speakers"] == ["011-20g", "011-22g", "012-20g"][index]
            assert example.metadata["ssr_db"] == [3.0, 0.5, 4.0][index]
        else:
            assert residual.abs().max() > 0.1  # noise or reverberation
    assert corpus.refused == []


@pytest.mark.parametrize("make", MAKERS)
def test_training_takes_segments_by_seed_epoch_and_index(make: Maker, tmp_path: Path) -> None:
    values = make(tmp_path)
    corpus, again = (opened(values, Split.TRAIN, segment_seconds=0.05) for _ in range(2))
    draws = [corpus.example(epoch, 1) for epoch in range(6)]
    assert all(draw.mixture.shape == (400,) for draw in draws)
    assert len({tuple(draw.mixture[:5].tolist()) for draw in draws}) > 1
    for epoch, draw in enumerate(draws):
        twin = again.example(epoch, 1)
        assert torch.equal(draw.mixture, twin.mixture)
        whole = opened(values, Split.TRAIN, segment_seconds=None).example(0, 1)
        (start,) = [
            start for start in range(501) if torch.equal(whole.mixture[start : start + 400], draw.mixture)
        ]
        torch.testing.assert_close(draw.references, whole.references[:, start : start + 400])
    assert opened(values, Split.TRAIN, segment_seconds=9.0).example(0, 0).mixture.shape == (900,)


@pytest.mark.parametrize(
    ("make", "changes", "tasks"),
    [
        (wsj0, {}, {Task.SB}),
        (wham, {"mixture": "mix_clean"}, {Task.SB}),
        (wham, {"mixture": "mix_both"}, {Task.SB, Task.EB}),
        (wham, {"mixture": "mix_single"}, {Task.ES}),
        (whamr, {"mixture": "mix_clean"}, {Task.SB, Task.EB}),
        (whamr, {"mixture": "mix_clean", "target": "reverb"}, {Task.SB}),
        (whamr, {"mixture": "mix_single", "room": "anechoic"}, {Task.ES}),
        (libri, {"mixture": "mix_both"}, {Task.SB, Task.EB}),
        (libri, {"mixture": "mix_single"}, {Task.ES}),
        (look2hear, {}, {Task.SB, Task.EB}),
        (manifest, {}, {Task.SB, Task.EB}),
    ],
)
def test_tasks_that_do_not_fit_the_mixtures_are_refused(
    make: Maker, changes: dict[str, Any], tasks: set[Task], tmp_path: Path
) -> None:
    values = make(tmp_path)
    for task in Task:
        if task not in tasks:
            with pytest.raises(ValueError, match=f"task {task}"):
                opened(values, task=task, **changes)
            continue
        corpus = opened(values, task=task, **changes)
        example = corpus.example(0, 2)
        assert example.references.shape == (corpus.num_sources, 900)
        speakers = torch.stack([noise(34), noise(35)])
        if make is not whamr:
            expected = {Task.SB: speakers, Task.EB: speakers.sum(0, keepdim=True), Task.ES: speakers[:1]}
            torch.testing.assert_close(example.references, expected[task])


@pytest.mark.parametrize("room", ["anechoic", "reverb"])
@pytest.mark.parametrize("target", ["anechoic", "reverb"])
def test_whamr_hears_one_room_and_aims_at_another(room: str, target: str, tmp_path: Path) -> None:
    example = opened(whamr(tmp_path), mixture="mix_clean", room=room, target=target).example(0, 0)
    heard = {"anechoic": (0, 1), "reverb": (2, 3)}
    torch.testing.assert_close(example.mixture, noise(heard[room][0]) + noise(heard[room][1]))
    torch.testing.assert_close(example.references, torch.stack([noise(each) for each in heard[target]]))


@pytest.mark.parametrize("make", MAKERS)
def test_a_missing_split_or_root_is_named(make: Maker, tmp_path: Path) -> None:
    values = make(tmp_path / "there")
    key = "manifest" if make is manifest else "root"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opened({**values, key: str(tmp_path / "nowhere")})


def test_bad_recordings_beyond_the_share_stop_and_below_it_are_left_out(tmp_path: Path) -> None:
    values = wham(tmp_path)
    folder = tmp_path / "wav8k/min/tt"
    cut = folder / "s2" / f"{NAMES[1]}.wav"
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"1 of 3 recordings.*allows 0.*011c0202.*cut off|missing"):
        opened(values)
    with pytest.raises(ValueError, match="allows 0"):
        opened(values, max_bad="33%")
    with pytest.warns(UserWarning, match="1 of 3 recordings cannot be used and are left out"):
        corpus = opened(values, max_bad="34%")
    assert [corpus.example(0, index).identifier for index in range(len(corpus))] == [NAMES[0], NAMES[2]]
    assert len(corpus.refused) == 1
    assert opened(values, mixture="mix_single", task=Task.ES).refused == []  # s2 is not heard


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (noise(1, 800), RATE, "has 800 samples, its mixture has 900"),
        (noise(1), 16000, "has 16000 Hz; expected 8000 Hz"),
        (torch.stack([noise(1), noise(2)], 1), RATE, "has 2 channels"),
    ],
)
def test_what_differs_from_its_mixture_is_bad(
    samples: Tensor, rate: int, message: str, tmp_path: Path
) -> None:
    values = wham(tmp_path)
    write(tmp_path / "wav8k/min/tt/s1" / f"{NAMES[0]}.wav", samples, rate)
    with pytest.raises(ValueError, match=message):
        opened(values)


def test_a_recording_without_a_source_is_bad(tmp_path: Path) -> None:
    values = wsj0(tmp_path)
    (tmp_path / "2speakers/wav8k/min/tt/s2" / f"{NAMES[0]}.wav").unlink()
    with pytest.raises(ValueError, match="1 of 3 recordings"):
        opened(values)


@pytest.mark.parametrize("share", ["x%", -0.1, 1.0, "0.1"])
def test_a_share_that_is_none_is_refused(share: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_bad"):
        opened({"corpus_type": "wham", "root": str(tmp_path), "max_bad": share})


def test_other_rates_of_wsj0_are_refused_and_of_lists_resampled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sample_rate"):
        opened(wsj0(tmp_path / "a"), sample_rate=11025)
    with pytest.raises(FileNotFoundError, match="no folder wav16k"):
        opened(wsj0(tmp_path / "b"), sample_rate=16000)
    for number, make in enumerate((look2hear, manifest)):
        corpus = opened(make(tmp_path / str(number)), sample_rate=4000)
        assert corpus.example(0, 0).references.shape == (2, 450)


def test_files_that_systems_add_are_no_mixtures(tmp_path: Path) -> None:
    values = wham(tmp_path)
    folder = tmp_path / "wav8k/min/tt"
    for name in ("mix_both", "s1", "s2"):
        (folder / name / f"._{NAMES[0]}.wav").write_bytes(b"\0\5\x16\7")
        (folder / name / ".DS_Store").write_bytes(b"\0")
    assert len(opened(values)) == len(NAMES)


def test_bad_files_are_allowed_on_the_command_line(tmp_path: Path) -> None:
    """The same share as ``data.corpus.max_bad``, for training, evaluation and the bench."""
    data = wham(tmp_path)
    (tmp_path / f"wav8k/min/tr/s1/{NAMES[0]}.wav").write_bytes(b"no sound")
    lines = [
        "model: {model_type: blstm, preset: tiny}",
        f"data: {{corpus: {json.dumps(data)}, batch_size: 1}}",
    ]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    command = ["data", "bench", str(tmp_path / "a.yaml"), "--workers", "0", "--items", "1"]
    stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 1
    assert "1 of 3 recordings cannot be used, max_bad=0 allows 0" in stopped.stderr
    with pytest.warns(UserWarning, match="1 of 3 recordings cannot be used and are left out"):
        assert CliRunner().invoke(app, [*command, "--max-bad", "40%"]).exit_code == 0
    refused = CliRunner().invoke(app, [*command, "--max-bad", "many"])
    assert refused.exit_code == 2
    assert "data.corpus.max_bad" in refused.stderr
    for other in (["train"], ["evaluate"], ["data", "bench"]):
        assert "--max-bad" in CliRunner().invoke(app, [*other, "--help"], env={"COLUMNS": "200"}).stdout
