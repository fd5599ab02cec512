"""`polsess stream`: raw samples and WAV in and out of pipes, and what a stream that ends badly leaves."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from polsess.audio import PipeWriter
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.models import create_model

SOUND = (0.1 * np.random.default_rng(0).standard_normal(1999)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    save_model(
        create_model({"model_type": "skim", "preset": "tiny", "bidirectional": False, "norm": "cLN"}), folder
    )
    return folder


@pytest.fixture
def expected(model: Path) -> np.ndarray:
    from polsess.checkpoints import load_model

    with torch.inference_mode():
        estimates: np.ndarray = load_model(str(model))(torch.from_numpy(SOUND)[None])[0].numpy()
    return estimates


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLSESS_ALLOCATOR", "default")


def run(model: Path, content: bytes, *words: str) -> Result:
    return CliRunner().invoke(app, ["stream", "-m", str(model), *words], input=content)


def wav(samples: np.ndarray, subtype: str, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="WAV")
    return file.getvalue()


def test_floating_point_samples_there_and_back(model: Path, expected: np.ndarray) -> None:
    result = run(model, SOUND.tobytes(), "--from", "f32", "--rate", "8000", "--to", "f32")
    assert result.exit_code == 0, result.stderr
    given = np.frombuffer(result.stdout_bytes, "<f4").reshape(-1, 2).T
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert "latency 1.9 ms" in result.stderr


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("length", ["true", "zero", "unknown"])
def test_a_wav_gives_a_wav_whatever_its_header_says_of_the_length(
    model: Path, expected: np.ndarray, subtype: str, length: str
) -> None:
    content = wav(SOUND, subtype)
    place = content.index(b"data") + 4
    if length != "true":
        content = (
            content[:place]
            + struct.pack("<I", {"zero": 0, "unknown": 0xFFFFFFFF}[length])
            + content[place + 4 :]
        )
    result = run(model, content)
    assert result.exit_code == 0, result.stderr
    given, rate = soundfile.read(io.BytesIO(result.stdout_bytes), always_2d=True)
    assert rate == 8000
    np.testing.assert_allclose(given.T, expected, atol=2 / 2**15)


def test_stereo_samples_of_16_bits_become_files(model: Path, expected: np.ndarray) -> None:
    stereo = np.rint(np.stack([SOUND, SOUND]).T * 2**15).astype("<i2")
    words = ["--from", "s16", "--rate", "8000", "--channels", "2", "-o", "parts", "--bits", "32f"]
    result = run(model, stereo.tobytes(), *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == ["parts/speaker1.wav", "parts/speaker2.wav"]
    for path, source in zip(result.stdout.split(), expected, strict=True):
        np.testing.assert_allclose(soundfile.read(path)[0], source, atol=1e-3)
    again = run(model, stereo.tobytes(), *words)
    assert again.exit_code == 2
    assert "parts/speaker1.wav: exists" in again.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (wav(SOUND, "FLOAT")[:-1001], "stdin: is cut off after 0.218 s"),
        (
            wav(np.append(SOUND, np.nan).astype(np.float32), "FLOAT"),
            "is NaN or infinite, 0.250 s into the stream",
        ),
    ],
)
def test_what_came_before_a_fault_is_written(model: Path, content: bytes, expected: str) -> None:
    result = run(model, content, "-o", "parts")
    assert result.exit_code == 1
    assert expected in result.stderr
    assert result.stderr.count("error") == 1
    assert soundfile.info("parts/speaker1.wav").frames >= (1700 if "cut" in expected else len(SOUND))


@pytest.mark.parametrize(
    ("content", "words", "expected"),
    [
        (b"", [], "stdin: is empty"),
        (b"RIFF0000WAVEfmt ", [], "stdin: ends within its WAV header"),
        (b"ID3" + bytes(20), [], "stdin: is no WAV; say what comes"),
        (wav(SOUND, "PCM_24"), [], "16-bit PCM or 32-bit floating point"),
        (SOUND.tobytes(), ["--from", "f32"], "give its rate in Hz"),
        (wav(SOUND, "FLOAT"), ["--rate", "8000"], "leave them out"),
        (SOUND.tobytes(), ["--from", "f32", "--rate", "7"], "expected 1000 to"),
        (wav(SOUND, "FLOAT"), ["--to", "s16", "-o", "parts"], "--to s16: is for -o -"),
    ],
)
def test_what_cannot_be_read_is_told(model: Path, content: bytes, words: list[str], expected: str) -> None:
    result = run(model, content, *words)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert not list(Path.cwd().iterdir())


def test_a_network_that_looks_ahead_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    save_model(create_model("skim", preset="tiny"), tmp_path / "other")
    result = run(tmp_path / "other", b"")
    assert result.exit_code == 2
    assert "skim cannot stream" in result.stderr
    assert "bidirectional: false with norm: cLN" in result.stderr


def test_peaks_that_16_bits_cut_off_are_said(model: Path) -> None:
    loud = (1e4 * SOUND).tobytes()
    words = ("--from", "f32", "--rate", "8000")
    assert "times full scale, which 16 bits cut off" in run(model, loud, *words).stderr
    for kept in ("--to=f32", "--bits=32f"):
        assert "full scale" not in run(model, loud, *words, kept).stderr
    assert "full scale" not in run(model, SOUND.tobytes(), *words).stderr


@pytest.mark.parametrize("before", [b"", b"what was there"])
def test_a_file_says_how_long_it_is(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(before)
        writer = PipeWriter(file, 8000, 2)
        writer.write(np.stack([SOUND, -SOUND]))
        writer.close()
        file.write(b"and after")
    content = path.read_bytes()
    assert content.startswith(before)
    assert content.endswith(b"and after")
    path.write_bytes(content[len(before) : -9])
    sound, rate = soundfile.read(path)
    assert (sound.shape, rate) == ((1999, 2), 8000)
    assert np.abs(sound[:, 0] - SOUND).max() < 1e-4


def test_a_file_that_is_appended_to_is_only_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with path.open("ab") as file:
        writer = PipeWriter(file, 8000, 1)
        writer.write(SOUND[None])
        writer.close()
    content = path.read_bytes()
    assert len(content) == 44 + 2 * len(SOUND)
    assert content[40:44] == b"\xff" * 4


def test_a_device_takes_what_comes() -> None:
    with Path(os.devnull).open("wb") as file:
        writer = PipeWriter(file, 8000, 1)
        writer.write(SOUND[None])
        writer.close()
