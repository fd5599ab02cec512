"""Make `tests/data/polsess_mini`, a PolSESS corpus of twenty conversations of one second.

    python scripts/make_polsess_mini.py POLISH VOICES [OUT]

POLISH holds `<split>/<voice>/<file>.flac`: sentences spoken by RHVoice with the voices of Debian's
rhvoice-polish; that package's licence text is in `licences` beside POLISH. VOICES holds recorded voices of
Debian packages and their licence texts in `licences`. Scenes and events are computed. The same speech gives
the same samples.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from polsess.audio import write_audio
from polsess.data import Split
from polsess.data.polsess.generation import GenerationConfig, collect_ingredients, generate_split

RATE = 8000
COUNTS = {Split.TRAIN: 10, Split.VAL: 5, Split.TEST: 5}
SEED = 45  # three, two and one of the conversations are indoors
POLISH_VOICES = {Split.TRAIN: ("magda", "natan"), Split.VAL: ("alicja",), Split.TEST: ("michal",)}
RECORDED_VOICES = {
    Split.TRAIN: ("allison_F_en", "carlo_M_it"),
    Split.VAL: ("june_F_fr",),
    Split.TEST: ("ivrru_F_ru", "librivox_austen"),
}
SCENES = {
    "train": (-6.0, 0.4, 2.0),
    "home": (-3.0, 0.2, 0.5),
    "park": (-1.0, 0.8, 3.0),
    "forest_path": (-2.0, 0.6, 0.3),
    "residential_area": (0.0, 0.3, 0.7),
    "beach": (-4.0, 0.9, 0.2),
    "boat": (-5.0, 0.7, 0.4),
    "street_pedestrian": (-3.0, 0.5, 1.0),
    "city_center": (-4.0, 0.3, 1.5),
}
"""Slope of the spectrum in dB per octave, depth (0 to 1) and rate (Hz) of the swell."""
EVENTS = {
    "Beep": ((1000.0,), 0.0),
    "Church bells": ((220.0, 440.0, 528.0, 660.0, 880.0), 2.0),
    "Whistling": ((1800.0, 1812.0), 0.2),
    "Knock": ((120.0, 190.0), 40.0),
    "Typing": ((2100.0, 2750.0), 60.0),
}
"""Partials in Hz and their decay per second; those that decay fast come again three times a second."""


def main(polish: Path, voices: Path, out: Path) -> None:
    """Compute scenes and events, generate the splits and copy the licence texts."""
    for name in (*COUNTS, "licences"):
        shutil.rmtree(out / name, ignore_errors=True)
    out = out.resolve()
    polish, voices = polish.resolve(), voices.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the corpus names its sources without this machine's folders
        collect_speech(polish, voices)
        for split in COUNTS:
            compute_scenes(split)
            compute_events(split)
        config = GenerationConfig(name="mini", seed=SEED, seconds=1.0)
        speech, scenes, events = Path("speech"), Path("scenes"), Path("events")
        ingredients = collect_ingredients(config, list(COUNTS), speech=speech, scenes=scenes, events=events)
        for split, count in COUNTS.items():
            generate_split(out, split, count, ingredients[split])
    (out / "licences").mkdir()
    for name in ("asterisk-core-sounds", "pocketsphinx-testdata"):
        shutil.copy(voices / "licences" / f"{name}_copyright.txt", out / "licences")
    shutil.copy(polish.parent / "licences" / "rhvoice-polish-1.14.0_copyright.txt", out / "licences")


def collect_speech(polish: Path, voices: Path) -> None:
    """Copy the clips to `speech/<split>/<voice>`."""
    for split in COUNTS:
        clips = [(name, polish / split / name, "*.flac") for name in POLISH_VOICES[split]]
        clips += [(name, voices, f"{name}_*.flac") for name in RECORDED_VOICES[split]]
        for name, folder, pattern in clips:
            target = Path("speech") / split / name
            target.mkdir(parents=True)
            for path in sorted(folder.glob(pattern)):
                shutil.copy(path, target)


def compute_scenes(split: Split) -> None:
    """Coloured noise that swells, 6 s of each class."""
    for number, (name, (slope, depth, rate)) in enumerate(SCENES.items()):
        random = np.random.default_rng([list(COUNTS).index(split), number])
        spectrum = np.fft.rfft(random.standard_normal(6 * RATE))
        octaves = np.log2(np.maximum(np.fft.rfftfreq(6 * RATE, 1 / RATE), 60.0) / 1000.0)
        noise = np.fft.irfft(spectrum * 10 ** (slope * octaves / 20))
        swell = 1 + depth * np.sin(2 * np.pi * (rate * seconds(6) + random.random()))
        store(Path("scenes") / split / name / f"{split}.flac", noise * swell, 0.25)


def compute_events(split: Split) -> None:
    """Sums of decaying partials, 2.5 s of each class; every split has a pitch of its own."""
    pitch = 1.0 + 0.1 * list(COUNTS).index(split)
    for name, (partials, decay) in EVENTS.items():
        time = seconds(2.5) % (1 / 3) if decay > 10 else seconds(2.5)
        tones = sum(np.sin(2 * np.pi * pitch * partial * time) for partial in partials)
        store(Path("events") / split / name / f"{split}.flac", tones * np.exp(-decay * time), 0.3)


def seconds(duration: float) -> np.ndarray:
    """The time of every sample."""
    return np.arange(round(duration * RATE)) / RATE


def store(path: Path, samples: np.ndarray, peak: float) -> None:
    """Write a sound with a peak."""
    write_audio(path, torch.from_numpy(samples * (peak / np.abs(samples).max())).float(), RATE)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    default = Path(__file__).parents[1] / "tests/data/polsess_mini"
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) == 4 else default)
