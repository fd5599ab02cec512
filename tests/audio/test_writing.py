"""Writing: unchanged where possible, never clipped or non-finite silently, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from polsess.audio import AudioError, AudioFormat, AudioWriter, peak_gain, read_audio, write_audio
from polsess.audio import writing as writing_module
from polsess.files import atomic_path


def noise(samples: int = 8000, channels: int = 2) -> Tensor:
    return 0.1 * torch.randn(channels, samples)


@pytest.mark.parametrize(
    ("ending", "bits"),
    [
        ("wav", None),
        ("wav", "16"),
        ("wav", "24"),
        ("wav", "32f"),
        ("flac", None),
        ("flac", "16"),
        ("flac", "24"),
    ],
)
def test_what_was_read_is_written_unchanged(tmp_path: Path, ending: str, bits: str | None) -> None:
    scale = 2.0**23 if bits in ("24", "32f") else 2.0**15
    samples = (noise() * scale).round() / scale
    samples[0, :2] = torch.tensor([-1.0, (scale - 1) / scale])
    assert write_audio(tmp_path / f"a.{ending}", samples, 44100, bits=bits) == 1.0  # type: ignore[arg-type]
    again, rate = read_audio(tmp_path / f"a.{ending}")
    assert rate == 44100
    assert torch.equal(again, samples)
    expected = {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT", None: "PCM_16"}[bits]
    assert soundfile.info(tmp_path / f"a.{ending}").subtype == expected


@pytest.mark.parametrize("ending", ["ogg", "mp3"])
def test_lossy_files_are_close_and_as_long(tmp_path: Path, ending: str) -> None:
    time = torch.arange(400_000) / 16000  # long enough for the stack overflow of the Vorbis encoder
    samples = 0.5 * torch.sin(2 * torch.pi * 440 * time)
    write_audio(tmp_path / f"a.{ending}", samples, 16000)
    again, rate = read_audio(tmp_path / f"a.{ending}")
    assert (rate, again.shape) == (16000, (1, 400_000))
    assert (again[0] - samples).square().mean() < 1e-3 * samples.square().mean()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("bits", ["16", "32f"])
def test_samples_that_are_no_numbers_are_not_written(tmp_path: Path, bits: str, bad: float) -> None:
    samples = noise()
    samples[0, 7000] = bad
    with pytest.raises(AudioError, match=r"a\.wav: was not written: the samples hold NaN"):
        write_audio(tmp_path / "a.wav", samples, 8000, bits=bits)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_beyond_full_scale(tmp_path: Path) -> None:
    samples, path = noise(), tmp_path / "a.wav"
    samples[0, 5] = -1.6
    with pytest.raises(ValueError, match=r"peak 1\.600 is beyond full scale"):
        write_audio(path, samples, 8000)
    assert not list(tmp_path.iterdir())
    assert write_audio(path, samples, 8000, bits="32f") == 1.0
    assert torch.equal(read_audio(path)[0], samples)
    assert write_audio(path, samples, 8000, clip_mode="rescale") == pytest.approx(1 / 1.6)
    torch.testing.assert_close(read_audio(path)[0], samples / 1.6, rtol=0, atol=2**-15)
    assert write_audio(path, samples, 8000, clip_mode="clamp") == 1.0
    torch.testing.assert_close(read_audio(path)[0], samples.clamp(-1, 1), rtol=0, atol=2**-15)


def test_the_writer_itself_refuses_to_clip(tmp_path: Path) -> None:
    with (
        pytest.raises(AudioError, match="would be clipped"),
        AudioWriter(tmp_path / "a.wav", 8000, 1, 10, AudioFormat("wav")) as writer,
    ):
        writer.write(torch.full((1, 10), 1.01))


def _write_in_blocks(path: Path, samples: Tensor) -> None:
    with AudioWriter(path, 8000, 2, samples.shape[1], AudioFormat("wav")) as writer:
        for block in samples.split(1000, 1):
            writer.write(block)


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, noise(), 8000)
    before = path.read_bytes()
    bad = torch.cat([noise(100_000), torch.full((2, 1), float("nan"))], 1)
    with pytest.raises(AudioError, match="NaN"), atomic_path(path) as temporary:
        _write_in_blocks(temporary, bad)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("container", "bits", "cause"),
    [
        ("aac", None, "format: expected wav, flac, ogg or mp3, got 'aac'"),
        ("", None, "format: expected"),
        ("wav", "8", "bits: expected 16, 24 or 32f"),
        ("mp3", "16", "mp3 is lossy"),
        ("flac", "32f", "flac holds no 32f"),
    ],
)
def test_formats_that_do_not_exist(container: str, bits: str | None, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        AudioFormat(container, bits)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["🎤" * 62 + ".wav", "x" * 251 + ".wav", "zażółć gęślą jaźń.wav", "-q.wav"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    write_audio(tmp_path / name, noise(), 8000)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("shape", [(0,), (2, 0), (1, 2, 3)])
def test_shapes_that_are_no_sound(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="samples: expected"):
        write_audio(tmp_path / "a.wav", torch.zeros(shape), 8000)


def test_mp3_rates_and_unknown_endings(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="MP3 has no rate of 96000 Hz"):
        write_audio(tmp_path / "a.mp3", noise(), 96000)
    with pytest.raises(ValueError, match="format: expected"):
        write_audio(tmp_path / "a.txt", noise(), 8000)
    assert not list(tmp_path.iterdir())


def test_beyond_four_gigabytes_a_wav_becomes_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing_module, "_WAV_LIMIT", 1000)
    samples = torch.arange(800).remainder(100).unsqueeze(0) / 2**15
    write_audio(tmp_path / "a.wav", samples, 8000)
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    assert torch.equal(read_audio(tmp_path / "a.wav")[0], samples)


def test_one_factor_for_sounds_that_belong_together() -> None:
    pcm, floats = AudioFormat("wav"), AudioFormat("wav", "32f")
    assert (
        peak_gain(0.9, pcm, "rescale") == peak_gain(2.0, floats, "error") == peak_gain(2.0, pcm, "clamp") == 1
    )
    assert peak_gain(4.0, pcm, "rescale") == 0.25
