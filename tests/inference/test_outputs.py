"""Names of output files: every speaker one of his own, inside the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polsess.audio import AudioError
from polsess.diarization import SpeakerTimeline
from polsess.inference import Separation, output_paths, source_names
from polsess.inference.jobs import OutputOptions
from polsess.timelines import Turn


def test_names() -> None:
    assert source_names(1) == ("speech",)
    assert source_names(3) == ("speaker1", "speaker2", "speaker3")
    found = output_paths(
        Path("out"), "{speaker}/{track}.{ext}", "day 1/żółw", ("speaker1", "speaker2"), "wav"
    )
    assert found == [Path("out/day 1/speaker1/żółw.wav"), Path("out/day 1/speaker2/żółw.wav")]


@pytest.mark.parametrize(
    "pattern",
    [
        "{track}.{ext}",
        "{speaker}.{ext}",
        "{track}_{name}",
        "{track.__class__}_{speaker}",
        "{track!r}_{speaker}",
        "{track:>999999999}_{speaker}",
        "{track}_{speaker",
        "{}{track}{speaker}",
        "../{track}_{speaker}",
        "/tmp/{track}_{speaker}",
    ],
)
def test_patterns_that_do_not_work(pattern: str) -> None:
    with pytest.raises(ValueError, match="filename: "):
        output_paths(Path("out"), pattern, "a", ("speaker1", "speaker2"), "wav")


def test_results_are_not_saved_under_names_of_another_format(tmp_path: Path) -> None:
    separation = Separation(np.zeros((1, 80), np.float32), 8000, ("speech",), 0.1)
    with pytest.raises(AudioError, match=r"a\.wav: would hold flac"):
        separation.save(tmp_path, "a", pattern="{track}.wav", container="flac")
    assert not list(tmp_path.iterdir())
    with pytest.raises(AudioError, match=r"\{speaker\}\.flac: would hold wav"):
        OutputOptions(tmp_path, "{track}_{speaker}.flac")


@pytest.mark.parametrize(
    ("turns", "separated", "expected"),
    [
        ([(0.0, 1.0), (0.5, 2.0)], [(0.0, 2.0)], 4000.0),  # all talk came from the network
        ([(0.0, 1.0), (0.5, 2.0)], [(0.5, 1.0)], 22_050.0),  # some passed through
        ([], [], 4000.0),  # tracks are silent
    ],
)
def test_the_band_is_that_of_what_is_there(
    turns: list[tuple[float, float]], separated: list[tuple[float, float]], expected: float
) -> None:
    timeline = SpeakerTimeline(
        tuple(Turn(first, last, f"speaker{index + 1}") for index, (first, last) in enumerate(turns)),
        duration_seconds=2.0,
        whole=False,
        separated=tuple(separated),
    )
    sources = np.zeros((2, 88_200), np.float32)
    names = ("speaker1", "speaker2")
    separation = Separation(sources, 44_100, names, 1.0, "talk", timeline, model_rate=8000)
    assert separation.bandwidth_hz == expected
