"""Recordings and pieces that share passes through the network: the same results, no failure of another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from polsess.audio import read_audio, write_audio
from polsess.inference import SeparatedFile, SeparationError, Separator
from polsess.inference.jobs import Job, OutputOptions, find_jobs, separate_jobs
from tests.inference.oracle import FunctionModel
from tests.inference.scripted import RATE, ScriptedDetector, ScriptedEmbedder, splitter, talk


def sounds(folder: Path, *lengths: int) -> list[Job]:
    for index, length in enumerate(lengths):
        sound = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(index))
        write_audio(folder / "in" / f"{index}.wav", sound, RATE, bits="32f")
    return find_jobs([folder / "in"], folder / "out")[0]


def shifted(mixture: Tensor) -> Tensor:
    """Each row's estimates depend on that row alone."""
    return torch.stack([mixture, mixture.roll(5, -1)], 1)


def separator(function: object = shifted, **options: object) -> tuple[Separator, FunctionModel]:
    model = FunctionModel(function)  # type: ignore[arg-type]
    return Separator(model, device="cpu", gate="never", **options), model  # type: ignore[arg-type]


def tracks(folder: Path) -> dict[str, Tensor]:
    return {path.name: read_audio(path)[0] for path in sorted(folder.glob("*.wav"))}


def test_short_recordings_of_one_length_share_passes_and_come_out_as_alone(tmp_path: Path) -> None:
    jobs = sounds(tmp_path, 800, 800, 640, 800, 800, 800)
    together, model = separator(batch_size=4)
    done: list[float] = []
    outcomes = list(separate_jobs(together, jobs, OutputOptions(tmp_path / "out"), done.append))
    assert [job for job, _ in outcomes] == jobs
    assert all(isinstance(outcome, SeparatedFile) for _, outcome in outcomes)
    assert model.calls == [(3, 800), (1, 640), (2, 800)]
    assert done == sorted(done)
    assert done[-1] == len(jobs)
    alone, _ = separator(batch_size=1)
    list(separate_jobs(alone, jobs, OutputOptions(tmp_path / "alone")))
    for name, expected in tracks(tmp_path / "alone").items():
        torch.testing.assert_close(tracks(tmp_path / "out")[name], expected, rtol=0, atol=0)


def test_recordings_that_fail_leave_those_that_shared_their_pass(tmp_path: Path) -> None:
    def choosy(mixture: Tensor) -> Tensor:
        if (mixture.abs().amax(-1) > 0.5).any():
            raise RuntimeError("too loud")
        estimates = shifted(mixture)
        estimates[mixture[:, 0] == 0] = torch.nan
        return estimates

    jobs = sounds(tmp_path, 800, 800, 800, 800)
    loud, broken = torch.zeros(800), 0.1 * torch.randn(800)
    loud[7], loud[0], broken[0] = 1.0, 1e-3, 0.0
    for place, sound in ((1, loud), (2, broken)):
        write_audio(jobs[place].source, sound, RATE, bits="32f")
    (tmp_path / "in" / "3.wav").write_bytes(b"RIFF")
    together, _ = separator(choosy, batch_size=4)
    outcomes = [outcome for _, outcome in separate_jobs(together, jobs, OutputOptions(tmp_path / "out"))]
    assert isinstance(outcomes[0], SeparatedFile)
    assert str(outcomes[1]) == "too loud"
    assert isinstance(outcomes[2], SeparationError)
    assert "2.wav" in str(outcomes[2])
    assert "3.wav" in str(outcomes[3])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0_speaker1.wav",
        "0_speaker2.wav",
    ]


def test_an_interruption_keeps_what_is_written_and_leaves_nothing_hidden(tmp_path: Path) -> None:
    def interrupted(mixture: Tensor) -> Tensor:
        if model.calls[-1] == (1, 640):
            raise KeyboardInterrupt
        return shifted(mixture)

    jobs = sounds(tmp_path, 800, 800, 640, 800)
    working, model = separator(interrupted, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        list(separate_jobs(working, jobs, OutputOptions(tmp_path / "out")))
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left <= {f"{number}_speaker{speaker}.wav" for number in range(2) for speaker in (1, 2)}
    assert len(left) % 2 == 0


@pytest.mark.parametrize(("free", "largest"), [(None, 8), (1 << 40, 8), (100 * 8192 * 800, 8), (1, 1)])
def test_as_many_pieces_as_the_free_memory_holds(
    monkeypatch: pytest.MonkeyPatch, free: int | None, largest: int
) -> None:
    monkeypatch.setattr("polsess.inference.passes.free_memory", lambda: free)
    working, model = separator(batch_size=8, segment_seconds=0.1, overlap=0.0)
    sound = 0.1 * torch.randn(6400, generator=torch.Generator().manual_seed(0))
    result = working.separate(sound, RATE)
    torch.testing.assert_close(result.sources[0], sound, rtol=1e-2, atol=1e-3)
    assert max(rows for rows, _ in model.calls) == largest


def test_overlaps_of_one_length_share_passes_and_come_out_as_alone() -> None:
    spans = [(1.0 + 5 * turn, 3.0 + 5 * turn) for turn in range(6)]
    conversation = torch.stack(
        [
            talk(0, 31.0, *((start - 0.9, end - 0.6) for start, end in spans)),
            talk(1, 31.0, *((start + 0.6, end + 1.4) for start, end in spans)),
        ]
    )
    networks = {"detector": ScriptedDetector(), "embedder": ScriptedEmbedder(), "enhancer": "none"}
    results, batches = [], []
    for batch_size in (1, 4):
        model = splitter()
        working = Separator(model, device="cpu", batch_size=batch_size, gate="always", **networks)  # type: ignore[arg-type]
        results.append(working.separate(conversation.sum(0), RATE))
        batches.append([rows for rows, _ in model.calls])
    assert max(batches[0]) == 1
    assert max(batches[1]) == 4
    assert sum(batches[0]) == sum(batches[1])
    torch.testing.assert_close(results[0].sources, results[1].sources, rtol=0, atol=1e-6)
    assert results[0].timeline is not None
    assert results[1].timeline is not None
    assert results[0].timeline.turns == results[1].timeline.turns
