"""A small set in the layout of each corpus that recipes name, made of the voices that the package carries.

Every recipe can be tried on it as it stands. Scores on it say nothing: a few seconds of five voices, which
count as others where they are played faster or slower.

Shapes: T samples.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import polsess
from polsess.audio import Samples, encode_plain_pcm, read_audio, resample
from polsess.data.base import Split
from polsess.data.polsess.generation import GenerationConfig, collect_ingredients, generate_split
from polsess.files import write_text
from polsess.publication import temporary_folder

MIXTURES = Path(polsess.__file__).parent / "assets" / "mixtures"
"""Mixtures of two recorded voices with their references, at 8 kHz in ``8k`` and 16 kHz in ``16k``, a folder
each; its README lists origin and licences."""
_COUNTS = {Split.TRAIN: 16, Split.VAL: 4, Split.TEST: 4}
_RATE = 16_000
_SECONDS = 6


@dataclass(frozen=True)
class _Voice:
    name: str
    sex: str
    clips: tuple[str, ...]
    speed: float = 1.0


_ALLISON, _CARLO, _AUSTEN = ("different_sex/s1", "noise/s1"), ("different_sex/s2",), ("noise/s2",)
_JUNE, _IVRRU = ("same_sex/s1",), ("same_sex/s2",)
_VOICES = {
    Split.TRAIN: (
        _Voice("allison", "F", _ALLISON),
        _Voice("carlo", "M", _CARLO),
        _Voice("allison_fast", "F", _ALLISON, 1.15),
        _Voice("carlo_slow", "M", _CARLO, 0.88),
    ),
    Split.VAL: (
        _Voice("june", "F", _JUNE),
        _Voice("ivrru", "F", _IVRRU),
        _Voice("june_slow", "F", _JUNE, 0.85),
        _Voice("ivrru_fast", "F", _IVRRU, 1.15),
    ),
    Split.TEST: (
        _Voice("austen", "?", _AUSTEN),
        _Voice("austen_slow", "?", _AUSTEN, 0.85),
        _Voice("austen_fast", "?", _AUSTEN, 1.15),
    ),
}
_SCENES = {"home": -3.0, "train": -6.0, "park": -1.0, "street_traffic": -4.0}
"""Slope of each scene's spectrum in dB per octave."""
_EVENTS = {"Beep": (1000.0, 0.0), "Knock": (150.0, 40.0), "Whistling": (1800.0, 0.2)}
"""Frequency in Hz and decay per second."""


