"""Scores of separated conversations: assignment of tracks, fidelity, and level in pauses.

Speakers take turns, so a reference is silent for most of the time and SI-SNR of the whole says little. Scores
here look at stretches by the number of active speakers. Tracks are assigned to references once for a whole
recording.

Shapes: S speakers, K tracks, L frames, T samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from polsess.metrics.perceptual import Signals
from polsess.signal_ratios import si_snr
from polsess.timelines import Timeline, activity

Activity = NDArray[np.bool_]
"""Whether each speaker or track is active in each frame, ``[S, L]``."""
_CEILING_DB = 100.0
_FRAME_SECONDS = 0.01


@dataclass(frozen=True)
class Conversation:
    """What is known of a conversation beside its signals: who talks when, in truth and by a system."""

    reference: Timeline
    """The true turns."""
    speakers: tuple[str, ...]
    """The speaker of each reference, as ``reference`` names them, S."""
    estimate: Timeline
    """The turns that the system found; names do not matter."""
    collar_seconds: float = 0.0
    """Time around the true starts and ends that the diarization error leaves out."""
    saved_share: float = math.nan
    """Share of the recording that no network had to process; not a number where the system does not say."""

    def activity(self, num_samples: int, sample_rate: int) -> tuple[Activity, int]:
        """Whether each reference's speaker talks, ``[S, L]``, and the samples per frame (10 ms)."""
        hop = max(1, round(_FRAME_SECONDS * sample_rate))
        return activity(self.reference, self.speakers, -(-num_samples // hop), hop / sample_rate), hop


def assign_tracks(estimates: Signals, references: Signals) -> list[int]:
    """The track of each speaker over a whole recording, by the greatest sum of correlations.

    Correlations weigh every stretch with its energy, so that silent stretches do not decide.

    Args:
        estimates: ``[K, T]``, K at least S.
        references: ``[S, T]``.

    Raises:
        ValueError: If there are fewer tracks than speakers.
    """
    if len(estimates) < len(references):
        raise ValueError(f"assign_tracks: {len(estimates)} tracks for {len(references)} speakers.")
    levels = np.linalg.norm(estimates, axis=1)
    table = references @ estimates.T / np.where(levels > 0, levels, 1)  # [S, K]
    rows, columns = linear_sum_assignment(table, maximize=True)
    return [int(columns[list(rows).index(speaker)]) for speaker in range(len(references))]


def wrong_track_share(estimates: Signals, activity: Activity, hop: int, order: list[int]) -> float:
    """The share of one-speaker time in which another track than the speaker's own is the loudest.

    Args:
        estimates: ``[K, T]``.
        activity: ``[S, L]`` of the references.
        hop: Samples per frame.
        order: The track of each speaker, as ``assign_tracks`` gives it.

    Returns:
        Between 0 and 1; not a number if nobody ever talks alone. Where all tracks are silent, none is the
        loudest.
    """
    alone = activity.sum(0) == 1
    if not alone.any():
        return math.nan
    energies = _frame_energies(estimates, hop, activity.shape[1])[:, alone]  # [K, L']
    own = np.array(order)[activity[:, alone].argmax(0)]
    frames = np.arange(energies.shape[1])
    others = energies.copy()
    others[own, frames] = -1.0
    loudest = others.max(0)
    return float(np.mean((loudest >= energies[own, frames]) & (loudest > 0)))


def solo_fidelity_db(
    estimates: Signals, references: Signals, activity: Activity, hop: int, order: list[int]
) -> float:
    """SNR of the speakers' own tracks over all stretches in which one speaker talks alone, in dB.

    Leakage onto the track, wrong levels and stretches on another track all count.

    Args:
        estimates: ``[K, T]``.
        references: ``[S, T]``.
        activity: ``[S, L]`` of the references.
        hop: Samples per frame.
        order: The track of each speaker.

    Returns:
        Decibels; not a number if nobody ever talks alone.
    """
    alone = activity & (activity.sum(0) == 1)
    signal, error = 0.0, 0.0
    for speaker, reference in enumerate(references):
        mask = _samples(alone[speaker], hop, reference.shape[-1])
        signal += float(np.sum(reference[mask] ** 2))
        error += float(np.sum((estimates[order[speaker]][mask] - reference[mask]) ** 2))
    return _ratio_db(signal, error)


def overlap_si_snri_db(
    estimates: Signals,
    references: Signals,
    mixture: Signals,
    activity: Activity,
    hop: int,
    order: list[int],
) -> float:
    """Mean SI-SNR improvement over the mixture in the time in which several speakers talk, in dB.

    All overlaps of a recording are joined per speaker, since single ones are often shorter than a syllable.

    Args:
        estimates: ``[K, T]``.
        references: ``[S, T]``.
        mixture: ``[T]``.
        activity: ``[S, L]`` of the references.
        hop: Samples per frame.
        order: The track of each speaker.

    Returns:
        The mean over the speakers who overlap; not a number if there is no overlap, or if a speaker's track
        is silent in all of it.
    """
    several = activity.sum(0) > 1
    values = []
    for speaker, reference in enumerate(references):
        mask = _samples(several & activity[speaker], hop, reference.shape[-1])
        if not mask.any() or not reference[mask].any():
            continue
        if not estimates[order[speaker]][mask].any():
            return math.nan
        cut = torch.from_numpy(np.stack([estimates[order[speaker]][mask], mixture[mask]]))
        of_estimate, of_mixture = si_snr(cut, torch.from_numpy(reference[mask])).tolist()
        values.append(of_estimate - of_mixture)
    return float(np.mean(values)) if values else math.nan


def inactive_level_db(
    estimates: Signals, mixture: Signals, activity: Activity, hop: int, order: list[int]
) -> float:
    """Level of the tracks against the mixture while their speakers are silent and somebody talks, in dB.

    Args:
        estimates: ``[K, T]``.
        mixture: ``[T]``.
        activity: ``[S, L]`` of the references.
        hop: Samples per frame.
        order: The track of each speaker.

    Returns:
        Decibels, -100 for silence; not a number if all speakers talk all the time.
    """
    talking = activity.any(0)
    leaked, present = 0.0, 0.0
    for speaker, track in enumerate(order):
        mask = _samples(talking & ~activity[speaker], hop, mixture.shape[-1])
        leaked += float(np.sum(estimates[track][mask] ** 2))
        present += float(np.sum(mixture[mask] ** 2))
    return _ratio_db(leaked, present) if present else math.nan


def _frame_energies(signals: Signals, hop: int, num_frames: int) -> NDArray[np.float64]:
    """Energies ``[K, L]`` of frames of ``hop`` samples; frames beyond the end of the signals are silent."""
    missing = max(0, num_frames * hop - signals.shape[1])
    padded = np.pad(signals, ((0, 0), (0, missing)))[:, : num_frames * hop]
    energies: NDArray[np.float64] = np.square(padded).reshape(len(signals), num_frames, hop).sum(-1)
    return energies


def _samples(frames: NDArray[np.bool_], hop: int, num_samples: int) -> NDArray[np.bool_]:
    """Frames as a mask of samples, ``[T]``; samples after the last frame are left out."""
    mask = np.repeat(frames, hop)[:num_samples]
    return np.pad(mask, (0, num_samples - len(mask)))


def _ratio_db(signal: float, error: float) -> float:
    if signal <= 0:
        return math.nan if error <= 0 else -_CEILING_DB
    if error <= 0:
        return _CEILING_DB
    return float(np.clip(10 * math.log10(signal / error), -_CEILING_DB, _CEILING_DB))
