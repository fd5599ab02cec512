"""Models that count speakers: the number reaches the result, tracks beyond it are silent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.inference import Separator
from polsess.models import SeparationModel, SpeakerCounts
from tests.inference.oracle import Oracle
from tests.inference.scripted import talk


class CountingOracle(Oracle):
    """Gives the references that are audible in a piece, the others silent, and says how many they are."""

    @property
    def counts_speakers(self) -> bool:
        return True

    def estimate_counted(
        self, mixture: Tensor, num_speakers: Tensor | None
    ) -> tuple[Tensor, SpeakerCounts | None]:
        estimates = self.estimate_sources(mixture)
        there = estimates.square().mean(-1) > 1e-6
        order = (~there).int().argsort(dim=-1, stable=True)
        estimates = torch.stack([each[rows] for each, rows in zip(estimates, order, strict=True)])
        probabilities = torch.nn.functional.one_hot(there.sum(-1), self.output_sources + 1) * 0.8 + 0.05
        counts = SpeakerCounts(there.sum(-1), probabilities / probabilities.sum(-1, keepdim=True))
        numbers = counts.numbers if num_speakers is None else num_speakers
        beyond = torch.arange(self.output_sources) >= numbers[:, None]
        return estimates.masked_fill(beyond.unsqueeze(-1), 0.0), counts


def test_a_recording_has_as_many_as_its_fullest_segment() -> None:
    voices = torch.stack([talk(0, 12.0, (0.0, 12.0)), talk(1, 12.0, (0.0, 12.0)), torch.zeros(12 * 8000)])
    separator = Separator(CountingOracle(voices), gate="never", segment_seconds=4.0)
    separation = separator(voices.sum(0), 8000)
    assert separation.count is not None
    assert separation.count.number == 2
    share = 0.85 / 1.0
    segments = len(separator.model.calls)  # type: ignore[arg-type]
    at_most = (share + 0.1) ** segments
    assert separation.count.probability == pytest.approx(at_most - 0.1**segments, abs=1e-4)
    assert not separation.sources[2].any()
    for track, voice in zip(separation.sources[:2], voices[:2], strict=True):
        torch.testing.assert_close(track, voice, rtol=0, atol=1e-3)  # on one track from end to end


@pytest.mark.parametrize(("asked", "number"), [(None, 0), (2, 2), ((1, 3), 1)])
def test_a_number_or_a_range_is_kept(
    counting: SeparationModel, asked: int | tuple[int, int] | None, number: int
) -> None:
    separation = Separator(counting, gate="never", num_speakers=asked)(0.1 * torch.randn(4000), 8000)
    assert separation.count is not None
    assert separation.count.number == number
    assert separation.sources.any(-1).sum() == number
    assert 0 < separation.count.probability < 1


def test_silence_and_one_sample(counting: SeparationModel) -> None:
    separator = Separator(counting, gate="never")
    for sound in (torch.zeros(4000), torch.ones(1)):
        separation = separator(sound, 8000)
        assert separation.sources.shape == (3, len(sound))
        assert separation.sources.isfinite().all()
        assert separation.count is not None
        assert separation.count.number == 0


def test_a_number_out_of_range_is_refused(counting: SeparationModel) -> None:
    with pytest.raises(ValueError, match="num_speakers: this network separates 1 to 3, got 4"):
        Separator(counting, gate="never", num_speakers=4)


def test_the_number_in_json_and_in_words(counting: SeparationModel, tmp_path: Path) -> None:
    save_model(counting, tmp_path / "model")
    write_audio(tmp_path / "talk.wav", 0.1 * torch.randn(1, 4000), 8000)
    words = [str(tmp_path / "talk.wav"), "-o", str(tmp_path / "out"), "-m", str(tmp_path / "model")]
    options = ["--device", "cpu", "--gate", "never", "--speakers", "auto", "--json"]
    result = CliRunner().invoke(app, ["separate", *words, *options])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["num_speakers"] == 0
    assert record["num_speakers_probability"] == pytest.approx(0.7311**4, abs=1e-3)
    assert len(record["outputs"]) == 3
    assert "0 speakers were counted (probability 0.29)" in result.stderr
    assert "speaker1, speaker2, speaker3 are silent" in result.stderr
