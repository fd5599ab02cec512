"""How many voices are found in validation recordings, and the weights by which that is decided, fitted anew.

    python benchmarks/voice_count.py --cache heard --speech SPEECH/metadata.csv --noise NOISE/metadata.csv
        --rooms ROOMS/metadata.csv [--other POLISH/metadata.csv]... [--recordings 24] [--detector FOLDER]

The recordings are corpora `conversations` of the split val; no weights are fitted to those of --other. The
networks hear them as in `polsess separate`. What they hear is kept in the folder of --cache, by networks,
thresholds of regions and recordings, so that a run that was stopped goes on; after a change of the code that
makes pieces, name another folder.

Printed are the table of docs/conversations.md, then weights by a logistic regression and what would be found
with them: in each eighth of the recordings with those of the others, in --other with those of all.

Shapes: N pieces, S voices, P pairs of voices.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from polsess.checkpoints import load_model
from polsess.data import Corpus, Example, Split, create_corpus, parse_corpus_config
from polsess.diarization.clustering import (
    WEIGHTS,
    Pieces,
    Weights,
    heard_enough,
    list_evidence,
    list_partitions,
)
from polsess.diarization.regions import cut_pieces
from polsess.diarization.settings import GateConfig, speaker_range
from polsess.files import atomic_path
from polsess.inference.hearing import Hearing
from polsess.inference.recordings import open_recording
from polsess.inference.separator import DETECTOR, EMBEDDER, ENHANCER, open_listeners
from polsess.inference.stitching import Spools
from polsess.inference.voices import count_voices, hear, hear_pieces
from polsess.machine import load_average, processor_details
from polsess.models import ActivityDetector, SeparationModel, SpeakerEmbedder
from polsess.pace import Pace, in_words
from polsess.tasks import Task
from polsess.text_tables import markdown
from polsess.timelines import activity

RATE = 8000
FOLDS = 8
"""Parts of the recordings in the cross-validation."""
_MOST_PARTED, _ROUNDS, _RIDGE = 8, 4, 0.001
"""Of the fit: most voices of a partition, how often its most alike pair is chosen anew, and the penalty of
squared weights, standardised, relative to the number of kinds."""


@dataclass(frozen=True)
class Kind:
    """Recordings that are alike."""

    name: str
    row: str
    """Of the table."""
    voices: int
    overlap: tuple[float, float] = (0.0, 0.0)
    surroundings: str = "none"
    """A key of ``list_surroundings``."""
    seconds: int = 60
    recordings: int = 24
    seed: int = 21
    fitted: bool = True
    """Whether weights are fitted to them."""


KINDS = (
    Kind("one", "one", 1),
    Kind("one-30s", "one", 1, seconds=30, recordings=12, seed=33),
    Kind("one-10db", "one, noise, rooms", 1, surroundings="10db"),
    Kind("one-noisy", "one, noise, rooms", 1, (0.0, 0.0), "noisy", recordings=12, seed=33),
    Kind("two-0", "two", 2),
    Kind("two-5", "two", 2, (0.05, 0.05)),
    Kind("two-15", "two", 2, (0.15, 0.15)),
    Kind("two-30s", "two, 30 s", 2, (0.0, 0.2), seconds=30, recordings=12, seed=33),
    Kind("two-150s", "two, 150 s", 2, (0.0, 0.2), seconds=150, recordings=12, seed=33),
    Kind("two-10db", "two, noise, rooms", 2, (0.15, 0.15), "10db"),
    Kind("two-noisy", "two, noise, rooms", 2, (0.03, 0.2), "noisy", recordings=12, seed=33),
    Kind("three-0", "three", 3),
    Kind("three-5", "three", 3, (0.05, 0.05)),
    Kind("three-15", "three", 3, (0.15, 0.15)),
    Kind("three-noisy", "three, noise, rooms", 3, (0.03, 0.2), "noisy", recordings=12, seed=33),
    Kind("four", "four", 4, (0.0, 0.2), recordings=12, seed=33),
    *(
        Kind(f"{name}-300s", f"{name}, 5 min", voices, (0.0, 0.1), seconds=300, recordings=6, seed=41)
        for name, voices in (("three", 3), ("four", 4), ("six", 6), ("eight", 8))
    ),
    Kind("five-noisy", "five, 5 min, noise, rooms", 5, (0.0, 0.1), "noisy", 300, recordings=6, seed=41),
)


def other_kinds(name: str) -> tuple[Kind, ...]:
    """Those of voices that no fit sees."""
    kinds = (
        Kind(f"{name}-one", f"{name}, one", 1, recordings=16),
        Kind(f"{name}-two", f"{name}, two", 2, (0.0, 0.12), recordings=16),
        Kind(f"{name}-three", f"{name}, three", 3, (0.0, 0.12), recordings=16),
        Kind(f"{name}-four", f"{name}, four, 10 min", 4, (0.0, 0.1), seconds=600, recordings=6),
    )
    return tuple(replace(kind, seed=7, fitted=False) for kind in kinds)


def list_surroundings(noise: Path, rooms: Path) -> dict[str, dict[str, Any]]:
    """Options of the corpus, by name."""
    room = {"source": str(rooms), "target": "reverberant"}
    often = {"source": str(noise), "snr_range_db": [5.0, 20.0]}
    return {
        "none": {},
        "10db": {"noise": [often | {"snr_range_db": [10.0, 10.0]}], "rooms": room},
        "noisy": {"noise": [often], "rooms": room | {"probability": 0.5}},
    }


def list_corpora(
    speech: Path, others: Sequence[Path], surroundings: dict[str, dict[str, Any]]
) -> list[tuple[Kind, dict[str, Any]]]:
    """All kinds, each with the configuration of its corpus."""

    def corpus(kind: Kind, metadata: Path) -> tuple[Kind, dict[str, Any]]:
        options = {
            "corpus_type": "conversations",
            "sample_rate": RATE,
            "metadata": str(metadata),
            "num_speakers": kind.voices,
            "overlap_range": list(kind.overlap),
            "conversation_seconds": kind.seconds,
            "evaluation_examples": kind.recordings,
        }
        return kind, options | surroundings[kind.surroundings]

    theirs = [corpus(kind, path) for path in others for kind in other_kinds(path.stem)]
    return [*(corpus(kind, speech) for kind in KINDS), *theirs]


@dataclass(frozen=True)
class Heard:
    """What the networks hear in a recording, and what is true."""

    kind: Kind
    pieces: Pieces
    sure_overlap: float
    talk: NDArray[np.float64]
    """Seconds of each voice in each piece ``[N, S]``."""

    def save(self, path: Path) -> None:
        """Write all but the kind."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, sure_overlap=self.sure_overlap, talk=self.talk, **asdict(self.pieces))

    @classmethod
    def load(cls, path: Path, kind: Kind) -> Heard:
        """What was written."""
        with np.load(path, allow_pickle=False) as stored:
            pieces = Pieces(*(stored[each] for each in ("embeddings", "seconds", "pauses", "several")))
            return cls(kind, pieces, float(stored["sure_overlap"]), stored["talk"])


