"""Files whose header does not hold their length, or that hold several streams, are read to their true end."""

from __future__ import annotations

import shutil
import struct
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from polsess.audio import AudioError, AudioReader, Samples, as_tensor, read_audio, read_audio_info
from polsess.audio.streams import Content, Refusal, ogg_streams

RATE = 16000


def tone(seconds: float, seed: int = 0, channels: int = 1) -> Samples:
    """A tone that rises, so that every place of it differs."""
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * (300 + 200 * seed + 150 * time) * time)
    return np.repeat(sound[:, None], channels, 1).astype(np.float32)


def encode(path: Path, samples: Samples, rate: int = RATE) -> bytes:
    container, subtype = {"mp3": ("MP3", None), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}.get(
        path.suffix[1:], (path.suffix[1:].upper(), None)
    )
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    return path.read_bytes()


def mp3_without_length(content: bytes) -> bytes:
    """An MP3 file of soundfile without its first frame, which holds the number of frames."""
    assert content[13:17] in (b"Xing", b"Info")
    bitrates = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    return content[72 * bitrates[(content[2] >> 4) - 1] * 1000 // RATE + (content[2] >> 1 & 1) :]


def delay_of(part: torch.Tensor, whole: Samples) -> tuple[int, float]:
    """How many samples later a part of a sound comes, and how much it resembles it there."""
    size = 1 << (len(whole) + part.shape[1] - 1).bit_length()
    spectra = np.fft.rfft(part[0].numpy(), size) * np.conj(np.fft.rfft(whole[:, 0], size))
    correlation = np.fft.irfft(spectra, size)
    place = int(np.abs(correlation).argmax())
    norm = float(part.norm()) * float(np.linalg.norm(whole))
    return place, abs(float(correlation[place])) / norm


def test_mp3_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    sound = tone(8.0)
    sound[RATE:] *= 0.05  # a variable rate: the first frames are larger than the rest
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3_without_length(encode(path, sound)))
    samples, rate = read_audio(path)
    assert rate == RATE
    assert 8.0 <= samples.shape[1] / RATE < 8.2
    place, likeness = delay_of(samples, sound)
    assert place < 0.1 * RATE
    assert likeness > 0.99
    assert read_audio_info(path).num_samples == samples.shape[1]


def test_mp3_in_blocks_is_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    encode(path, tone(5.0))
    whole, _ = read_audio(path)
    assert whole.shape[1] == 5 * RATE
    with AudioReader(path) as reader:
        for _ in range(2):
            assert torch.equal(as_tensor(np.concatenate(list(reader.blocks(7001)), 1)), whole)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus", "flac"])
def test_streams_in_one_file_are_one_sound(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    sounds = [tone(2.0, 0), tone(1.0, 1), tone(3.0, 2)]
    contents = [encode(path, sound) for sound in sounds]
    parts = []
    for content in contents:
        path.write_bytes(content)
        parts.append(read_audio(path)[0])
    path.write_bytes(b"".join(contents))
    samples, _ = read_audio(path)
    assert torch.equal(samples, torch.cat(parts, 1))
    with AudioReader(path) as reader:
        assert torch.equal(as_tensor(np.concatenate(list(reader.blocks(5000)), 1)), samples)
        reader.seek(int(2.5 * RATE))
        part = samples[:, int(2.5 * RATE) : int(3.5 * RATE)]
        torch.testing.assert_close(as_tensor(reader.read(RATE)), part, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["wav", "aiff", "rf64"])
def test_another_file_after_the_first_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    content = encode(path, tone(0.5))
    for between in (b"", b"LIST" + struct.pack(">I" if kind == "aiff" else "<I", 4) + b"INFO"):
        path.write_bytes(content + between)
        assert read_audio(path)[0].shape[1] == RATE // 2
        path.write_bytes(content + between + content)
        with pytest.raises(AudioError, match="holds another sound file after the first one"):
            read_audio(path)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac"])
def test_streams_of_different_rates_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encode(path, tone(1.0)) + encode(path, tone(1.0), 32000))
    with pytest.raises(AudioError, match=r"holds sounds of 16000 Hz .* and 32000 Hz .* split it"):
        read_audio(path)


