"""The columns of a system that says how many speakers there are: one value per recording.

A wrong number is penalised as by Zhu, Yeh and Hasegawa-Johnson (2020), "Multi-decoder DPRNN: high accuracy
source counting and separation", https://arxiv.org/abs/2011.12022: with N speakers and N' counted ones,
P-SI-SNR is the sum of SI-SNR over the pairs of speaker and estimate plus -30 dB for everyone left over, over
max(N, N'). A silent estimate counts as left over, and so does its speaker. The improvement is that less the
mean SI-SNR of the mixture. With the right number it is SI-SNRi.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from polsess.metrics.conversation_columns import NOBODY
from polsess.metrics.perceptual import UndefinedScoreError
from polsess.metrics.utterance import CLEAN_MIXTURE_DB, Utterance

PENALTY_DB = -30.0
"""SI-SNR of a speaker who was missed, or of an estimate without a speaker."""


def _accuracy(utterance: Utterance, _: int) -> float:
    return 100.0 * (_counted(utterance) == len(utterance.audible_references))


def _penalised_improvement(utterance: Utterance, _: int) -> float:
    counted, speakers = _counted(utterance), utterance.audible_references
    if not speakers:
        raise UndefinedScoreError(NOBODY)
    of_mixture = [utterance.si_snr_of_mixture(source) for source in speakers]
    if max(of_mixture) >= CLEAN_MIXTURE_DB:
        raise UndefinedScoreError("the mixture is the reference, nothing to improve")
    ratios = [utterance.si_snr(source) for source in speakers]
    found = [ratio for ratio in ratios if not math.isnan(ratio)]  # the others have silent estimates
    rest = max(counted, len(speakers)) - len(found)
    penalised = (sum(found) + PENALTY_DB * rest) / max(counted, len(speakers))
    return penalised - float(np.mean(of_mixture))


def _counted(utterance: Utterance) -> int:
    if utterance.num_speakers is None:
        raise UndefinedScoreError("the system does not count speakers")
    return utterance.num_speakers


COLUMNS: Mapping[str, tuple[str, str, Callable[[Utterance, int], float]]] = {
    "count_accuracy": ("count accuracy", "%", _accuracy),
    "penalised_si_snri": ("penalised SI-SNRi", "dB", _penalised_improvement),
}
"""Title, unit and value of an utterance, by column."""
