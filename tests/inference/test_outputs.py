"""Names of output files: every speaker one of his own, inside the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from polsess.inference import output_paths, source_names


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
