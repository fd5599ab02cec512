"""Separate the mixtures that the package carries, score the result and draw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from polsess.audio import read_audio, write_audio
from polsess.data.mini import MIXTURES
from polsess.inference import Separator
from polsess.losses import permutation_invariant
from polsess.pictures import draw_spectrograms
from polsess.signal_ratios import si_snr


@dataclass(frozen=True)
class DemoItem:
    """The separation of one mixture."""

    name: str
    folder: Path
    """Holds the mixture, the speakers and ``spectrograms.png``."""
    si_snri_db: float
    """Mean SI-SNR improvement of the speakers over the mixture."""
    realtime_factor: float
    """Seconds of computing per second of sound."""


def run_demo(
    folder: Path, separator: Separator, report: Callable[[DemoItem], None] = lambda _: None
) -> list[DemoItem]:
    """Separate every mixture, write sounds and pictures, and score them against the references.

    Args:
        folder: Receives a folder per mixture; files of an earlier demo are replaced.
        separator: The model; one that runs at 16 kHz or more gets the mixtures at 16 kHz.
        report: Called after every mixture.
    """
    items = []
    mixtures = MIXTURES / ("16k" if separator.model.sample_rate >= 16_000 else "8k")
    for source in sorted(path for path in mixtures.iterdir() if path.is_dir()):
        items.append(_separate(source, folder / source.name, separator))
        report(items[-1])
    return items


def _separate(source: Path, folder: Path, separator: Separator) -> DemoItem:
    mixture, rate = read_audio(source / "mix.flac")
    references = torch.cat([read_audio(source / f"s{n}.flac")[0] for n in (1, 2)])
    separation = separator.separate(mixture, rate)
    score, order = permutation_invariant(si_snr, separation.sources[None], references[None])
    speakers = separation.sources[order[0]]
    baseline = si_snr(mixture, references).mean()
    write_audio(folder / "mixture.wav", mixture, rate)
    for number, speaker in enumerate(speakers, start=1):
        write_audio(folder / f"speaker{number}.wav", speaker, rate, clip_mode="clamp")
    signals = {"mixture": mixture[0]}
    for number, (speaker, reference) in enumerate(zip(speakers, references, strict=True), start=1):
        signals[f"speaker {number}, estimated"] = speaker
        signals[f"speaker {number}, reference"] = reference
    improvement = float(score.mean() - baseline)
    title = f"{source.name}: SI-SNR improved by {improvement:.1f} dB"
    draw_spectrograms(signals, rate, folder / "spectrograms.png", title)
    return DemoItem(source.name, folder, improvement, separation.realtime_factor)
