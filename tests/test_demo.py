from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from polsess.audio import read_audio_info
from polsess.cli.main import app
from polsess.data.mini import MIXTURES


def test_the_demo_separates_every_mixture_and_shows_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo")])
    assert result.exit_code == 0, result.output
    for mixture in (MIXTURES / "16k").iterdir():
        folder = tmp_path / "demo" / mixture.name
        length = read_audio_info(mixture / "mix.flac").num_samples
        for name in ("mixture.wav", "speaker1.wav", "speaker2.wav"):
            assert read_audio_info(folder / name).num_samples == length
        assert (folder / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
        assert mixture.name in result.output
    conversation = tmp_path / "demo" / "conversation"
    assert read_audio_info(conversation / "speaker2.wav").num_samples > 18 * 16000
    page = (tmp_path / "demo" / "index.html").read_text()
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 4 * 4 + 1  # a mixture, two speakers and a picture each, and the timeline
    assert all((tmp_path / "demo" / source).is_file() for source in sources)
    assert "conversation/timeline.png" in sources
    (mean,) = [line for line in result.output.splitlines() if line.startswith("mean")]
    assert float(mean.split()[1]) > 0.0


def test_a_model_of_one_output_is_refused_before_anything_is_printed(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "-m", "enhance-one"])
    assert result.exit_code != 0
    assert "mixture" not in result.stdout
    assert not (tmp_path / "demo").exists()