def listen(hearing: Hearing, example: Example, kind: Kind) -> Heard:
    """Hear a conversation as ``polsess separate`` does."""
    config = GateConfig()
    with open_recording(example.mixture, RATE) as recording, contextlib.ExitStack() as stack:
        gain = recording.working_gain("mix")
        heard = hear(hearing, recording, "mix", RATE, gain, Spools(stack), config, lambda _: None)
        frames = cut_pieces(heard.regions, heard.probabilities, config.regions)
        if not frames:
            raise SystemExit(f"{kind.name}, {example.identifier}: expected talk, the detector hears none.")
        pieces = hear_pieces(hearing, heard, frames, lambda _: None)
    assert example.timeline is not None  # conversations have one
    hop = heard.regions.hop_seconds
    active = activity(example.timeline, example.speakers[: kind.voices], len(heard.probabilities), hop)
    talk = np.stack([active[:, first:last].sum(1) for first, last in frames]) * hop
    return Heard(kind, pieces, heard.regions.sure_overlap, talk)


class Networks(NamedTuple):
    """What listens.

    Attributes:
        detector: Says how many talk.
        embedder: Says whose voice it is.
        enhancer: Both hear through it.
    """

    detector: ActivityDetector
    embedder: SpeakerEmbedder
    enhancer: SeparationModel


