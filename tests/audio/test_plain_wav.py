"""The fast way gives what the general reader gives, and leaves everything doubtful to it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from polsess.audio import (
    AudioError,
    AudioReader,
    read_audio,
    read_audio_info,
    read_plain_header,
    read_plain_mono,
    write_plain_pcm,
)
from polsess.audio.plain_wav import parse_plain_wav, read_plain_pcm

PCM = np.random.default_rng(0).integers(-(2**15), 2**15, 500, dtype=np.int16)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data


def form(encoding: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, align: int = 2) -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", encoding, channels, rate, rate * align, align, bits))


def wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return chunk(b"RIFF", body)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("start", "count"), [(0, None), (100, None), (3, 50), (249, 1)])
def test_it_equals_the_general_reader(tmp_path: Path, channels: int, start: int, count: int | None) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, PCM.reshape(-1, channels), 8000)
    assert read_plain_header(path) is not None
    fast, rate = read_audio(path, start, count)
    with AudioReader(path) as reader:
        reader.seek(start)
        slow = reader.read(reader.info.num_samples - start if count is None else count)
        assert read_audio_info(path) == reader.info
    assert rate == 8000
    assert fast.is_contiguous()
    np.testing.assert_array_equal(fast.numpy(), slow)


def test_other_chunks_are_stepped_over(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(chunk(b"LIST", b"abc") + b"\0", form(), chunk(b"data", PCM.tobytes())))
    found = read_plain_pcm(path)
    assert found is not None
    np.testing.assert_array_equal(found[0][:, 0], PCM)


@pytest.mark.parametrize(
    "content",
    {
        "cut off": wav(form(), chunk(b"data", PCM.tobytes()))[:-2],
        "no format": wav(chunk(b"data", PCM.tobytes())),
        "float": wav(form(encoding=3, bits=32, align=4), chunk(b"data", PCM.tobytes())),
        "24 bits": wav(form(bits=24, align=3), chunk(b"data", PCM.tobytes() + b"12")),
        "no channel": wav(form(channels=0, align=0), chunk(b"data", PCM.tobytes())),
        "absurd rate": wav(form(rate=2**30), chunk(b"data", PCM.tobytes())),
        "half a sample": wav(form(), chunk(b"data", PCM.tobytes() + b"1")),
        "false alignment": wav(form(align=4), chunk(b"data", PCM.tobytes())),
        "no samples": wav(form(), chunk(b"data", b"")),
        "unknown length": wav(form(), struct.pack("<4sI", b"data", 2**32 - 1) + PCM.tobytes()),
        "short format": wav(chunk(b"fmt ", b"\1\0\1\0"), chunk(b"data", PCM.tobytes())),
        "loop of nothing": wav(*([chunk(b"junk", b"")] * 500)),
        "header only": b"RIFF",
        "nothing": b"",
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_not_plain_is_left_to_the_general_reader(content: tuple[str, bytes]) -> None:
    assert parse_plain_wav(content[1][:1024], len(content[1])) is None


def test_refusals_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(form(), chunk(b"data", PCM.tobytes()))[:-20])
    with pytest.raises(AudioError, match="is cut off: 20 of 1000 bytes"):
        read_audio(path)
    path.write_bytes(wav(form(), chunk(b"data", PCM.tobytes())))
    with pytest.raises(AudioError, match="asked for samples 400 to 501"):
        read_audio(path, 400, 101)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_plain_pcm(tmp_path / "a.wav", PCM, 16000)
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(samples, PCM)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("start", "count", "fits"), [(0, 500, True), (7, 100, True), (450, 51, False), (-1, 9, False)]
)
def test_a_part_goes_straight_into_memory(tmp_path: Path, start: int, count: int, fits: bool) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, PCM[:500], 8000)
    out = np.zeros(count, np.int16)
    found = read_plain_mono(str(path), start, out)
    assert (found is not None) == fits
    if fits:
        np.testing.assert_array_equal(out, PCM[start : start + count])
    soundfile.write(path, PCM[:500].reshape(-1, 2), 8000)
    assert read_plain_mono(str(path), 0, out[:10]) is None
    os.mkfifo(tmp_path / "pipe")
    assert read_plain_mono(str(tmp_path / "pipe"), 0, out) is None
    assert read_plain_mono(str(tmp_path / "none"), 0, out) is None
    assert read_plain_mono(str(tmp_path), 0, out) is None
