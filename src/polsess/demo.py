"""Separate the mixtures that the package carries and a conversation, score and show the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polsess.audio import read_audio, write_audio
from polsess.config_error import ConfigError
from polsess.data.mini import MIXTURES
from polsess.files import write_text
from polsess.inference import Separation, Separator
from polsess.losses import permutation_invariant
from polsess.pictures import draw_spectrograms, draw_timeline
from polsess.signal_ratios import si_snr
from polsess.text_tables import counted

_CONVERSATION = (
    (0, "different_sex/s1", 0.3, 0.0),
    (1, "different_sex/s2", 0.4, 0.0),
    (0, "noise/s1", -1.0, 0.0),
    (1, "different_sex/s2", 0.5, 2.0),
    (0, "different_sex/s1", -1.0, 2.0),
)
"""Turns: the speaker, the clip, the pause before it in seconds (an overlap below zero), and where in the clip
it begins."""
PAGE = "index.html"


@dataclass(frozen=True)
class DemoItem:
    """The separation of one mixture."""

    name: str
    folder: Path
    """Holds the mixture, the speakers and the pictures."""
    pictures: tuple[str, ...]
    """Names of the pictures: ``spectrograms.png``, of a conversation also ``timeline.png``."""
    si_snri_db: float
    """Mean SI-SNR improvement of the speakers over the mixture."""
    realtime_factor: float
    """Seconds of computing per second of sound."""


def run_demo(
    folder: Path, separator: Separator, report: Callable[[DemoItem], None] = lambda _: None
) -> list[DemoItem]:
    """Separate every mixture and a conversation, write sounds, pictures and a page, and score them.

    Args:
        folder: Receives a folder per mixture and ``index.html``; files of an earlier demo are replaced.
        separator: A model of two speakers, with ``num_speakers=2``; one that runs at 16 kHz or more gets the
            mixtures at 16 kHz.
        report: Called after every mixture.

    Raises:
        ConfigError: If the model does not separate two speakers.
    """
    if separator.model.output_sources != 2:
        raise ConfigError(
            f"the demo has two speakers; the model has {counted(separator.model.output_sources, 'output')}."
        )
    items = []
    mixtures = MIXTURES / ("16k" if separator.model.sample_rate >= 16_000 else "8k")
    for source in sorted(path for path in mixtures.iterdir() if path.is_dir()):
        mixture, rate = read_audio(source / "mix.flac")
        references = torch.cat([read_audio(source / f"s{n}.flac")[0] for n in (1, 2)])
        separation = separator.separate(mixture, rate)
        items.append(_item(source.name, folder, mixture[0], references, separation))
        report(items[-1])
    references, rate = _converse(mixtures)
    mixture = references.sum(0)
    with_two = separator.separate(mixture[None], rate)
    items.append(_item("conversation", folder, mixture, references, with_two))
    report(items[-1])
    write_text(folder / PAGE, _page(items))
    return items


def _converse(mixtures: Path) -> tuple[Tensor, int]:
    """What two voices say in turns, with pauses and overlaps, ``[2, T]``, and the sample rate in Hz."""
    turns, end = [], 0
    for speaker, name, pause, begin in _CONVERSATION:
        samples, rate = read_audio(mixtures / f"{name}.flac")
        clip = samples[0].roll(-round(begin * rate)) * (0.08 / samples.std())
        start = end + round(pause * rate)
        end = start + len(clip)
        turns.append((speaker, start, clip))
    voices = torch.zeros(2, end)
    for speaker, start, clip in turns:
        voices[speaker, start : start + len(clip)] += clip
    return voices, rate


def _item(
    name: str, out: Path, mixture: Tensor, references: Tensor, separation: Separation[Tensor]
) -> DemoItem:
    """Score one separation and write what is to be heard and seen of it."""
    folder, rate = out / name, separation.sample_rate
    score, order = permutation_invariant(si_snr, separation.sources[None], references[None])
    improvement = float(score.mean() - si_snr(mixture[None], references).mean())
    speakers = separation.sources[order[0]]
    write_audio(folder / "mixture.wav", mixture[None], rate)
    for number, speaker in enumerate(speakers, start=1):
        write_audio(folder / f"speaker{number}.wav", speaker, rate, clip_mode="clamp")
    signals = {"mixture": mixture}
    for number, (speaker, reference) in enumerate(zip(speakers, references, strict=True), start=1):
        signals[f"speaker {number}, estimated"] = speaker
        signals[f"speaker {number}, reference"] = reference
    title = f"{name}: SI-SNR improved by {improvement:.1f} dB"
    draw_spectrograms(signals, rate, folder / "spectrograms.png", title)
    pictures = ["spectrograms.png"]
    if name == "conversation" and separation.timeline is not None:
        names = [separation.names[index] for index in order[0]]
        renamed = {old: f"speaker{number}" for number, old in enumerate(names, start=1)}
        turns = tuple(replace(turn, speaker=renamed[turn.speaker]) for turn in separation.timeline.turns)
        sound = [np.asarray(mixture, np.float32)]
        draw_timeline(sound, rate, len(mixture), turns, list(renamed.values()), folder / "timeline.png")
        pictures.insert(0, "timeline.png")
    return DemoItem(name, folder, tuple(pictures), improvement, separation.realtime_factor)


def _page(items: Iterable[DemoItem]) -> str:
    """Players and pictures of all items, which lie in folders beside the page."""
    sections = []
    for item in items:
        players = "".join(
            f"<figure><figcaption>{sound}</figcaption>"
            f'<audio controls preload="none" src="{item.name}/{sound}.wav"></audio></figure>'
            for sound in ("mixture", "speaker1", "speaker2")
        )
        pictures = "".join(f'<img src="{item.name}/{name}" alt="{name}">' for name in item.pictures)
        title = f"{item.name.replace('_', ' ')}: SI-SNR improved by {item.si_snri_db:.1f} dB"
        sections.append(f"<h2>{escape(title)}</h2>\n<div>{players}</div>\n{pictures}\n")
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>polsess demo</title>\n'
        "<style>body{font-family:sans-serif;max-width:62rem;margin:1rem auto;padding:0 1rem}"
        "div{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}img{max-width:100%;display:block;"
        "margin:1rem 0}</style>\n<h1>polsess demo</h1>\n" + "".join(sections) + "</html>\n"
    )
