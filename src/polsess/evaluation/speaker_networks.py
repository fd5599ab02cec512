"""Scores of the networks that say who speaks when, on a split of a corpus, with intervals and by condition.

Detectors: precision, recall and F1 of speech and of overlapped speech, frame by frame. Embedders: the equal
error rate of all pairs of pieces, beside that of the cepstral profile on the same pairs. Intervals hold 95 %
of the values of resampled data (bootstrap): of conversations, and of speakers (Bolle, Ratha, Pankanti (2004),
"Error analysis of pattern recognition systems: the subsets bootstrap",
https://doi.org/10.1016/j.cviu.2003.08.002).

Shapes: N items, D dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from polsess.data import Corpus
from polsess.evaluation.runner import Progress
from polsess.inference.profiles import CepstralFrames, SpeakerProfile
from polsess.metrics import Detection, EqualErrors, find_equal_errors, group_by_condition
from polsess.models import ActivityDetector, SeparationModel, SpeakerEmbedder
from polsess.schema import suggest
from polsess.training.objectives.activity import score_frames
from polsess.training.objectives.enhanced import clear

Scores = NDArray[np.float64]
Metadata = Mapping[str, str | float]
_RESAMPLINGS = 500
_UNLIKE = -1e9
EMBEDDING, CEPSTRA = "embedding", "cepstral profile"
"""The methods that are compared: cosines of embeddings, and one Gaussian of cepstra per piece."""


@dataclass(frozen=True)
class Rate:
    """A rate from 0 to 1 and its 95 % interval."""

    value: float
    low: float
    high: float


def rates_by_condition(
    network: ActivityDetector | SpeakerEmbedder,
    corpus: Corpus,
    by: Sequence[str] = (),
    *,
    enhancer: SeparationModel | None = None,
    threshold: float = 0.5,
    limit: int | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, dict[str, dict[str, Rate]]]:
    """Score a network on all items and by conditions.

    Args:
        network: A detector or an embedder, on its device.
        corpus: A split of the network's task.
        by: Keys of the metadata; one that no item has is left out, with a warning.
        enhancer: What it hears the items through, with one output, at its rate, on the CPU; None for the
            items as they are.
        threshold: Probability from which a frame counts as overlap, for detectors.
        limit: Number of items, from the first; None for all.
        progress: Called with the number of items that are done, and of all.

    Returns:
        Rates by name, by label of the group, by key; the key of all items is empty.
    """
    metadata: Sequence[Metadata]
    if isinstance(network, ActivityDetector):
        items = evaluate_detector(
            network, corpus, enhancer=enhancer, threshold=threshold, limit=limit, progress=progress
        )
        metadata = [item.metadata for item in items]
        rates_of = partial(detection_rates, items)
    else:
        trials = evaluate_embedder(network, corpus, enhancer=enhancer, limit=limit, progress=progress)
        metadata, rates_of = trials.metadata, partial(error_rates, trials)
    groups = {"": {"all": list(range(len(metadata)))}}
    for key in by:
        if chosen := group_by_condition([each.get(key) for each in metadata]):
            groups[key] = chosen
        else:
            known = dict.fromkeys(name for each in metadata for name in each)
            warnings.warn(f"by: no item has '{key}'." + suggest(key, list(known), "They have"), stacklevel=1)
    return {key: {label: rates_of(chosen) for label, chosen in each.items()} for key, each in groups.items()}


@dataclass(frozen=True)
class DetectedItem:
    """What a detector made of one recording."""

    identifier: str
    metadata: Metadata
    speech: Detection
    overlap: Detection


def evaluate_detector(
    model: ActivityDetector,
    corpus: Corpus,
    *,
    enhancer: SeparationModel | None = None,
    threshold: float = 0.5,
    limit: int | None = None,
    progress: Progress = lambda *_: None,
) -> list[DetectedItem]:
    """Compare the decisions of a detector with the timelines of a corpus.

    Args:
        model: The detector, on its device.
        corpus: A split of task OSD.
        enhancer: As in ``rates_by_condition``.
        threshold: Probability from which a frame counts as overlap.
        limit: Number of items, from the first; None for all.
        progress: Called with the number of items that are done, and of all.
    """
    device, total = next(model.parameters()).device, min(limit or len(corpus), len(corpus))
    items = []
    with torch.inference_mode():
        for index in range(total):
            example = corpus.example(0, index)
            mixture = _heard(example.mixture, enhancer).to(device)
            found = score_frames(model, mixture, example.timeline, threshold)
            items.append(DetectedItem(example.identifier, example.metadata, *found))
            progress(index + 1, total)
    return items


def _heard(mixture: torch.Tensor, enhancer: SeparationModel | None) -> torch.Tensor:
    return mixture if enhancer is None else clear(mixture[None], enhancer)[0]


def detection_rates(items: Sequence[DetectedItem], indices: Sequence[int] | None = None) -> dict[str, Rate]:
    """Precision, recall and F1 over the frames of items, by names such as ``overlap_f1``.

    Args:
        items: All recordings.
        indices: Those to count; None for all.
    """
    items = items if indices is None else [items[index] for index in indices]
    draws = _draw(len(items), _RESAMPLINGS)
    rates = {}
    for name in ("speech", "overlap"):
        each = [getattr(item, name) for item in items]
        counts = np.array([(one.found, one.invented, one.missed) for one in each])
        resampled = [Detection(*map(int, sums)) for sums in draws @ counts]
        total = sum(each, Detection())
        for rate in ("precision", "recall", "f1"):
            values = [getattr(one, rate) for one in resampled]
            rates[f"{name}_{rate}"] = _rate(getattr(total, rate), values)
    return rates


@dataclass(frozen=True)
class Trials:
    """Pieces of speech, and how alike every two of them are."""

    speakers: tuple[str, ...]
    """N names."""
    metadata: tuple[Metadata, ...]
    similarities: Mapping[str, Scores]
    """``[N, N]`` by method; more for pieces that are more alike."""


def evaluate_embedder(
    model: SpeakerEmbedder,
    corpus: Corpus,
    *,
    enhancer: SeparationModel | None = None,
    limit: int | None = None,
    progress: Progress = lambda *_: None,
) -> Trials:
    """Compare every two pieces of a corpus, by a network and by cepstra.

    Args:
        model: The embedder, on its device.
        corpus: A split of task SV.
        enhancer: As in ``rates_by_condition``.
        limit: Number of pieces, from the first; None for all.
        progress: Called with the number of pieces that are done, and of all.
    """
    total = min(limit or len(corpus), len(corpus))
    embeddings, profiles, examples = [], [], []
    for index in range(total):
        example = corpus.example(0, index)
        heard = _heard(example.mixture, enhancer)
        embeddings.append(model.embed(heard[None], corpus.config.sample_rate)[0].double().numpy())
        profiles.append(_profile(example.mixture, corpus.config.sample_rate))
        examples.append(example.metadata)
        progress(index + 1, total)
    vectors = np.stack(embeddings)
    return Trials(
        tuple(str(metadata["speakers"]) for metadata in examples),
        tuple(examples),
        {EMBEDDING: vectors @ vectors.T, CEPSTRA: _likelihood_ratios(profiles)},
    )


def error_rates(trials: Trials, indices: Sequence[int] | None = None) -> dict[str, Rate]:
    """The equal error rate by method, and the threshold where it lies as ``{method}_threshold``.

    Args:
        trials: All pieces.
        indices: Those to pair; None for all.
    """
    chosen = np.arange(len(trials.speakers)) if indices is None else np.asarray(indices)
    names, speakers = np.unique([trials.speakers[index] for index in chosen], return_inverse=True)
    first, second = np.triu_indices(len(chosen), 1)
    same = speakers[first] == speakers[second]
    draws = _draw(len(names), _RESAMPLINGS // 5)
    rates = {}
    for method, similarities in trials.similarities.items():
        scores = similarities[chosen[first], chosen[second]]
        values = [
            _resampled_error(scores, same, draw[speakers[first]], draw[speakers[second]]) for draw in draws
        ]
        found = find_equal_errors(scores, same)
        rates[method] = _rate(found.rate, [each.rate for each in values])
        rates[f"{method}_threshold"] = _rate(found.threshold, [each.threshold for each in values])
    return rates


def _draw(count: int, times: int) -> NDArray[np.int64]:
    """How often each of ``count`` is drawn in each of ``times`` resamplings."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=times)


