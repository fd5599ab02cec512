"""Extraction: of the tracks of a recording, those of voices that are known from enrolments.

Shapes: S tracks, K channels, T samples, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from polsess.audio import Samples, resample
from polsess.diarization import Span, SpeakerTimeline
from polsess.diarization.clustering import Embeddings
from polsess.diarization.known_voices import KnownVoices
from polsess.inference.enrolment import (
    SAME_VOICE,
    EnrolmentError,
    Match,
    Voice,
    embed_speech,
    enrol,
    match_voices,
)
from polsess.inference.hearing import Hearing
from polsess.inference.passes import Asking, Passes
from polsess.inference.recordings import Audio, Recording
from polsess.inference.rendering import Rendering
from polsess.inference.separator import EMBEDDER, Separator
from polsess.inference.stitching import Spools
from polsess.models import SeparationModel
from polsess.pace import Progress
from polsess.text_tables import counted
from polsess.timelines import sorted_timeline, subtract_spans

_LEAST_SOLO_SECONDS, _MOST_SECONDS = 1.5, 40.0
"""Solo speech with which a track is judged, and how much of it at most."""


class Extractor(Separator):
    """Separates recordings and keeps the tracks of given voices, each called as its voice.

    Args:
        model: As of ``Separator``; with several outputs.
        voices: An enrolment by the name of its voice: a sound file, or samples with their rate in Hz.
        threshold: Cosine of the embeddings of a voice and a track from which they are one person; None for
            that of the bundled embedder, and only with it.
        **options: As of ``Separator``.

    Raises:
        EnrolmentError: If an enrolment cannot be used.
        ValueError: If there is no voice, the model has one output, or an option is out of range.

    Examples:
        >>> extractor = Extractor.from_pretrained(voices={"alice": "alice.wav"})  # doctest: +SKIP
        >>> extractor.separate("meeting.flac")["alice"]  # doctest: +SKIP
    """

    _listens_anyway = True

    def __init__(
        self,
        model: SeparationModel,
        voices: Mapping[str, Audio | tuple[Audio, float]],
        *,
        threshold: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if model.output_sources == 1:
            raise ValueError("model: has one output; the voices of a recording need one with several.")
        if not voices:
            raise ValueError("voices: expected one or more enrolments.")
        if threshold is None and options.get("embedder") not in (None, EMBEDDER):
            raise ValueError(
                f"threshold: {SAME_VOICE} was measured with the bundled embedder; give that of this one, "
                "which polsess speakers measures."
            )
        self.threshold = SAME_VOICE if threshold is None else threshold
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected a cosine from -1 to 1, got {threshold}.")
        self.voices = tuple(self._enrol(name, audio) for name, audio in voices.items())
        embeddings = np.stack([voice.embedding for voice in self.voices])
        self._known_voices = KnownVoices(embeddings, self.threshold)

    def _enrol(self, name: str, audio: Audio | tuple[Audio, float]) -> Voice:
        sound, rate = audio if isinstance(audio, tuple) else (audio, None)
        model_rate = self.model.sample_rate
        hearing, config = self._hearing(model_rate), self._gate_config
        return enrol(name, sound, hearing, model_rate, config, rate, same_voice=self.threshold)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the voices."""
        return tuple(voice.name for voice in self.voices)

    def _render(
        self,
        passes: Passes,
        recording: Recording,
        spools: Spools,
        progress: Progress | None,
        most: int | None = None,  # noqa: ARG002 - everybody is found, whoever is asked for
    ) -> Asking[Rendering]:
        rendering = yield from super()._render(passes, recording, spools, progress)
        timeline = rendering.timeline()
        if timeline is None or not timeline.turns:
            raise EnrolmentError(f"{recording.name}: nobody talks in it.")
        rate = passes.estimator.sample_rate
        tracks = _embed_tracks(rendering, timeline, recording, self._hearing(rate), rate)
        match = match_voices(self.voices, tracks, self.threshold)
        if not all(match.tracks):
            raise EnrolmentError(
                f"{recording.name}: not found in it: the voice of {self._describe_missing(match)}; "
                f"{self.threshold:.2f} is needed. Heard: {counted(len(tracks), 'voice')}."
            )
        return ChosenTracks(rendering, match.tracks, self.names)

    def _describe_missing(self, match: Match) -> str:
        missing = []
        for voice, (name, best) in enumerate(zip(self.names, match.best, strict=True)):
            if not match.tracks[voice]:
                owners = [
                    other
                    for other, tracks in zip(self.names, match.tracks, strict=True)
                    if best >= self.threshold and match.nearest[voice] in tracks
                ]
                taken = f", but to the track of '{owners[0]}'; are both one person?" if owners else ""
                missing.append(f"'{name}' (similarity {best:.2f}{taken})")
        return ", ".join(missing)


class ChosenTracks(Rendering):
    """Some tracks of a rendering under names of their own; those of one voice are added."""

    def __init__(self, rendering: Rendering, tracks: Sequence[tuple[int, ...]], names: Sequence[str]) -> None:
        self._rendering, self._tracks, self._names = rendering, tracks, tuple(names)
        self.num_tracks = len(tracks)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def blocks(self) -> Iterator[Samples]:
        for block in self._rendering.blocks():
            yield np.stack([block[list(tracks)].sum(0) for tracks in self._tracks])

    def timeline(self) -> SpeakerTimeline | None:
        """The turns of the chosen voices; overlaps and separated stretches are those of all."""
        timeline = self._rendering.timeline()
        if timeline is None:
            return None
        every = self._rendering.names
        name_of = {
            every[track]: name
            for tracks, name in zip(self._tracks, self._names, strict=True)
            for track in tracks
        }
        turns = [
            replace(turn, speaker=name_of[turn.speaker]) for turn in timeline.turns if turn.speaker in name_of
        ]
        return replace(timeline, turns=sorted_timeline(turns))


def _embed_tracks(
    rendering: Rendering, timeline: SpeakerTimeline, recording: Recording, hearing: Hearing, rate: int
) -> Embeddings:
    """Embeddings of the tracks ``[S, D]``, of what is said alone if that is enough, else of all."""
    spans = [_spans_to_hear(timeline, name) for name in rendering.names]
    parts: list[list[Samples]] = [[] for _ in spans]
    begin = 0
    for block in rendering.blocks():
        for track, chosen in enumerate(spans):
            for start, end in chosen:
                first, last = (round(time * recording.sample_rate) - begin for time in (start, end))
                if first < block.shape[-1] and last > 0:
                    parts[track].append(block[track].mean(0)[max(0, first) : last])
        begin += block.shape[-1]
    nothing = np.zeros(1, np.float32)
    speech = [resample(np.concatenate(part or [nothing]), recording.sample_rate, rate) for part in parts]
    return np.stack([embed_speech(hearing.clear_all(each), hearing) for each in speech])


def _spans_to_hear(timeline: SpeakerTimeline, speaker: str) -> list[Span]:
    """The longest stretches of a speaker, by start."""
    said = [(turn.start, turn.end) for turn in timeline.turns if turn.speaker == speaker]
    alone = list(subtract_spans(said, timeline.overlaps))
    chosen = alone if sum(end - start for start, end in alone) >= _LEAST_SOLO_SECONDS else said
    kept: list[Span] = []
    missing = _MOST_SECONDS
    for start, end in sorted(chosen, key=lambda span: span[0] - span[1]):
        if missing > 0:
            kept.append((start, min(end, start + missing)))
            missing -= end - start
    return sorted(kept)