def hear_all(
    corpora: Sequence[tuple[Kind, dict[str, Any]]], most: int, cache: Path, networks: Networks
) -> list[Heard]:
    """What is heard in the recordings of each kind, at most so many of each."""
    hearing = Hearing(open_listeners(torch.device("cpu"), **networks._asdict()), RATE)
    weights = hashlib.sha256()
    for network in networks:
        for tensor in network.state_dict().values():
            weights.update(tensor.numpy().tobytes())
    start, pace, num_heard, heard = time.monotonic(), Pace(), 0, []
    for number, (kind, options) in enumerate(corpora, 1):
        heard_by = [weights.hexdigest(), asdict(GateConfig().regions), options, kind.seed]
        key = hashlib.sha256(json.dumps(heard_by).encode()).hexdigest()
        corpus: Corpus | None = None
        for index in range(min(most, kind.recordings)):
            file = cache / f"{kind.name}-{key[:12]}" / f"{index:03d}.npz"
            if not file.exists():
                corpus = corpus or create_corpus(parse_corpus_config(options), Split.VAL, Task.SB, kind.seed)
                listen(hearing, corpus.example(0, index), kind).save(file)
                num_heard += 1
            heard.append(Heard.load(file, kind))
            if pace.is_due(elapsed := time.monotonic() - start):
                where = f"kind {number} of {len(corpora)}, {kind.name}"
                print(f"heard {num_heard} recordings in {in_words(elapsed)}; {where}", flush=True)
    return heard


Rule = tuple[Weights, float]
"""Weights of the evidence, and the sum of it from which two voices are one (``GateConfig.same_voice``)."""


class Found(NamedTuple):
    """How a recording was parted.

    Attributes:
        kind: Of the recording.
        difference: Voices found less voices there are.
        wrong: Share of the talk in the pieces that is of another voice.
        given: The same with the number of voices given.
    """

    kind: Kind
    difference: int
    wrong: float
    given: float


def find(heard: Heard, rule: Rule | None = None) -> Found:
    """Find the voices of a recording by a rule, or as shipped."""
    config, weights = GateConfig(), WEIGHTS
    if rule is not None:
        weights, config = rule[0], replace(config, same_voice=rule[1])
    difference, shares = 0, []
    for asked in (heard.kind.voices, None):
        labels, centroids = count_voices(
            heard.pieces, heard.sure_overlap, speaker_range(asked), config, weights
        )
        difference = len(centroids) - heard.kind.voices
        held = np.stack([heard.talk[labels == voice].sum(0) for voice in range(len(centroids))])
        right = held[linear_sum_assignment(held, maximize=True)].sum()
        shares.append(float(1 - right / held.sum()))
    given, wrong = shares
    return Found(heard.kind, difference, wrong, given)


@dataclass(frozen=True)
class Parted:
    """A partition of which the fit learns."""

    recording: int
    kind: str
    evidence: NDArray[np.float64]
    """``[P, 5]``."""
    apart: bool
    """Whether there are as many voices."""


def list_parted(recordings: Sequence[Heard]) -> list[Parted]:
    """The partitions of all recordings into two voices and more that the evidence decides on."""
    found = []
    for number, heard in enumerate(recordings):
        pieces = heard.pieces
        for centroids in list_partitions(pieces.embeddings, pieces.seconds, _MOST_PARTED, pieces.pauses):
            labels = (pieces.embeddings @ centroids.T).argmax(1)
            if len(centroids) == 1 or len(np.unique(labels)) < len(centroids):
                continue
            if heard_enough(pieces.seconds, labels):
                evidence = list_evidence(pieces, labels, heard.sure_overlap)
                found.append(Parted(number, heard.kind.name, evidence, len(centroids) <= heard.kind.voices))
    return found


def fit(parted: Sequence[Parted]) -> Rule:
    """The rule that best tells right partitions, by the pair of each that is most alike to it.

    Each kind counts as much as any other.
    """
    weights, limit = WEIGHTS, 0.0
    apart = np.array([each.apart for each in parted], np.float64)
    numbers = Counter(each.kind for each in parted)
    counts = np.array([1 / numbers[each.kind] for each in parted])
    for _ in range(_ROUNDS):
        pairs = [each.evidence[(each.evidence @ weights).argmax()] for each in parted]
        slopes, bias = regress(np.array(pairs), apart, counts)
        weights, limit = slopes / slopes[0], -bias / slopes[0]
    return weights, float(limit)


