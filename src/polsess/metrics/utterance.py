"""The signals of one utterance: faults, assignment of estimates to references, and ratios in decibels.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from polsess.metrics import bss_eval
from polsess.metrics.conversations import Conversation, assign_tracks
from polsess.metrics.perceptual import Signals, UndefinedScoreError
from polsess.permutation import best_permutation
from polsess.signal_ratios import si_snr

CEILING_DB = 100.0
"""Ratios are reported within plus and minus this: beyond it lies the rounding of 16-bit files."""
CLEAN_MIXTURE_DB = 50.0
"""A mixture this close to the reference is the reference, up to rounding: there is nothing to improve."""
NEAR_SILENCE_DB = 50.0
"""A reference this far below the mixture is the residue of a pause, not speech."""
_SILENCE_RMS = 1e-8
_CONSTANT = 1e-10  # energy around the mean over energy: the rounding error of a constant


@dataclass(frozen=True)
class Utterance:
    """Estimates, references and the mixture of one utterance, with what several metrics share."""

    estimates: Signals
    """``[K, T]`` in the model's order, K at least C."""
    references: Signals
    """``[C, T]``."""
    mixture: Signals
    """``[T]``."""
    sample_rate: int
    conversation: Conversation | None = None
    """Who talks when, where that is known; the speaker of every reference then talks somewhere."""
    num_speakers: int | None = None
    """How many speakers the system counted; None from one that does not count."""

    @classmethod
    def create(
        cls,
        estimates: ArrayLike,
        references: ArrayLike,
        mixture: ArrayLike,
        sample_rate: int,
        conversation: Conversation | None = None,
        num_speakers: int | None = None,
    ) -> Utterance:
        """Take arrays or tensors, ``[K, T]`` and ``[C, T]``, or ``[T]`` for one source.

        Raises:
            ValueError: If the shapes do not match or there are fewer estimates than references.
        """
        signals = [_to_float64(each) for each in (estimates, references, mixture)]
        estimated, referred = (each[None] if each.ndim == 1 else each for each in signals[:2])
        mixed = signals[2].reshape(-1) if signals[2].size == signals[2].shape[-1] else signals[2]
        shapes_agree = estimated.ndim == referred.ndim == 2 and estimated.shape[1:] == referred.shape[1:]
        if not shapes_agree or len(estimated) < len(referred) or mixed.shape != estimated.shape[1:]:
            raise ValueError(
                "score_utterance: expected at least C estimates [C, T], references [C, T] and a mixture "
                f"[T], got {list(signals[0].shape)}, {list(signals[1].shape)} and {list(signals[2].shape)}."
            )
        return cls(estimated, referred, mixed, sample_rate, conversation, num_speakers)

    @property
    def num_sources(self) -> int:
        """C."""
        return len(self.references)

    @cached_property
    def permutation(self) -> list[int]:
        """The index of the estimate for each reference, by the best mean SI-SNR.

        A pair without a value counts as the floor, so that the others find each other. In conversations
        correlations decide, since the SI-SNR of an almost empty track may be anything.
        """
        if self.conversation is not None:
            return assign_tracks(_finite(self.estimates), self.references)
        scores = torch.zeros(len(self.estimates), len(self.estimates), dtype=torch.float64)
        scores[: self.num_sources] = self._si_snr_table.nan_to_num(
            nan=-CEILING_DB
        )  # the rest rates all alike
        return [int(index) for index in best_permutation(scores.unsqueeze(0))[0, : self.num_sources]]

    @property
    def unassigned_db(self) -> float:
        """Level of the loudest estimate without a reference against the mixture; not a number without one."""
        rest = [each for index, each in enumerate(self.estimates) if index not in self.permutation]
        if not rest or fault_of(self.mixture) or not all(np.isfinite(each).all() for each in rest):
            return math.nan
        loudest = max(float(np.mean(each**2)) for each in rest)
        ratio = loudest / float(np.mean(self.mixture**2))
        return float(np.clip(10 * math.log10(max(ratio, 1e-300)), -CEILING_DB, CEILING_DB))

    def estimate(self, source: int) -> Signals:
        """The estimate that belongs to one reference, ``[T]``."""
        return self.estimates[self.permutation[source]]

    def check(self, source: int) -> None:
        """Refuse a source that no metric is defined for.

        Raises:
            UndefinedScoreError: If a signal is silent, constant or not finite.
        """
        faults = {
            "reference": self._reference_faults[source],
            "estimate": self._estimate_faults[self.permutation[source]],
            "mixture": fault_of(self.mixture),
        }
        for name, fault in faults.items():
            if fault:
                raise UndefinedScoreError(f"{fault} {name}")
        if _level_db(self.references[source]) < _level_db(self.mixture) - NEAR_SILENCE_DB:
            raise UndefinedScoreError("almost silent reference")

    def si_snr(self, source: int) -> float:
        """SI-SNR of a source's estimate in dB."""
        return float(self._si_snr_table[source, self.permutation[source]])

    def si_snr_of_mixture(self, source: int) -> float:
        """SI-SNR of the mixture as an estimate of a source, in dB."""
        return float(_ratio(self.mixture, self.references[source]))

    def sdr(self, source: int) -> float:
        """SDR of a source's estimate in dB."""
        return float(self._sdr_table[source, self.permutation[source]])

    def sdr_of_mixture(self, source: int) -> float:
        """SDR of the mixture as an estimate of a source, in dB."""
        return float(self._sdr_table[source, -1])

    def interference(self, source: int) -> float:
        """SIR of a source's estimate in dB."""
        if len(self.references) == 1:
            raise UndefinedScoreError("one source: there is nothing that could interfere")
        return float(self._sir_and_sar[0][source])

    def artefacts(self, source: int) -> float:
        """SAR of a source's estimate in dB."""
        return float(self._sir_and_sar[1][source])

    @cached_property
    def _reference_faults(self) -> list[str]:
        return [fault_of(each) for each in self.references]

    @cached_property
    def _estimate_faults(self) -> list[str]:
        return [fault_of(each) for each in self.estimates]

    @cached_property
    def _si_snr_table(self) -> Tensor:
        """SI-SNR of estimate j as reference i, ``[C, K]``; not a number where either has a fault."""
        table = _ratio(self.estimates[None], self.references[:, None])
        rows, columns = (
            torch.tensor([bool(fault) for fault in faults])
            for faults in (self._reference_faults, self._estimate_faults)
        )
        return table.masked_fill(rows.unsqueeze(1) | columns, math.nan)

    @cached_property
    def audible_references(self) -> list[int]:
        """The references of which scores are defined."""
        return [index for index, fault in enumerate(self._reference_faults) if not fault]

    @cached_property
    def _filtered_references(self) -> bss_eval.FilteredReferences:
        return bss_eval.FilteredReferences(torch.from_numpy(self.references[self.audible_references]))

    @cached_property
    def _sdr_table(self) -> Tensor:
        """SDR of the estimates and, last, of the mixture as each audible reference, ``[C, K+1]``."""
        self._require_filter_length()
        signals = torch.from_numpy(_finite(np.stack([*self.estimates, self.mixture])))
        table = torch.full((self.num_sources, len(signals)), math.nan, dtype=torch.float64)
        table[self.audible_references] = _clip(bss_eval.sdr_table(self._filtered_references, signals))
        return table

    @cached_property
    def _sir_and_sar(self) -> tuple[Tensor, Tensor]:
        self._require_filter_length()
        if len(self.audible_references) < self.num_sources:
            raise UndefinedScoreError("silent reference among the sources")
        estimates = torch.from_numpy(_finite(self.estimates[self.permutation]))
        sir, sar = bss_eval.interference_and_artefacts(self._filtered_references, estimates)
        return _clip(sir), _clip(sar)

    def _require_filter_length(self) -> None:
        if len(self.mixture) <= bss_eval.NUM_TAPS:
            raise UndefinedScoreError(f"shorter than the {bss_eval.NUM_TAPS}-tap filters of BSS Eval")