def test_a_second_stream_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    for suffix in ("mp3", "ogg"):
        path = tmp_path / f"a.{suffix}"
        content = encode(path, tone(2.0))
        path.write_bytes(content + content[: len(content) * 2 // 3])
        with pytest.raises(AudioError, match="cut off"):
            read_audio(path)
    path.write_bytes(content[: len(content) * 2 // 3] + content)
    with pytest.raises(AudioError, match="cut off"):
        read_audio(path)


def ogg_page(flags: int, body: bytes) -> bytes:
    sizes = bytes([255] * (len(body) // 255) + [len(body) % 255])
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(sizes)]) + sizes + body


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_an_ogg_page_does_not_swallow_the_stream_behind_its_cut(share: float) -> None:
    stream = ogg_page(2, bytes(30)) + ogg_page(0, bytes(200)) + ogg_page(4, bytes(5000))
    assert ogg_streams(Content(BytesIO(stream))) == []
    assert len(ogg_streams(Content(BytesIO(stream + stream)))) == 2
    with pytest.raises(Refusal, match="cut off"):
        ogg_streams(Content(BytesIO(stream[: round(share * len(stream))] + stream)))


def test_tags_around_mp3_frames_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = encode(path, tone(2.0))
    expected, _ = read_audio(path)
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\0" * 128
    path.write_bytes(tag + content + b"TAG".ljust(128, b"\0"))
    assert torch.equal(read_audio(path)[0], expected)
    path.write_bytes(tag + content + tag + content + b"TAG".ljust(128, b"\0"))
    assert torch.equal(read_audio(path)[0], torch.cat([expected, expected], 1))


@pytest.mark.parametrize("stated", [0, 1, 4096, 10_000])
def test_flac_with_too_small_a_length_is_read_to_its_end(stated: int, tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = bytearray(encode(path, tone(3.7, channels=2)))
    expected, _ = read_audio(path)
    content[21] &= 0xF0
    content[22:26] = stated.to_bytes(4)
    path.write_bytes(content)
    assert torch.equal(read_audio(path)[0], expected)
    path.write_bytes(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + content)
    assert torch.equal(read_audio(path)[0], expected)


def test_flac_without_a_length_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = bytearray(encode(path, tone(3.7, channels=2)))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content[:-100])
    with pytest.raises(AudioError, match="cut off: its last FLAC frame"):
        read_audio(path)


@pytest.mark.parametrize("length", [0, 2**31, 2**31 - 44, 0x7FFFF000, 2**31 - 1, 2**32 - 1, 2**32 - 37])
@pytest.mark.parametrize("kind", ["wav", "rf64", "aiff", "w64"])
def test_a_recorder_that_never_wrote_the_length(kind: str, length: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    content = bytearray(encode(path, tone(0.5)))
    if kind == "w64":
        place = content.index(b"data") + 16
        content[place : place + 8] = struct.pack("<Q", length and length + 24)
    elif kind == "rf64":
        place = content.index(b"ds64") + 16
        content[place : place + 8] = struct.pack("<Q", length)
    else:
        order, name = (">", b"SSND") if kind == "aiff" else ("<", b"data")
        place = content.index(name) + 4
        content[place : place + 4] = struct.pack(f"{order}I", length)
    path.write_bytes(content)
    with pytest.raises(
        AudioError, match=r"does not say how long it is.*convert it first, e\.g\. with ffmpeg"
    ):
        read_audio(path)


@pytest.mark.parametrize(
    "content", [b"\xff", b"\xff\xfb", b"O", b"fLa", b"ID3", b"\x1aE\xdf\xa3", b"0&", b"....ftyp"]
)
def test_a_file_of_a_few_bytes_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)


def test_without_ffmpeg_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(AudioError, match=r"a\.m4a: is of the kind 'mov', which needs ffmpeg; install it"):
        read_audio(tmp_path / "a.m4a")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["ż.m4a", "-a.mp4", "a.mkv", "a.aac", "a.wv", "a.caf", "a.wma", "adpcm.wav"])
def test_other_kinds_are_read_through_ffmpeg(name: str, tmp_path: Path) -> None:
    sound = tone(4.0)
    encode(tmp_path / "a.flac", sound)
    codec = ["-c:a", "adpcm_ima_wav"] if name == "adpcm.wav" else []
    command = ["ffmpeg", "-v", "error", "-i", "a.flac", *codec, f"file:{name}"]
    subprocess.run(command, cwd=tmp_path, check=True)
    path = tmp_path / name
    samples, rate = read_audio(path)
    assert rate == RATE
    assert abs(samples.shape[1] - len(sound)) < 0.2 * RATE
    assert delay_of(samples, sound)[1] > 0.95
    part, _ = read_audio(path, 20_000, 5000)
    assert torch.equal(part, samples[:, 20_000:25_000])
    with AudioReader(path) as reader:
        assert torch.equal(as_tensor(np.concatenate(list(reader.blocks(9000)), 1)), samples)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(AudioError, match=r"cut off|ffmpeg"):
        read_audio(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_follows_no_playlist(tmp_path: Path) -> None:
    encode(tmp_path / "secret.wav", tone(1.0))
    for name, content in {
        "a.m4a": b"#EXTM3U\n#EXTINF:1,\nsecret.wav\n",
        "a.mp4": b"ffconcat version 1.0\nfile secret.wav\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match="not a WAV"):
            read_audio(tmp_path / name)