def make_mini(out: Path, say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Make the sets; one whose place is taken is left out, and said.

    Args:
        out: The folder that receives a folder for each corpus.
        say: Called with a line for every place that is taken.

    Returns:
        The folders that were made.

    Raises:
        OSError: If a file cannot be written.
    """
    made = []
    makers = {
        "speech": _make_speech,
        "noise": _make_noise,
        "rir": _make_rooms,
        "polsess": _make_polsess,
        "wsj0-mix": _make_wsj0_mix,
        "wham": _make_wham,
        "Libri2Mix": _make_libri2mix,
    }
    for name, make in makers.items():
        if (target := out / name).exists():
            say(f"{target}: is there already and stays as it is.")
            continue
        with temporary_folder(out) as folder:
            make(folder / name)
            shutil.copy(MIXTURES / "README.md", folder / name / "ORIGIN.md")
            shutil.copytree(MIXTURES / "licences", folder / name / "licences")
            (folder / name).rename(target)
        made.append(target)
    return made


def _make_speech(folder: Path) -> None:
    """Clips of one speaker each, with ``metadata.csv``."""
    lines = ["path,speaker,sex,split"]
    for split in Split:
        for voice in _VOICES[split]:
            for number, clip in enumerate(_read_clips(voice), start=1):
                path = f"{split}/{voice.name}/{number}.wav"
                _write(folder / path, clip, _RATE)
                lines.append(f"{path},{voice.name},{voice.sex},{split}")
    write_text(folder / "metadata.csv", "\n".join(lines) + "\n")


def _make_noise(folder: Path) -> None:
    """Backgrounds and short sounds, computed."""
    for split in Split:
        random = np.random.default_rng([1, list(Split).index(split)])
        for name, slope in _SCENES.items():
            _write(folder / "scene" / split / name / f"{split}.wav", _noise(random, slope), _RATE)
        for name, (frequency, decay) in _EVENTS.items():
            time = np.arange(5 * _RATE) / _RATE
            tone = np.sin(2 * np.pi * frequency * random.uniform(0.9, 1.1) * time)
            sound = 0.3 * tone * np.exp(-decay * (time % (1 / 3)))
            _write(folder / "clips" / split / name / f"{split}.wav", sound, _RATE)


def _make_rooms(folder: Path) -> None:
    """Impulse responses of noise that decays by 60 dB within 0.2 to 0.5 s, four to a room."""
    time = np.arange(_RATE // 2) / _RATE
    for split in Split:
        random = np.random.default_rng([3, list(Split).index(split)])
        for number in range(2):
            decay = np.log(1000) / random.uniform(0.2, 0.5)
            for place in range(4):
                response = 0.05 * random.standard_normal(len(time)) * np.exp(-decay * time)
                response[0] = 0.5
                _write(folder / split / f"{split}_room{number}" / f"{place}.wav", response, _RATE)


def _make_polsess(folder: Path) -> None:
    """Conversations in layers, by the generator, with scenes and events that are computed."""
    with temporary_folder(folder) as places:
        _make_speech(places / "speech")
        _make_noise(places / "noise")
        config = GenerationConfig(name="mini", seconds=4.0)
        ingredients = collect_ingredients(
            config,
            list(Split),
            speech=places / "speech" / "metadata.csv",
            scenes=places / "noise" / "scene",
            events=places / "noise" / "clips",
        )
        for split, count in _COUNTS.items():
            table = generate_split(folder, split, count, ingredients[split]).table
            write_text(table, table.read_text("utf-8").replace(f"{places}{os.sep}", ""))


def _make_wsj0_mix(folder: Path) -> None:
    splits = {Split.TRAIN: "tr", Split.VAL: "cv", Split.TEST: "tt"}
    for split, name in splits.items():
        for item, voices, _ in _mixtures(split, 8000):
            sounds = {"mix": voices.sum(0), "s1": voices[0], "s2": voices[1]}
            _write_parallel(folder / "2speakers" / "wav8k" / "min" / name, item, sounds, 8000)


def _make_wham(folder: Path) -> None:
    splits = {Split.TRAIN: "tr", Split.VAL: "cv", Split.TEST: "tt"}
    for split, name in splits.items():
        for item, voices, noise in _mixtures(split, 8000):
            _write_parallel(folder / "wav8k" / "min" / name, item, _with_noise(voices, noise), 8000)


def _make_libri2mix(folder: Path) -> None:
    subsets = {Split.TRAIN: "train-100", Split.VAL: "dev", Split.TEST: "test"}
    for split, name in subsets.items():
        for item, voices, noise in _mixtures(split, _RATE):
            _write_parallel(
                folder / f"wav{_RATE // 1000}k" / "min" / name, item, _with_noise(voices, noise), _RATE
            )


def _with_noise(voices: Samples, noise: Samples) -> dict[str, Samples]:
    clean = voices.sum(0)
    return {
        "mix_clean": clean,
        "mix_both": clean + noise,
        "mix_single": voices[0] + noise,
        "s1": voices[0],
        "s2": voices[1],
        "noise": noise,
    }


def _mixtures(split: Split, rate: int) -> Iterator[tuple[str, Samples, Samples]]:
    """Names, voices ``[2, T]`` and noises ``[T]`` of the mixtures of a split."""
    random = np.random.default_rng([2, list(Split).index(split)])
    voices = [(voice, clip) for voice in _VOICES[split] for clip in _read_clips(voice)]
    for index in range(_COUNTS[split]):
        first, second = random.permutation(len(voices))[:2]
        while voices[first][0].name == voices[second][0].name:
            first, second = random.permutation(len(voices))[:2]
        level = random.uniform(-2.5, 2.5)
        chosen = []
        for place, gain_db in ((first, level), (second, -level)):
            clip = np.roll(voices[place][1], random.integers(_SECONDS * _RATE)) * 10 ** (gain_db / 20)
            chosen.append(resample(torch.from_numpy(clip), _RATE, rate).numpy())
        noise = resample(torch.from_numpy(0.1 * _noise(random, -4.0)), _RATE, rate).numpy()
        names = "_".join(voices[place][0].name.replace("_", "-") for place in (first, second))
        yield f"{split}{index:03d}_{names}", np.stack(chosen)[:, : 5 * rate], noise[: 5 * rate]


def _read_clips(voice: _Voice) -> list[Samples]:
    """The clips of a voice at 16 kHz, each repeated to six seconds."""
    clips = []
    for name in voice.clips:
        samples, _ = read_audio(MIXTURES / "16k" / f"{name}.flac")
        played = resample(samples[0], round(_RATE * voice.speed), _RATE).numpy()
        clips.append(np.resize(played * np.float32(0.1 / played.std()), _SECONDS * _RATE))
    return clips


def _noise(random: np.random.Generator, slope: float) -> Samples:
    """Coloured noise."""
    count = _SECONDS * _RATE
    octaves = np.log2(np.maximum(np.fft.rfftfreq(count, 1 / _RATE), 60.0) / 1000.0)
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(count)) * 10 ** (slope * octaves / 20))
    found: Samples = (0.25 * noise / np.abs(noise).max()).astype(np.float32)
    return found


def _write_parallel(folder: Path, item: str, sounds: dict[str, Samples], rate: int) -> None:
    """One file of an item in each of several folders, all made quieter alike if one would clip."""
    gain = min(1.0, 0.9 / max(float(np.abs(samples).max()) for samples in sounds.values()))
    for name, samples in sounds.items():
        _write(folder / name / f"{item}.wav", samples * gain, rate)


def _write(path: Path, samples: NDArray[np.floating], rate: int) -> None:
    """16-bit WAV; not flushed one by one, because the folder appears as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        encode_plain_pcm(np.rint(samples * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16), rate)
    )
