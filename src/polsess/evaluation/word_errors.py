"""Word errors of conversations through MeetEval: what a recogniser hears on the tracks against what is said.

cpWER: all that a speaker says in one line, under the best assignment of tracks to speakers (Watanabe et al.
2020, https://arxiv.org/abs/2004.09249). tcpWER: the same, but words may only match within a collar of 5 s
around the time in which they are said (von Neumann et al. 2023, https://arxiv.org/abs/2307.11394). Missing
tracks are deletions, tracks too many are insertions.

Shapes: S speakers, K tracks, T samples.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polsess.audio import Samples
from polsess.data.transcripts import Transcript, plain_words
from polsess.dependencies import require
from polsess.evaluation.results import Evaluation
from polsess.evaluation.transcriber import Transcriber, TranscriberError
from polsess.metrics import WORD_ERRORS, Scores
from polsess.processes import num_processors

COLLAR_SECONDS = 5.0
_FAILED = "transcriber: "


@dataclass(frozen=True)
class WordErrors:
    """The word error rates of one recording."""

    rates: dict[str, float]
    """Errors per true word by column; not a number where there is a reason."""
    reasons: dict[str, str]
    """Reasons by column for missing rates."""

    @classmethod
    def missing(cls, reason: str) -> WordErrors:
        """No rate, for one reason."""
        return cls(dict.fromkeys(WORD_ERRORS, math.nan), dict.fromkeys(WORD_ERRORS, reason))


def with_word_errors(
    scores: Scores,
    transcriber: Transcriber,
    tracks: Samples,
    references: Samples,
    transcript: Transcript | None,
    sample_rate: int,
) -> Scores:
    """Scores with the word errors of a recording; a recogniser that fails is a reason, not an error.

    Args:
        scores: Of the recording.
        transcriber: Listens to the tracks.
        tracks: ``[K, T]``; those that are alike are one stream.
        references: ``[S, T]``.
        transcript: What is said; None to take what the recogniser hears on the references.
        sample_rate: In Hz.
    """
    start = time.perf_counter()
    try:
        truth = transcript
        if truth is None:
            truth = _listen(transcriber, references, sample_rate, "reference")
        heard = _listen(transcriber, distinct_tracks(tracks), sample_rate, "track")
        errors = count_word_errors(heard, truth)
    except TranscriberError as error:
        errors = WordErrors.missing(f"{_FAILED}{error}")
    values = {column: (100 * rate,) for column, rate in errors.rates.items()}
    return replace(
        scores,
        values={**scores.values, **values},
        reasons={**scores.reasons, **errors.reasons},
        seconds={**scores.seconds, "transcriber": time.perf_counter() - start},
    )


def reason_for_no_words(evaluation: Evaluation) -> str:
    """Why the recogniser gave the word errors of no recording at all: its first failure; else empty."""
    reasons = [row.reason("cp_wer") for row in evaluation.rows]
    failures = [reason.removeprefix(_FAILED) for reason in reasons if reason.startswith(_FAILED)]
    return failures[0] if failures and all(reasons) else ""


def distinct_tracks(tracks: Samples) -> Samples:
    """The tracks without those that are equal to an earlier one."""
    kept: list[Samples] = []
    for track in tracks:
        if not any(np.array_equal(track, other) for other in kept):
            kept.append(track)
    return np.stack(kept)


def count_word_errors(heard: Transcript, truth: Transcript) -> WordErrors:
    """CpWER and tcpWER of one recording.

    Args:
        heard: Words by track, each of its own time where the recogniser gives times.
        truth: Words by speaker.
    """
    meeteval: Any = require("meeteval", "Counting word errors")
    reference = _lines(meeteval, truth)
    if not reference:
        return WordErrors.missing("nothing is said")
    hypothesis = _lines(meeteval, heard)
    if not hypothesis:
        return WordErrors(dict.fromkeys(WORD_ERRORS, 1.0), {})
    rates, reasons = dict.fromkeys(WORD_ERRORS, math.nan), {}
    timed = {"reference": _has_times(truth), "hypothesis": _has_times(heard)}
    order = {f"{side}_sort": "segment" if has_times else False for side, has_times in timed.items()}
    (rate,) = meeteval.wer.cpwer(reference, hypothesis, **order).values()
    rates["cp_wer"] = float(rate.error_rate)
    if all(timed.values()):
        (rate,) = meeteval.wer.tcpwer(reference, hypothesis, collar=COLLAR_SECONDS).values()
        rates["tcp_wer"] = float(rate.error_rate)
    else:
        reasons["tcp_wer"] = "the transcriber gives no times of words"
    return WordErrors(rates, reasons)


def _listen(transcriber: Transcriber, sounds: Samples, sample_rate: int, kind: str) -> Transcript:
    """What is said in several sounds, each the stream of its own speaker."""

    def transcribe(number: int) -> Transcript:
        try:
            return transcriber.transcribe(sounds[number], sample_rate, f"{kind}{number + 1}")
        except TranscriberError as error:
            raise TranscriberError(f"{kind} {number + 1}: {error}") from None

    with ThreadPoolExecutor(num_processors()) as pool:
        found = list(pool.map(transcribe, range(len(sounds))))
    if sounds.any() and not any(found):
        raise TranscriberError(f"prints nothing for any {kind}")
    return tuple(segment for each in found for segment in each)


def _has_times(transcript: Transcript) -> bool:
    return all(segment.has_times for segment in transcript)


def _lines(meeteval: Any, transcript: Transcript) -> Any:
    """The transcript as MeetEval takes it; without times where some are not known."""
    has_times = _has_times(transcript)
    lines = []
    for segment in transcript:
        if words := plain_words(segment.text):
            line = {"session_id": "recording", "speaker": segment.speaker, "words": words}
            times = {"start_time": segment.start, "end_time": segment.end} if has_times else {}
            lines.append(line | times)
    return meeteval.io.SegLST(lines) if lines else []
