"""Every way in which a sound file can be bad is a typed error with the file's name and the cause."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polsess.audio import AudioError, AudioReader, read_audio, read_audio_info

CONTAINERS = {
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_24"),
    "aiff": ("AIFF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def noise(samples: int = 16000, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((samples, channels)).astype(np.float32)


def write(path: Path, kind: str = "wav", samples: np.ndarray | None = None, rate: int = 16000) -> Path:
    container, subtype = CONTAINERS[kind]
    soundfile.write(path, noise() if samples is None else samples, rate, format=container, subtype=subtype)
    return path


def refused(path: Path, cause: str) -> None:
    with pytest.raises(AudioError, match=cause) as caught:
        read_audio(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_is_read_whole_and_in_part(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", kind, noise(16000, 2))
    samples, rate = read_audio(path)
    assert (rate, samples.shape, samples.dtype) == (16000, (2, 16000), torch.float32)
    part, _ = read_audio(path, start=5000, num_samples=700)
    tolerance = 1e-2 if kind == "opus" else 1e-6  # its decoder warms up after a seek
    torch.testing.assert_close(part, samples[:, 5000:5700], rtol=0, atol=tolerance)
    info = read_audio_info(path)
    assert (info.num_samples, info.num_channels, info.duration_seconds) == (16000, 2, 1.0)


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("share", [0.4, 0.97])
def test_a_file_cut_off_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = write(tmp_path / f"a.{kind}", kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "cut off|cannot be decoded")


def test_blocks_make_up_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", "flac", noise(10_001, 2))
    with AudioReader(path) as reader:
        blocks = list(reader.blocks(3000))
    assert [block.shape[1] for block in blocks] == [3000, 3000, 3000, 1001]
    np.testing.assert_array_equal(np.concatenate(blocks, 1), read_audio(path)[0].numpy())


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "is empty"),
        (b"Dear diary, this is not a sound.", "not a WAV"),
        (b"<!doctype html><html>404</html>", "not a WAV"),
        (b"\x00" * 100, "not a WAV"),
        (b"R", "not a WAV"),
        (b"RIFF\x00\x00\x00\x00WAVE", "no format header"),
        (b"OggS" + b"\x00" * 60, "cut off"),
        (b"fLaC", "cannot be decoded"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00", "cannot be decoded"),
        (b"FORM\x00\x00\x00\x04AIFF", "no sound"),
    ],
)
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    refused(path, cause)


def test_places_that_are_no_file(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")
    refused(tmp_path / "missing.wav", "no such file")
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "not a regular file")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    refused(tmp_path / "loop.wav", "cannot be read")
    with pytest.raises(AudioError, match="no file name"):
        read_audio("a\0b.wav")
    with pytest.raises(AudioError, match="cannot be read"):
        read_audio(tmp_path / ("x" * 300 + ".wav"))


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", deny)  # root may open everything
    refused(path, "permission denied")


def wav(
    data: bytes = b"\x01\x00" * 100,
    *,
    encoding: int = 1,
    channels: int = 1,
    rate: int = 8000,
    bits: int = 16,
    data_size: int | None = None,
) -> bytes:
    align = channels * bits // 8 % 2**16
    fmt = struct.pack("<HHIIHH", encoding, channels, rate, rate * align % 2**32, align, bits)
    size = len(data) if data_size is None else data_size
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (wav(b""), "holds no samples"),
        (wav(data_size=0xFFFFFFFF), "does not say how long"),
        (wav(data_size=1000), "800 of 1000 bytes"),
        (wav()[:36], "no sound"),
        (wav()[:30], "inside its header"),
        (wav(rate=2**31 - 1), "2147483647 Hz"),
        (wav(rate=0), "Hz|decoded"),
        (wav(rate=1), "claims a rate of 1 Hz"),
        (wav(channels=0), "cannot be decoded"),
        (wav(channels=65535), "channels|decoded|no samples"),
        (wav(b"\x00" * 1000, channels=100), "claims 100 channels"),
        (wav(encoding=0x11, bits=4), "encoding 0x0011"),
        (wav(encoding=2, bits=4), "encoding 0x0002"),
        (wav(encoding=0x31), "encoding 0x0031"),
        (wav(encoding=0x55), "encoding 0x0055"),
    ],
)
def test_wav_headers_that_cannot_be_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, cause: str
) -> None:
    monkeypatch.setenv("PATH", "")  # without ffmpeg, which reads ADPCM
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    refused(path, cause)


def test_the_handmade_wav_is_otherwise_good(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav())
    assert torch.equal(read_audio(path)[0], torch.full((1, 100), 2.0**-15))


def test_a_flac_header_that_claims_far_too_much(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", "flac", noise(100))
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the 36 bits of the number of samples
    content[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    refused(path, "claims 68719476735 samples")


def test_endless_chunks_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + b"junk\x00\x00\x00\x00" * 20_000)
    refused(path, "more than 10000 chunks")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    samples = noise(1000)
    samples[500] = value
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    refused(tmp_path / "a.wav", "NaN, infinite")


def test_unusual_but_good_sounds_are_read(tmp_path: Path) -> None:
    for name, samples in {
        "silent": np.zeros((800, 1)),
        "one": np.ones((1, 1)) / 2,
        "clipped": np.sign(noise(800)) * 0.99997,
    }.items():
        path = write(tmp_path / f"{name}.wav", samples=samples.astype(np.float32))
        assert read_audio(path)[0].shape == (1, len(samples))


def test_a_part_outside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    for start, length in [(16000, None), (-1, 10), (15999, 2), (0, 0)]:
        with pytest.raises(AudioError, match="has 16000 samples; asked for"):
            read_audio(path, start, length)


@pytest.mark.parametrize(
    "name", ["żółć ąę.wav", "🎤 rozmowa.wav", "-dash.wav", "x" * 251 + ".wav", "a\nb.wav"]
)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    assert read_audio(write(tmp_path / name))[1] == 16000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["wav", "rf64", "w64", "aiff", "flac", "ogg"]))
    original = tmp_path / f"original.{kind}"
    if not original.exists():
        write(original, kind, noise(500))
    content = bytearray(original.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 200) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(content)
    try:
        samples, _ = read_audio(path)
    except AudioError:
        return
    assert samples.isfinite().all()