def _rate(value: float, resampled: Sequence[float]) -> Rate:
    finite = [each for each in resampled if np.isfinite(each)]
    low, high = np.quantile(finite, [0.025, 0.975]) if finite else (np.nan, np.nan)
    return Rate(value, float(low), float(high))


def _resampled_error(scores: Scores, same: NDArray[np.bool_], first: Scores, second: Scores) -> EqualErrors:
    """The errors if each speaker had been drawn so many times; a speaker drawn twice is no other one."""
    weights = np.where(same, first, first * second)
    kept = weights > 0
    return find_equal_errors(scores[kept], same[kept], weights[kept])


def _profile(sound: torch.Tensor, sample_rate: int) -> SpeakerProfile:
    frames = CepstralFrames(sound[None].numpy(), sample_rate)
    speech = frames.speech(frames.speech_threshold(frames.loud_level()))[0]
    profile = SpeakerProfile()
    profile.add(frames.cepstra[0, speech])
    return profile


def _likelihood_ratios(profiles: Sequence[SpeakerProfile]) -> Scores:
    """How much better one Gaussian each describes two pieces than one for both, negative, per frame.

    A piece without frames of speech is like no other.
    """
    spreads = [profile.spread() for profile in profiles]
    scores = np.zeros((len(profiles), len(profiles)))
    for i, first in enumerate(profiles):
        for j in range(i):
            frames = first.num_frames, profiles[j].num_frames
            gain = (first + profiles[j]).spread() - spreads[i] - spreads[j]
            scores[i, j] = scores[j, i] = -gain / sum(frames) if min(frames) else _UNLIKE
    return scores
