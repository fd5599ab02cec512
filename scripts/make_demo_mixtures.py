"""Make the mixtures of `polsess demo` from recorded voices of Debian packages.

    python scripts/make_demo_mixtures.py VOICES [OUT]

VOICES holds one FLAC file per clip, `metadata.csv` (path, licence, package, file) and the packages' licence
texts in `licences/`. OUT, `src/polsess/assets/mixtures` by default, receives `8k` and `16k` with a folder per
mixture (`mix.flac`, `s1.flac`, `s2.flac`), a README with the origin of every clip, and the licence texts.
The same voices give the same samples.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from polsess.audio import read_audio, resample, write_audio

MIXTURES = {
    "different_sex": ("allison_F_en_0.flac", "carlo_M_it_0.flac", None),
    "same_sex": ("june_F_fr_0.flac", "ivrru_F_ru_0.flac", None),
    "noise": ("allison_F_en_1.flac", "librivox_austen_0870.flac", 10.0),
}
"""Two clips each, and the level of the voices over pink noise in dB."""
RATES = {"8k": 8000, "16k": 16000}
PEAK = 0.7
SECONDS = 4.0
LICENCES = ("asterisk-core-sounds_copyright.txt", "pocketsphinx-testdata_copyright.txt")
README = """# Mixtures of the demo

Made by `scripts/make_demo_mixtures.py` from recorded voices of Debian packages: two voices of equal level,
4 s long. `noise` also holds pink noise computed by the script, 10 dB below the voices. `8k` and `16k` hold
the same mixtures at 8 and 16 kHz; the clips have 8 kHz, so nothing is above 4 kHz.

| mixture | clip | package and file | licence | voice |
|---|---|---|---|---|
{rows}
Changed: cut, levelled, resampled, mixed. Every mixture holds a work under CC BY-SA 3.0 and is itself
under [CC BY-SA 3.0](https://creativecommons.org/licenses/by-sa/3.0/). The packages' full
statements are in `licences/`.
"""
VOICES = {
    "allison": "Allison Smith",
    "carlo": "Carlo Flora, http://www.carloflora.com",
    "june": "June Wallack, http://www.junewallack.com",
    "ivrru": "provided by Maxim Topal, http://www.ivrvoice.ru",
    "librivox": "LibriVox (public domain), package by Carnegie Mellon University and Alpha Cephei Inc.",
}


def main(voices: Path, out: Path) -> None:
    """Write all mixtures, the README and the licence texts."""
    rows = []
    for rate_name, rate in RATES.items():
        for name, (first, second, snr_db) in MIXTURES.items():
            sources = mix([read(voices / clip) for clip in (first, second)], snr_db)
            write(out / rate_name / name, sources, rate)
    known = {row["path"]: row for row in csv.DictReader((voices / "metadata.csv").read_text().splitlines())}
    for name, clips in MIXTURES.items():
        for number, clip in enumerate(clips[:2], start=1):
            row = known[str(clip)]
            voice = VOICES[str(clip).split("_")[0]]
            rows.append(
                f"| {name} | s{number} | {row['package']}, `{row['file']}` | {row['licence']} | {voice} |\n"
            )
    (out / "README.md").write_text(README.format(rows="".join(rows)), encoding="utf-8")
    (out / "licences").mkdir(exist_ok=True)
    for text in LICENCES:
        shutil.copyfile(voices / "licences" / text, out / "licences" / text)


def read(path: Path) -> np.ndarray:
    """A clip at 8 kHz, ``[T]``."""
    samples, rate = read_audio(path)
    return resample(samples[0], rate, RATES["8k"]).double().numpy()


def mix(voices: list[np.ndarray], snr_db: float | None) -> np.ndarray:
    """Both voices at one level and perhaps noise, scaled together so that their sum peaks at ``PEAK``."""
    length = round(SECONDS * RATES["8k"])
    signals = [voice[:length] / rms(voice[:length]) for voice in voices]
    if snr_db is not None:
        noise = pink_noise(length)
        signals.append(noise / rms(noise) * rms(np.sum(signals, axis=0)) * 10 ** (-snr_db / 20))
    stacked = np.stack(signals)
    return stacked * (PEAK / np.abs(stacked.sum(0)).max())


def pink_noise(length: int) -> np.ndarray:
    """Noise with a power of 1 / frequency, ``[length]``."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(length))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20))
    return np.fft.irfft(spectrum, length)


def write(folder: Path, signals: np.ndarray, rate: int) -> None:
    """Store a mixture that is exactly the sum of its 16-bit signals."""
    resampled = resample(torch.from_numpy(signals).float(), RATES["8k"], rate)
    steps = (resampled * 2**15).round()
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in (("mix", steps.sum(0)), ("s1", steps[0]), ("s2", steps[1])):
        write_audio(folder / f"{name}.flac", samples / 2**15, rate)


def rms(samples: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(samples**2)))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    default = Path(__file__).parents[1] / "src/polsess/assets/mixtures"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else default)
