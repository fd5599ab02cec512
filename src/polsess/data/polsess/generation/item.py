"""One conversation: drawing its sources, setting levels, adding rooms and storing layers.

Shapes: T samples.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples, read_audio, resample, to_mono
from polsess.data.plate import Plate, create_reverb
from polsess.data.polsess.generation.conversation import Talk, talk
from polsess.data.polsess.generation.scenes import ReverbRanges
from polsess.data.polsess.generation.settings import Ingredients
from polsess.data.polsess.layers import speaker_files, speaker_reverbs
from polsess.data.sources import SourceFile
from polsess.data.transcripts import Transcript
from polsess.timelines import Timeline

Cells = dict[str, str | float | int]
Random = np.random.Generator
Choice = TypeVar("Choice")

_LIMIT = 0.999
_CLIPPED = 0.9999
_LOUDEST = 0.95
"""Peak of conversations."""
_SPEECH_FLOOR_DB, _NOISE_FLOOR_DB = -50.0, -75.0
"""Levels below which a crop counts as silent."""
_EDGE_SECONDS = 0.005
_ALPHABET = np.array(list(string.ascii_lowercase + string.digits))
_MAX_DRAWS = 1000


class Redraw(Exception):
    """A draw is not usable; the message is the reason."""


@dataclass(frozen=True)
class Item:
    """A finished conversation."""

    layers: dict[str, NDArray[np.int16]]
    """Samples ``[T]`` by column of the CSV, the mixture too."""
    cells: Cells
    """Row of the CSV."""
    timeline: Timeline | None
    """Who talks when; None where all talk throughout."""
    transcript: Transcript | None
    """What is said, where that is known."""
    redrawn: tuple[str, ...]
    """Reasons why earlier draws were dropped."""


class Mixer:
    """Makes the items of a split, each from its own random numbers."""

    def __init__(self, ingredients: Ingredients) -> None:
        self.parts, self.config = ingredients, ingredients.config
        classes = sorted({one.label for one in ingredients.scenes})
        self._files_of: dict[str, list[SourceFile]] = {}
        for one in ingredients.speech:
            self._files_of.setdefault(one.label, []).append(one)
        self._events: Mapping[str, dict[str, list[SourceFile]]] = {
            name: ingredients.events_in(name) for name in classes
        }

    def make(self, random: Random) -> Item:
        """Draw until a conversation is usable.

        Raises:
            ValueError: If none of a thousand draws is usable.
        """
        reasons: list[str] = []
        while len(reasons) < _MAX_DRAWS:
            try:
                return replace(self._draw(random), redrawn=tuple(reasons))
            except Redraw as reason:
                reasons.append(str(reason))
        often = max(set(reasons), key=reasons.count)
        raise ValueError(f"generation: {_MAX_DRAWS} draws were dropped, mostly because of: {often}.")

    def _draw(self, random: Random) -> Item:
        speakers = self._draw_speakers(random)
        scene = _pick(random, self.parts.scenes)
        events = self._events[scene.label]
        if not events:
            raise Redraw(f"no event may happen in {scene.label}")
        label = _pick(random, list(events))
        event = _pick(random, events[label])
        cells: Cells = {}
        if self.config.conversations is None:
            timeline = transcript = None
            named = enumerate(speakers, start=1)
            voices = [self._crop(random, speaker, f"speech{n}", cells) for n, speaker in named]
            voices = self._take_turns(voices)
            active = np.ones((len(voices), self.config.num_samples), np.bool_)
        else:
            spoken = self._converse(random, speakers, cells)
            voices, active = spoken.voices, spoken.active
            timeline, transcript = spoken.timeline, spoken.transcript
        background = {
            name: self._crop(random, source, name, cells)
            for name, source in (("scene", scene), ("event", event))
        }
        layers = self._level(random, voices, active, background, cells)
        room = self.parts.table.find(scene.label).reverb
        if room is not None:
            layers |= self._reverberate(random, layers, room, cells)
        cells |= {"sceneClass": scene.label, "eventClass": label}
        cells |= _names(random, len(speakers), indoor=room is not None)
        return Item(self._store(layers, cells), cells, timeline, transcript, redrawn=())

    def _converse(self, random: Random, speakers: Sequence[SourceFile], cells: Cells) -> Talk:
        """People who take turns, and the cells on what each says first."""
        assert self.config.conversations is not None
        files = [self._files_of[speaker.label] for speaker in speakers]
        rate, num_samples = self.config.sample_rate, self.config.num_samples
        spoken = talk(random, files, self.config.conversations, rate, num_samples)
        if not spoken.timeline:
            raise Redraw("a conversation without speech")
        for number, (source, start, end) in enumerate(spoken.first, start=1):
            cells |= {
                f"speech{number}OryginalPath": str(source.path),
                f"speech{number}Start": start + 1 if end else 0,
                f"speech{number}End": end,
            }
        return spoken

    def _draw_speakers(self, random: Random) -> list[SourceFile]:
        drawn = [_pick(random, self.parts.speech) for _ in range(self.config.speakers)]
        if len({one.path for one in drawn}) < len(drawn):
            raise Redraw("one file for two speakers")
        if len({one.label for one in drawn}) < len(drawn) and not self.config.matlab:
            raise Redraw("one speaker twice")
        return drawn

    def _crop(self, random: Random, source: SourceFile, name: str, cells: Cells) -> Samples:
        """A window at a random place, mono, at the corpus's rate, limited.

        In conversations shorter events are at a random place, with silence around.
        """
        length = round(self.config.seconds * source.sample_rate)
        if self.config.conversations is not None:
            length = min(length, source.num_samples)
        start = int(random.integers(max(1, source.num_samples - length)))
        samples, rate = read_audio(source.path, start, length)
        mono = to_mono(samples, source.path)
        sound = resample(mono, rate, self.config.sample_rate).numpy()[: self.config.num_samples]
        cells |= {
            f"{name}OryginalPath": str(source.path),
            f"{name}Start": start + 1,
            f"{name}End": start + length,
        }
        floor = _SPEECH_FLOOR_DB if name.startswith("speech") else _NOISE_FLOOR_DB
        if (missing := self.config.num_samples - len(sound)) > 0:
            before = int(random.integers(missing + 1))
            sound = np.pad(sound, (before, missing - before))
        if not sound.any() or (not self.config.matlab and _rms(sound) < 10 ** (floor / 20)):
            raise Redraw(f"a silent crop of {name.rstrip('123')}")
        return np.clip(sound, -_LIMIT, _LIMIT)

    def _level(
        self,
        random: Random,
        voices: list[Samples],
        active: NDArray[np.bool_],
        background: Mapping[str, Samples],
        cells: Cells,
    ) -> dict[str, Samples]:
        """Dry layers: speaker 1 and the event unchanged, the others and the scene at drawn levels.

        Levels of voices are those of the time in which they talk, ``active`` ``[S, T]``.
        """
        low, high = self.config.ssr_range_db
        levels = [int(random.integers(low, high + 1)) for _ in range(self.config.speakers - 1)]
        talking = active.sum(1)
        if any(count and not voice.any() for count, voice in zip(talking, voices, strict=True)):
            raise Redraw("a silent crop of speech")
        base = int(np.flatnonzero(talking)[0])  # speaker 1, unless silent
        scaled = list(voices)
        for n, ssr in enumerate(levels, start=1):
            if talking[n] and n > base:
                ratio = np.linalg.norm(voices[base]) / (10 ** (ssr / 20) * np.linalg.norm(voices[n]))
                scaled[n] = voices[n] * (ratio * np.float32(math.sqrt(talking[n] / talking[base])))
        first, *others = scaled
        speech = self._limit(sum(others, first))  # of what is not limited yet, as in the original
        scaled = [first, *(self._limit(voice) for voice in others)]
        low_db, high_db = self.config.scene_range_db
        above = (high_db - low_db) * random.random()
        gain = _rms(speech[active.any(0)]) * 10 ** ((low_db + above) / 20) / _rms(background["scene"])
        scene = background["scene"] * gain
        if np.abs(scene).max() >= _CLIPPED and not self.config.matlab and self.config.conversations is None:
            raise Redraw("a scene that would be clipped")
        cells |= {"SSR" if n == 2 else f"SSR{n}": ssr for n, ssr in enumerate(levels, start=2)}
        cells |= {"sceneRandomDB": above, "sceneOffsetDB": low_db + above, "sceneVolumeGain": gain}
        dry = dict(zip(speaker_files(len(scaled)), scaled, strict=True))
        return {**dry, "sceneFile": scene, "eventFile": background["event"], "speech": speech}

    def _limit(self, samples: Samples) -> Samples:
        if self.config.conversations is not None:  # made quieter as a whole where it is stored
            return samples
        if np.abs(samples).max() > _LIMIT and not self.config.matlab:
            raise Redraw("speech that would be clipped")
        return np.clip(samples, -_LIMIT, _LIMIT)

    def _take_turns(self, voices: list[Samples]) -> list[Samples]:
        """Window the voices so that they follow each other with the configured overlap."""
        if self.config.overlap == 1.0:
            return voices
        total, count = len(voices[0]), len(voices)
        active = round((1.0 + (count - 1) * self.config.overlap) / count * total)
        edge = max(1, round(_EDGE_SECONDS * self.config.sample_rate))
        turns = []
        for n, voice in enumerate(voices):
            start = round(n * (total - active) / (count - 1))
            window = np.zeros(total, np.float32)
            window[start : start + active] = 1.0
            if n > 0:
                window[start : start + edge] = np.linspace(0.0, 1.0, edge)
            if n < count - 1:
                window[start + active - edge : start + active] = np.linspace(1.0, 0.0, edge)
            turns.append(voice * window)
        return turns

    def _reverberate(
        self, random: Random, layers: Mapping[str, Samples], ranges: ReverbRanges, cells: Cells
    ) -> dict[str, Samples]:
        count = self.config.speakers
        dry = [layers[name] for name in (*speaker_files(count), "eventFile")]
        if self.parts.rooms is not None:
            wet = self.parts.rooms.reverberate(random, dry, self.config.sample_rate)
        else:
            wet = self._plate(random, dry, ranges, cells)
        names = (*speaker_reverbs(count), "reverbForEvent")
        limit = _LIMIT if self.config.conversations is None else np.inf
        return {name: np.clip(each, -limit, limit) for name, each in zip(names, wet, strict=True)}

    def _plate(self, random: Random, dry: list[Samples], ranges: ReverbRanges, cells: Cells) -> list[Samples]:
        """Draw a plate: speakers at similar distances, the event at any."""
        low, high = ranges.pre_delay
        shift = random.random() * (high - low)
        first = low + shift
        others = [first - shift * 0.3 * random.random() for _ in dry[2:]]
        plate = Plate(
            high_cut_hz=random.uniform(*ranges.high_cut_hz),
            diffusion=random.uniform(*ranges.diffusion),
            decay=random.uniform(*ranges.decay),
            damping=random.uniform(*ranges.damping),
        )
        delays = [first, *others, random.uniform(low, high)]
        reverb = create_reverb(plate, self.config.sample_rate, self.config.num_samples)
        cells |= {f"preDelay{n}": delay for n, delay in enumerate(delays[:-1], start=1)}
        cells["preDelayForEvent"] = delays[-1]
        cells |= {"highCut": plate.high_cut_hz, "diffusion": plate.diffusion, "decay": plate.decay}
        cells["freqDamp"] = plate.damping
        rate = self.config.sample_rate
        return [reverb.apply(each, round(delay * rate)) for each, delay in zip(dry, delays, strict=True)]

    def _store(self, layers: dict[str, Samples], cells: Cells) -> dict[str, NDArray[np.int16]]:
        """Round all layers to 16 bits; unlike the original's, the mixture is the sum of these.

        Conversations that would be clipped are made quieter, all layers by one factor: in a minute something
        is loud at some time, and drawing again would leave nothing but quiet ones.
        """
        if self.config.conversations is not None:
            total = sum(layers.values(), -layers["speech"])
            peak = max(float(np.abs(each).max()) for each in (total, *layers.values()))
            factor = min(1.0, _LOUDEST / peak)
            layers = {name: samples * factor for name, samples in layers.items()}
            cells["sceneVolumeGain"] = float(cells["sceneVolumeGain"]) * factor
        speech = layers.pop("speech")
        stored = {name: _quantize(samples) for name, samples in layers.items()}
        others = [samples for name, samples in layers.items() if not name.startswith("speaker")]
        mixture = speech + sum(others, np.zeros_like(speech))
        if np.abs(mixture).max() >= _CLIPPED:
            raise Redraw("a mixture that would be clipped")
        if self.config.matlab:
            return {**stored, "mixFile": _quantize(mixture)}
        total = np.sum([samples.astype(np.int32) for samples in stored.values()], axis=0)
        return {**stored, "mixFile": np.clip(total, -(2**15), 2**15 - 1).astype(np.int16)}


def _pick(random: Random, choices: Sequence[Choice]) -> Choice:
    return choices[int(random.integers(len(choices)))]


def _rms(samples: Samples) -> float:
    return math.sqrt(float(np.mean(np.square(samples, dtype=np.float64))))


def _quantize(samples: Samples) -> NDArray[np.int16]:
    return np.rint(samples * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16)


def _names(random: Random, speakers: int, *, indoor: bool) -> Cells:
    """Random file names of an item."""
    names = ["".join(random.choice(_ALPHABET, 16)) for _ in range(speakers + 3)]
    *voices, scene, event, room = names
    cells: Cells = {
        column: f"{voice}.wav" for column, voice in zip(speaker_files(speakers), voices, strict=True)
    }
    cells |= {"sceneFile": f"{scene}.wav", "eventFile": f"{event}.wav"}
    if not indoor:
        return cells | {"mixFile": f"{'-'.join(names[:-1])}.wav"}
    cells |= {column: f"sp{n}_{room}.wav" for n, column in enumerate(speaker_reverbs(speakers), start=1)}
    return cells | {"reverbForEvent": f"ev_{room}.wav", "mixFile": f"{'-'.join(names)}.wav"}
