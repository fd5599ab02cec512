"""Evaluation of utterances by mir_eval, pesq and pystoi against the scores of polsess, on the same signals.

    python benchmarks/scores.py [--utterances 12] [--seconds 4] [--rounds 3] [--workers 2]

Needs `pip install mir_eval pesq pystoi`. The usual loop is `mir_eval.separation.bss_eval_sources` with its
search for the permutation, then PESQ and STOI of each source, and SDR of the mixture for the improvement.
The scores must agree before anything is timed. Both take turns; CPU seconds of one thread, and the wall clock
of worker processes beside the usual loop, which has none.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from polsess.audio import Samples, read_audio
from polsess.data.mini import MIXTURES
from polsess.machine import load_average, processor_details
from polsess.metrics.pool import Job, ScorePool
from polsess.metrics.scores import score_utterance

METRICS = ("sdr", "pesq", "stoi")
TOLERANCE = {"sdr": 0.01, "sdri": 0.01, "pesq": 0.01, "stoi": 0.001}
RATE = 8000
Utterance = tuple[Samples, Samples, Samples]
"""Estimates ``[C, T]``, references ``[C, T]``, mixture ``[T]``."""


def usual_scores(estimates: Samples, references: Samples, mixture: Samples) -> dict[str, tuple[float, ...]]:
    """What the usual loop gives, by column and reference."""
    from mir_eval import separation
    from pesq import pesq
    from pystoi import stoi

    sdr, _, _, order = separation.bss_eval_sources(references, estimates, compute_permutation=True)
    both = np.stack([mixture] * len(references))
    before, _, _, _ = separation.bss_eval_sources(references, both, compute_permutation=False)
    pairs = [(references[source], estimates[place]) for source, place in enumerate(order)]
    return {
        "sdr": tuple(sdr),
        "sdri": tuple(sdr - before),
        "pesq": tuple(pesq(RATE, reference, estimate, "nb") for reference, estimate in pairs),
        "stoi": tuple(stoi(reference, estimate, RATE) for reference, estimate in pairs),
    }


def create_utterances(count: int, seconds: float) -> list[Utterance]:
    """Cuts of the bundled mixtures with estimates in which the sources leak and something is missing."""
    random, length = np.random.default_rng(0), round(seconds * RATE)
    found = [
        np.stack([read_audio(folder / f"{name}.flac")[0][0].numpy() for name in ("s1", "s2")])
        for folder in sorted((MIXTURES / "8k").iterdir())
    ]
    utterances = []
    for number in range(count):
        whole = found[number % len(found)]
        turned = np.roll(whole, random.integers(0, whole.shape[-1]), -1)
        references = np.resize(turned.T, (length, 2)).T.copy()
        leaking = np.array([[0.1, 0.95], [0.9, 0.15]], np.float32) @ references  # in the other order
        noise = 0.02 * references.std() * random.standard_normal(references.shape, np.float32)
        utterances.append((leaking + noise, references, references.sum(0)))
    return utterances


def check(utterances: list[Utterance]) -> None:
    """End where the scores disagree."""
    for number, utterance in enumerate(utterances):
        usual, ours = usual_scores(*utterance), score_utterance(*utterance, RATE, METRICS).values
        for column, tolerance in TOLERANCE.items():
            difference = np.abs(np.subtract(usual[column], ours[column])).max()
            if not difference <= tolerance:
                raise SystemExit(f"utterance {number}, {column}: {usual[column]} against {ours[column]}.")


def time_both(run: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of each, the median of rounds in which they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in run}
    for number in range(rounds):
        for name in run if number % 2 == 0 else reversed(run):
            start = clock()
            run[name]()
            taken[name].append(clock() - start)
    return [statistics.median(each) for each in taken.values()]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--utterances", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    utterances = create_utterances(options.utterances, options.seconds)
    check(utterances)
    jobs = [Job(number, utterance) for number, utterance in enumerate(utterances)]

    def usual() -> None:
        for utterance in utterances:
            usual_scores(*utterance)

    print(
        f"{processor_details()}; load {load_average()}; {len(utterances)} of {options.seconds:g} s, 2 sources"
    )
    for workers, clock in ((0, time.process_time), (options.workers, time.perf_counter)):
        with ScorePool(workers, RATE, METRICS) as pool:
            list(pool.map(jobs[: max(1, workers)]))  # the processes start
            ours = partial(lambda pool: list(pool.map(jobs)), pool)
            theirs, mine = time_both({"usual": usual, "polsess": ours}, options.rounds, clock)
        unit = "wall clock" if workers else "CPU"
        print(
            f"{unit}, {workers} workers: usual {1000 * theirs / len(utterances):.1f} ms an utterance, "
            f"polsess {1000 * mine / len(utterances):.1f} ms: {theirs / mine:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
