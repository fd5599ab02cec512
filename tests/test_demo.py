from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from polsess.audio import read_audio_info
from polsess.cli.main import app
from polsess.data.mini import MIXTURES


def test_the_demo_separates_every_mixture_and_shows_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo")])
    assert result.exit_code == 0, result.output
    for mixture in (MIXTURES / "8k").iterdir():
        folder = tmp_path / "demo" / mixture.name
        length = read_audio_info(mixture / "mix.flac").num_samples
        for name in ("mixture.wav", "speaker1.wav", "speaker2.wav"):
            assert read_audio_info(folder / name).num_samples == length
        assert (folder / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
        assert mixture.name in result.output
    (mean,) = [line for line in result.output.splitlines() if line.startswith("mean")]
    assert float(mean.split()[1]) > 0.0
