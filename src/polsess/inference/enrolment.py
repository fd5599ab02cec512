"""Voices that are known beforehand: an enrolment, which is a recording of one person, becomes an embedding.

Shapes: T samples, V enrolled voices, S tracks, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polsess.diarization.clustering import Embeddings, cluster
from polsess.diarization.regions import cut_pieces, find_regions
from polsess.diarization.settings import GateConfig
from polsess.inference.hearing import Hearing
from polsess.inference.recordings import Audio, open_recording

LEAST_SECONDS, MOST_SECONDS = 2.0, 600.0
"""Speech of one person that an enrolment must hold, and its greatest length."""
SAME_VOICE = 0.45
"""Cosine of an enrolment and a track from which they are one voice."""
_MOST_OVERLAP = 0.25
"""Share of the speech in which several may talk, which the detector sometimes says of one."""
_SECOND_SHARE, _SECOND_SECONDS = 0.2, 1.5
"""Of the speech that is of a second voice, before an enrolment counts as one of two people."""
_PIECE_SECONDS = 4.0


class EnrolmentError(ValueError):
    """An enrolment cannot be used, or its voice was not found; the message names it and the score."""


@dataclass(frozen=True)
class Voice:
    """Somebody's voice."""

    name: str
    embedding: Embeddings
    """Unit vector, ``[D]``."""


def enrol(
    name: str, audio: Audio, hearing: Hearing, rate: int, config: GateConfig, sample_rate: float | None = None
) -> Voice:
    """The voice in an enrolment.

    Args:
        name: Of the voice.
        audio: The enrolment: samples ``[T]`` or ``[channels, T]``, or a sound file.
        hearing: The networks, for sound at ``rate``.
        rate: In Hz.
        config: Thresholds.
        sample_rate: Rate of samples in Hz; None for a file.

    Raises:
        EnrolmentError: If it is silent, too short or too long, or holds several voices.
        AudioError: If the file cannot be used.
    """
    where = str(audio) if isinstance(audio, str | Path) else f"voice '{name}'"
    with open_recording(audio, sample_rate) as recording:
        seconds = recording.num_samples / recording.sample_rate
        if seconds > MOST_SECONDS:
            raise EnrolmentError(
                f"{where}: is {seconds / 60:.1f} minutes long; an enrolment has at most "
                f"{MOST_SECONDS / 60:.0f}. Cut out a minute in which the person talks."
            )
        gain = recording.working_gain("mix")
        samples = torch.cat(list(recording.resampled("mix", rate, gain)), -1)[0]
    if not samples.any():
        raise EnrolmentError(f"{where}: is silent; an enrolment holds the voice of one person.")
    return Voice(name, _check_and_embed(where, samples, hearing, config))


def _check_and_embed(where: str, samples: Tensor, hearing: Hearing, config: GateConfig) -> Embeddings:
    def read(first: int, last: int) -> Tensor:
        return samples[first:last]

    probabilities = hearing.activity(read, len(samples), lambda _: None)
    regions = find_regions(probabilities, hearing.hop_seconds, config.regions)
    pieces = cut_pieces(regions, probabilities, config.regions)
    lengths = np.array([last - first for first, last in pieces]) * hearing.hop_seconds
    if regions.overlap_share > _MOST_OVERLAP:
        raise EnrolmentError(
            f"{where}: several people talk at once in {100 * regions.overlap_share:.0f} % of its speech; an "
            "enrolment holds the voice of one."
        )
    if lengths.sum() < LEAST_SECONDS:
        raise EnrolmentError(
            f"{where}: holds {lengths.sum():.1f} s of speech; an enrolment needs {LEAST_SECONDS:g} s or more."
        )
    embeddings = hearing.embed_pieces(read, pieces, lambda _: None)
    labels, centroids = cluster(embeddings, lengths, num_speakers=(1, 2), threshold=config.same_voice)
    second = float(np.bincount(labels, weights=lengths, minlength=2).min()) if len(centroids) > 1 else 0.0
    if second >= max(_SECOND_SECONDS, _SECOND_SHARE * lengths.sum()):
        raise EnrolmentError(
            f"{where}: holds two voices, one of them for {second:.1f} s (similarity "
            f"{float(centroids[0] @ centroids[1]):.2f}); cut out what one person says."
        )
    speech = torch.cat([read(hearing.sample(first), hearing.sample(last)) for first, last in pieces])
    return embed_speech(speech, hearing)


def embed_speech(speech: Tensor, hearing: Hearing) -> Embeddings:
    """The mean embedding ``[D]``, of unit length, of speech ``[T]`` of one person."""
    longest = hearing.sample(round(_PIECE_SECONDS / hearing.hop_seconds))
    count = max(1, round(len(speech) / longest))
    total: Embeddings = np.sum([hearing.embed(piece) for piece in speech.tensor_split(count)], axis=0)
    return total / np.float32(max(float(np.linalg.norm(total)), 1e-9))


@dataclass(frozen=True)
class Match:
    """The track of each voice, and how alike they are."""

    tracks: tuple[int, ...]
    """V of them; -1 where there are more voices than tracks."""
    scores: NDArray[np.float32]
    """Cosines ``[V, S]``."""

    def score(self, voice: int) -> float:
        """Of a voice with its track, or with the most similar one if it has none."""
        track = self.tracks[voice]
        return float(self.scores[voice, track] if track >= 0 else self.scores[voice].max(initial=-1.0))


def match_voices(voices: Sequence[Voice], tracks: Embeddings) -> Match:
    """Give each voice another track, so that the sum of the similarities is greatest.

    Args:
        voices: V of them.
        tracks: Embeddings of the tracks, ``[S, D]``.
    """
    from scipy.optimize import linear_sum_assignment

    scores = np.stack([voice.embedding for voice in voices]) @ tracks.T
    rows, columns = linear_sum_assignment(scores, maximize=True)
    found = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return Match(tuple(found.get(voice, -1) for voice in range(len(voices))), scores)