def regress(
    evidence: NDArray[np.float64], truth: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[Weights, float]:
    """Weights and bias of a logistic regression with a ridge, by Newton's method.

    Args:
        evidence: ``[M, 5]``.
        truth: 0 or 1, ``[M]``.
        counts: How much each counts ``[M]``.
    """
    mean, spread = evidence.mean(0), evidence.std(0) + 1e-9
    inputs = np.column_stack([(evidence - mean) / spread, np.ones(len(evidence))])
    ridge = _RIDGE * counts.sum() * np.append(np.ones(evidence.shape[1]), 0.0)
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-(inputs @ weights)))
        curvature = (inputs * (counts * likely * (1 - likely))[:, None]).T @ inputs + np.diag(ridge + 1e-6)
        weights -= np.linalg.solve(curvature, inputs.T @ (counts * (likely - truth)) + ridge * weights)
    slopes = weights[:-1] / spread
    return slopes, float(weights[-1] - slopes @ mean)


def cross_validate(recordings: Sequence[Heard]) -> tuple[list[Rule], Rule]:
    """For each recording the rule fitted to the other parts, and that fitted to all."""
    parted = list_parted(recordings)
    part_of = np.random.default_rng(1).permutation(len(recordings)) % FOLDS
    rules = [fit([each for each in parted if part_of[each.recording] != part]) for part in range(FOLDS)]
    return [rules[part] for part in part_of], fit(parted)


def draw_table(found: Sequence[Found]) -> str:
    """The table of docs/conversations.md."""
    header = ("voices", "recordings", "too few found", "too many", "time with another voice [%]", "given")
    rows = []
    for row in dict.fromkeys(each.kind.row for each in found):
        chosen = [each for each in found if each.kind.row == row]
        numbers = len(chosen), *(sum(sign * each.difference > 0 for each in chosen) for sign in (-1, 1))
        shares = (np.mean([each[place] for each in chosen]) for place in (2, 3))
        rows.append([row, *map(str, numbers), *(f"{100 * share:.1f}" for share in shares)])
    return markdown(header, rows)


def mean_over_kinds(found: Sequence[Found]) -> str:
    """Time with another voice in the mean over the kinds, each as much as any other."""
    said = []
    for fitted, name in ((True, "those that weights are fitted to"), (False, "the others")):
        kinds: dict[str, list[Found]] = {}
        for each in found:
            if each.kind.fitted == fitted:
                kinds.setdefault(each.kind.name, []).append(each)
        if kinds:
            shares = np.mean(
                [np.mean([each[2:] for each in group], axis=0) for group in kinds.values()], axis=0
            )
            wrong, given = 100 * shares
            said.append(f"{wrong:.2f} % ({given:.2f} % given) over {len(kinds)} kinds of {name}")
    return "; ".join(said)


def main() -> None:
    """Hear, score and fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is heard")
    parser.add_argument("--speech", type=Path, required=True, help="clips with path, speaker, sex, split")
    parser.add_argument("--noise", type=Path, required=True, help="as in the corpus's noise.source")
    parser.add_argument("--rooms", type=Path, required=True, help="as in the corpus's rooms.source")
    parser.add_argument("--other", type=Path, action="append", default=[], help="clips that no fit sees")
    parser.add_argument("--recordings", type=int, default=24, help="most of each kind")
    parser.add_argument("--detector", default=DETECTOR, help="name or folder, likewise the others")
    parser.add_argument("--embedder", default=EMBEDDER)
    parser.add_argument("--enhancer", default=ENHANCER)
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = Networks(
        load_model(options.detector, kind=ActivityDetector),
        load_model(options.embedder, kind=SpeakerEmbedder),
        load_model(options.enhancer, kind=SeparationModel),
    )
    print(f"{processor_details()}; load {load_average()}; one thread", flush=True)
    corpora = list_corpora(options.speech, options.other, list_surroundings(options.noise, options.rooms))
    heard = hear_all(corpora, options.recordings, options.cache, networks)
    shipped = [find(each) for each in heard]
    print(f"\n{draw_table(shipped)}\n\nas shipped: {mean_over_kinds(shipped)}", flush=True)
    seen = [each for each in heard if each.kind.fitted]
    rules, (weights, same_voice) = cross_validate(seen)
    fitted = [find(*pair) for pair in zip(seen, rules, strict=True)]
    fitted += [find(each, (weights, same_voice)) for each in heard if not each.kind.fitted]
    print(f"\nfitted: weights {weights.round(3).tolist()}, same_voice {same_voice:.3f}")
    print(f"\n{draw_table(fitted)}\n\nas fitted: {mean_over_kinds(fitted)}")


if __name__ == "__main__":
    main()
