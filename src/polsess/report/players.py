"""Players of single utterances: the mixture, the references and every system's estimates in step.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polsess.audio import Samples, write_audio
from polsess.evaluation.results import Row
from polsess.evaluation.storage import UtteranceSounds
from polsess.metrics import title_of
from polsess.report.markup import Markup, element
from polsess.report.runs import Group
from polsess.report.spectra import level_range, spectrogram_uri
from polsess.report.turns import Conversation, show_turns
from polsess.text_tables import condition, counted, number

_PEAK = 0.9
_USUAL_SECONDS, _CONVERSATION_SECONDS = 12.0, 60.0


@dataclass(frozen=True)
class Choice:
    """An utterance for a player, and the reason for its choice."""

    identifier: str
    kind: str
    """``worst``, ``median`` or ``best``."""
    score: float


@dataclass(frozen=True)
class Track:
    """One signal of a player."""

    label: str
    detail: str
    """Its score, in words."""
    signal: Samples
    """``[T]`` at the level at which it is played."""


def choose(ranked: list[tuple[str, float]], count: int) -> list[Choice]:
    """The worst utterances, those around the median, and the best, none of them twice."""
    size = len(ranked)
    ends, middle = min(count, max(1, (size + 1) // 3)), max(0, (size - count + 1) // 2)
    places = {
        "worst": range(ends),
        "best": range(size - ends, size),
        "median": range(middle, middle + count),
    }
    chosen: dict[int, str] = {}
    for kind, indices in places.items():
        for index in indices:
            if 0 <= index < size:
                chosen.setdefault(index, kind)
    return [Choice(ranked[index][0], kind, ranked[index][1]) for index, kind in sorted(chosen.items())]


def players(
    group: Group,
    choices: list[Choice],
    column: str,
    seconds: float | None,
    max_bytes: int,
    progress: Callable[[str], None],
) -> tuple[list[Markup], list[str]]:
    """A player for every utterance, as many as fit, and a message about each missing one.

    Args:
        group: The systems.
        choices: The utterances.
        column: Score to show beside the estimates.
        seconds: Length that is kept of an utterance, from its start; None for 12 s, and 60 s where the
            evaluation knows who talks when.
        max_bytes: Largest size of all players together.
        progress: Called with the name of each utterance before it is read.
    """
    found: list[Markup] = []
    problems: list[str] = []
    size = 0
    for place, choice in enumerate(choices):
        progress(choice.identifier)
        try:
            heard = [run.opened.sounds(choice.identifier) for run in group.runs]
        except (ValueError, OSError, RuntimeError) as error:
            problems.append(f"{choice.identifier}: cannot be played ({' '.join(str(error).split())})")
            continue
        made = _player(
            choice, group.names, heard, column, seconds, f"{group.runs[0].evaluation.list_hash}-{place}"
        )
        size += len(made)
        if size > max_bytes and found:
            left = len(choices) - place
            problems.append(
                f"{counted(left, 'more utterance')} left out: the page would be larger than asked for."
            )
            break
        found.append(made)
    return found, problems


def _player(
    choice: Choice,
    names: list[str],
    heard: list[UtteranceSounds],
    column: str,
    seconds: float | None,
    name: str,
) -> Markup:
    rate = heard[0].sample_rate
    known = [_conversation(each.row) for each in heard]
    shown = seconds or (_CONVERSATION_SECONDS if any(known) else _USUAL_SECONDS)
    kept = min(round(shown * rate), len(heard[0].mixture))
    tracks = list(_tracks(names, heard, column, kept))
    levels = level_range(np.stack([track.signal for track in tracks]), rate)
    rows = [_track_row(index, track, rate, levels) for index, track in enumerate(tracks)]
    sounds = json.dumps([_encode(track.signal, rate) for track in tracks])
    turns = [show_turns(system, each, kept / rate) for system, each in zip(names, known, strict=True) if each]
    errors = _apart(sorted(start for _, starts in turns for start in starts))
    whole = heard[0].row.seconds
    cut = f", the first {kept / rate:.1f} s of {whole:.1f} s" if kept < len(heard[0].mixture) else ""
    conditions = ", ".join(f"{key} {condition(value)}" for key, value in heard[0].row.metadata.items())
    head = element("h4", element("span", choice.kind, class_=f"kind {choice.kind}"), " ", choice.identifier)
    about = (
        f"{title_of(column)} {number(choice.score)}{' (mean of the systems)' if len(names) > 1 else ''}{cut}"
    )
    return element(
        "article",
        head,
        element("p", about + (f"; {conditions}" if conditions else ""), class_="note"),
        _transport(kept / rate, errors),
        *(figure for figure, _ in turns),
        element("div", *rows, class_="tracks"),
        element("script", Markup(sounds), type="application/json", class_="sounds"),
        class_="player",
        id=name,
        data_seconds=kept / rate,
        data_errors=json.dumps(errors) if errors else None,
        aria_label=f"Player of {choice.identifier}",
    )


def _apart(times: Sequence[float]) -> list[float]:
    """Times to jump to, a second and more apart, in seconds."""
    kept: list[float] = []
    for time in times:
        if not kept or time >= kept[-1] + 1:
            kept.append(round(time, 2))
    return kept


def _conversation(row: Row) -> Conversation | None:
    """Who talks when, where the evaluation knows it."""
    known = row.timelines
    return Conversation(known.speakers, known.tracks, known.truth, known.found) if known else None


def _transport(seconds: float, errors: Sequence[float]) -> Markup:
    steps = [
        element("button", f"{name} error", type="button", class_="step", value=value)
        for name, value in (("Previous", -1), ("Next", 1))
    ]
    return element(
        "div",
        element("button", "Play", type="button", class_="play"),
        element(
            "input",
            type="range",
            class_="seek",
            min=0,
            max=seconds,
            step=0.01,
            value=0,
            aria_label="Position in seconds",
        ),
        element("output", f"0.0 / {seconds:.1f} s", class_="time"),
        element("label", element("input", type="checkbox", class_="repeat"), " repeat"),
        *(steps if errors else ()),
        class_="transport",
    )


def _track_row(index: int, track: Track, rate: int, levels: tuple[float, float]) -> Markup:
    key = str(index + 1) if index < 9 else ""
    button = element(
        "button",
        element("kbd", key) if key else "",
        element("span", track.label, element("small", track.detail) if track.detail else ""),
        type="button",
        class_="pick",
        aria_pressed="true" if index == 0 else "false",
    )
    picture = element(
        "img", src=spectrogram_uri(track.signal, rate, levels), alt=f"Spectrogram: {track.label}"
    )
    head = element("span", class_="head", aria_hidden="true")
    return element("div", button, element("div", picture, head, class_="picture"), class_="track")


def _tracks(names: list[str], heard: list[UtteranceSounds], column: str, kept: int) -> Iterator[Track]:
    """The mixture, then by source the reference and the estimates at its level; one gain for all."""
    first = heard[0]
    signals: list[tuple[str, str, Samples]] = [("mixture", "", first.mixture)]
    count = len(first.references)
    known = first.row.timelines
    speakers = tuple(f"speaker {source + 1}" for source in range(count))
    if known is not None and len(known.speakers) == count:
        speakers = known.speakers
    for source, reference in enumerate(first.references):
        who = f"{speakers[source]}: " if count > 1 else ""
        signals.append((f"{who}reference", "", reference))
        for name, each in zip(names, heard, strict=True):
            score = each.row.scores.values.get(column, ())
            value = score[min(source, len(score) - 1)] if score else None  # some are one for the recording
            detail = f"{title_of(column)} {number(value)}" if value is not None else ""
            signals.append((f"{who}{name}", detail, _at_level_of(each.estimates[source], reference)))
    cut = [np.nan_to_num(signal[:kept], posinf=0, neginf=0) for *_, signal in signals]
    gain = _PEAK / max(1e-9, *(float(np.abs(signal).max()) for signal in cut))
    for (label, detail, _), signal in zip(signals, cut, strict=True):
        yield Track(label, detail, (signal * gain).astype(np.float32))


def _at_level_of(estimate: Samples, reference: Samples) -> Samples:
    """The estimate at the level of its reference, since scale-invariant losses leave the level to chance."""
    energy = float(np.mean(np.square(estimate, dtype=np.float64)))
    wanted = float(np.mean(np.square(reference, dtype=np.float64)))
    usable = np.isfinite(energy) and energy > 0
    return (estimate * np.sqrt(wanted / energy)).astype(np.float32) if usable else np.zeros_like(reference)


def _encode(signal: Samples, rate: int) -> str:
    """FLAC of 16 bits in base64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "track.flac"
        write_audio(path, torch.from_numpy(signal), rate)
        return base64.b64encode(path.read_bytes()).decode()