def fault_of(signal: Signals) -> str:
    """Reason for which a signal cannot be scored: ``non-finite``, ``silent``, ``constant``, or nothing."""
    if not np.isfinite(signal).all():
        return "non-finite"
    energy, around_mean = float(np.mean(signal**2)), float(np.var(signal))
    if math.sqrt(energy) < _SILENCE_RMS:
        return "silent"
    return "constant" if around_mean <= _CONSTANT * energy else ""


def _to_float64(signal: ArrayLike) -> Signals:
    if isinstance(signal, Tensor):
        signal = signal.detach().cpu().double().numpy()
    return np.asarray(signal, dtype=np.float64)


def _ratio(estimate: Signals, reference: Signals) -> Tensor:
    """SI-SNR of signals brought to a common level, so that floors against zero play no part in quiet ones."""
    ratio = si_snr(torch.from_numpy(_unit_rms(estimate)), torch.from_numpy(_unit_rms(reference)))
    return _clip(ratio)


def _finite(signals: Signals) -> Signals:
    """Replace samples that are not finite by zero; the scores of such a signal are masked."""
    return np.nan_to_num(signals, posinf=0, neginf=0)


def _unit_rms(signals: Signals) -> Signals:
    signals = _finite(signals)
    centred = signals - signals.mean(-1, keepdims=True)
    rms = np.sqrt(np.mean(centred**2, axis=-1, keepdims=True))
    return centred / np.maximum(rms, np.finfo(np.float64).tiny)


def _clip(ratio: Tensor) -> Tensor:
    return ratio.clamp(-CEILING_DB, CEILING_DB)


def _level_db(signal: Signals) -> float:
    return 10 * math.log10(float(np.mean(signal**2)))
