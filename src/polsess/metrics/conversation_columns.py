"""The columns of a conversation: one value per recording, from its signals and from who talks when."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from polsess.metrics.conversations import (
    Activity,
    Conversation,
    inactive_level_db,
    overlap_si_snri_db,
    solo_fidelity_db,
    wrong_track_share,
)
from polsess.metrics.diarization import DiarizationError, diarization_error
from polsess.metrics.perceptual import UndefinedScoreError
from polsess.metrics.utterance import Utterance

NOBODY = "nobody talks"
_ALONE = "nobody talks alone"


def _wrong_track(utterance: Utterance, _: int) -> float:
    frames, hop = _frames(utterance)
    share = wrong_track_share(utterance.estimates, frames, hop, utterance.permutation)
    return 100 * _defined(share, _ALONE)


def _solo(utterance: Utterance, _: int) -> float:
    frames, hop = _frames(utterance)
    value = solo_fidelity_db(utterance.estimates, utterance.references, frames, hop, utterance.permutation)
    return _defined(value, _ALONE)


def _overlap(utterance: Utterance, _: int) -> float:
    frames, hop = _frames(utterance)
    value = overlap_si_snri_db(
        utterance.estimates,
        utterance.references,
        utterance.mixture,
        frames,
        hop,
        utterance.permutation,
    )
    return _defined(value, "no two talk at once, or a track is silent where they do")


def _inactive(utterance: Utterance, _: int) -> float:
    frames, hop = _frames(utterance)
    value = inactive_level_db(utterance.estimates, utterance.mixture, frames, hop, utterance.permutation)
    return _defined(value, "nobody is silent while another talks")


def _frames(utterance: Utterance) -> tuple[Activity, int]:
    if not utterance.num_sources:
        raise UndefinedScoreError(NOBODY)
    return _of(utterance).activity(utterance.mixture.shape[-1], utterance.sample_rate)


def _share_of_error(part: Callable[[DiarizationError], float]) -> Callable[[Utterance, int], float]:
    def compute(utterance: Utterance, _: int) -> float:
        known = _of(utterance)
        error = diarization_error(known.estimate, known.reference, collar_seconds=known.collar_seconds)
        return 100 * _defined(error.share(part(error)), NOBODY)

    return compute


def _saved(utterance: Utterance, _: int) -> float:
    return 100 * _defined(_of(utterance).saved_share, "the system does not say what it computed")


def _of(utterance: Utterance) -> Conversation:
    if utterance.conversation is None:
        raise UndefinedScoreError("it is not known who talks when")
    return utterance.conversation


def _defined(value: float, reason: str) -> float:
    if math.isnan(value):
        raise UndefinedScoreError(reason)
    return value


COLUMNS: Mapping[str, tuple[str, str, Callable[[Utterance, int], float], bool]] = {
    "wrong_track": ("wrong track", "%", _wrong_track, True),
    "solo_snr": ("SNR of solo stretches", "dB", _solo, False),
    "overlap_si_snri": ("SI-SNRi in overlaps", "dB", _overlap, False),
    "inactive_level": ("level of silent speakers", "dB", _inactive, True),
    "der": ("DER", "%", _share_of_error(lambda e: e.missed + e.false_alarm + e.confusion), True),
    "der_missed": ("missed", "%", _share_of_error(lambda error: error.missed), True),
    "der_false_alarm": ("false alarm", "%", _share_of_error(lambda error: error.false_alarm), True),
    "der_confusion": ("confusion", "%", _share_of_error(lambda error: error.confusion), True),
    "compute_saved": ("compute saved", "%", _saved, False),
}
"""Title, unit, value of an utterance, and whether less is better, by column."""
