"""Voices that are known beforehand: an enrolment, which is a recording of one person, becomes an embedding.

Shapes: T samples, V enrolled voices, S tracks, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polsess.audio import Samples
from polsess.diarization.clustering import Embeddings, list_partitions
from polsess.diarization.known_voices import LEAST_DIFFERENCE
from polsess.diarization.regions import cut_pieces, find_regions
from polsess.diarization.settings import GateConfig
from polsess.inference.hearing import Hearing
from polsess.inference.recordings import Audio, open_recording

LEAST_SECONDS, MOST_SECONDS = 2.0, 600.0
"""Speech of one person that an enrolment must hold, and its greatest length."""
SAME_VOICE = 0.55
"""Cosine of an enrolment and a track from which they are one voice."""
_MOST_OVERLAP = 0.25
"""Share of the speech in which several may talk, which the detector sometimes says of one."""
_SECOND_SHARE, _SECOND_SECONDS, _SECOND_VOICE = 0.25, 2.5, 0.9
"""An enrolment is cut in two groups of pieces; it is of two people if the smaller one has this share of the
speech and this length, and their cosine is lower than this share of that from which two are one voice. Of 35
validation speakers none was refused (6 and 12 s), of 156 pairs of them 95 % where each talks for 6 s, 39 %
where each talks for 3 s."""
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
    name: str,
    audio: Audio,
    hearing: Hearing,
    rate: int,
    config: GateConfig,
    sample_rate: float | None = None,
    *,
    same_voice: float = SAME_VOICE,
) -> Voice:
    """The voice in an enrolment.

    Args:
        name: Of the voice.
        audio: The enrolment: samples ``[T]`` or ``[channels, T]``, or a sound file.
        hearing: The networks, for sound at ``rate``.
        rate: In Hz.
        config: Thresholds.
        sample_rate: Rate of samples in Hz; None for a file.
        same_voice: Cosine from which two embeddings are of one voice.

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
        samples = np.concatenate(list(recording.resampled("mix", rate, gain)), -1)[0]
    if not samples.any():
        raise EnrolmentError(f"{where}: is silent; an enrolment holds the voice of one person.")
    return Voice(name, _check_and_embed(where, samples, hearing, config, _SECOND_VOICE * same_voice))


def _check_and_embed(
    where: str, samples: Samples, hearing: Hearing, config: GateConfig, second_voice: float
) -> Embeddings:
    cleared = hearing.clear_all(samples)

    def read(first: int, last: int) -> Samples:
        return cleared[first:last]

    probabilities = hearing.activity(read, len(cleared), lambda _: None)
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
    *_, centroids = list_partitions(embeddings, lengths, 2)
    labels = (embeddings @ centroids.T).argmax(1)
    second = float(np.bincount(labels, weights=lengths, minlength=2).min()) if len(centroids) > 1 else 0.0
    similarity = float(centroids[0] @ centroids[-1])
    if similarity < second_voice and second >= max(_SECOND_SECONDS, _SECOND_SHARE * lengths.sum()):
        raise EnrolmentError(
            f"{where}: holds two voices, one of them for {second:.1f} s (similarity {similarity:.2f}, below "
            f"{second_voice:.2f}); cut out what one person says."
        )
    speech = np.concatenate([read(hearing.sample(first), hearing.sample(last)) for first, last in pieces])
    return embed_speech(speech, hearing)


def embed_speech(speech: Samples, hearing: Hearing) -> Embeddings:
    """The mean embedding ``[D]``, of unit length, of cleared speech ``[T]`` of one person."""
    longest = hearing.sample(round(_PIECE_SECONDS / hearing.hop_seconds))
    count = max(1, round(len(speech) / longest))
    length = len(speech) // count
    total: Embeddings = hearing.embed(speech[: count * length].reshape(count, length)).sum(0)
    return total / np.float32(max(float(np.linalg.norm(total)), 1e-9))


@dataclass(frozen=True)
class Match:
    """The tracks of each voice, and how alike they are."""

    tracks: tuple[tuple[int, ...], ...]
    """V of them, the one that is most surely the voice's first; none where the voice was not found."""
    best: tuple[float, ...]
    """Cosine of each voice with its first track, or with the most similar one if it has none."""
    nearest: tuple[int, ...]
    """Track of that cosine."""


def match_voices(voices: Sequence[Voice], tracks: Embeddings, threshold: float) -> Match:
    """Give each voice a track of its own, so that the sum of the similarities is greatest.

    Only similarities from the threshold up count, so that a voice that is not there takes no track from
    another one. A track that is left over belongs to the voice that it resembles most, if it does so not much
    less than this voice's own: one person may have been heard as two.

    Args:
        voices: V of them.
        tracks: Embeddings of the tracks, ``[S, D]``.
        threshold: Cosine from which a track is of a voice.
    """
    from scipy.optimize import linear_sum_assignment

    scores = np.stack([voice.embedding for voice in voices]) @ tracks.T  # [V, S]
    rows, columns = linear_sum_assignment(np.where(scores >= threshold, 1 + scores, 0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    found = {voice: [track] for voice, track in pairs if scores[voice, track] >= threshold}
    nearest = [found[voice][0] if voice in found else int(row.argmax()) for voice, row in enumerate(scores)]
    nearly = [row[track] - LEAST_DIFFERENCE for row, track in zip(scores, nearest, strict=True)]
    for track in sorted(set(range(len(tracks))) - {track for each in found.values() for track in each}):
        voice = int(scores[:, track].argmax())
        if voice in found and scores[voice, track] >= max(threshold, nearly[voice]):
            found[voice].append(track)
    best = tuple(float(row[track]) for row, track in zip(scores, nearest, strict=True))
    return Match(tuple(tuple(found.get(voice, ())) for voice in range(len(voices))), best, tuple(nearest))
