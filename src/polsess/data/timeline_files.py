"""Timelines of stored mixtures: RTTM files, checked against their recordings.

Shapes: C sources, T samples.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from polsess.text_tables import counted
from polsess.timelines import Timeline, TimelineError, activity, list_speakers, read_rttm, sorted_timeline

_FRAME_SECONDS = 0.01
_AUDIBLE_DB = 50.0
"""A reference this far below the mixture is silent: in its speaker's turns, or without any in all of it."""
_INSIDE = 0.5
"""Share of a speaker's energy that lies within the speaker's turns at least."""


def timeline_path(mixture: Path) -> Path:
    """The RTTM file beside a mixture."""
    return mixture.with_suffix(".rttm")


def transcript_path(mixture: Path) -> Path:
    """The STM file beside a mixture."""
    return mixture.with_suffix(".stm")


def read_timeline(path: Path, names: Collection[str], seconds: float) -> Timeline:
    """The turns of one recording.

    Args:
        path: An RTTM file.
        names: What its second field may call the recording.
        seconds: Length of the recording.

    Raises:
        TimelineError: If a line is wrong, or of another recording; the message names file and line.
    """
    timelines = read_rttm(path, recordings=names, seconds=seconds).values()
    return sorted_timeline(turn for timeline in timelines for turn in timeline)


def match_speakers(
    timeline: Timeline, references: Tensor, mixture: Tensor, sample_rate: int, path: Path
) -> tuple[str, ...]:
    """The speaker of each reference; empty for references that are silent.

    Those called s1, s2 ... are the references of these names; otherwise speakers and references are matched
    by the energy within the turns.

    Args:
        timeline: Turns of the recording.
        references: ``[C, T]``.
        mixture: ``[T]``.
        sample_rate: In Hz.
        path: File of the timeline, for messages.

    Raises:
        TimelineError: If the turns do not fit the references.
    """
    speakers, count = list_speakers(timeline), len(references)
    if len(speakers) > count:
        raise TimelineError(
            f"{path}: names {len(speakers)} speakers ({', '.join(speakers)}), the recording has "
            f"{counted(count, 'reference')}."
        )
    hop = max(1, round(_FRAME_SECONDS * sample_rate))
    num_frames = references.shape[-1] // hop
    frames = (each[: num_frames * hop].unflatten(-1, (-1, hop)) for each in (*references, mixture))
    energies = np.stack([each.double().square().sum(-1).numpy() for each in frames])  # [C + 1, L]
    total, least = energies.sum(-1), 10 ** (-_AUDIBLE_DB / 10)
    inside = activity(timeline, speakers, num_frames, hop / sample_rate) @ energies.T  # [S, C + 1]
    heard = inside[:, :-1] > least * inside[:, -1:]
    share = np.where(heard, inside[:, :-1] / np.where(total > 0, total, 1)[:-1], 0)
    rows, columns = linear_sum_assignment(share, maximize=True)
    if set(speakers) <= {f"s{number}" for number in range(1, count + 1)}:
        columns = np.array([int(name[1:]) - 1 for name in speakers], dtype=np.intp)
    audible = total[:-1] > least * total[-1]
    audible[columns] |= heard[rows, columns]  # who says little is silent for nearly the whole recording
    if unnamed := int(audible.sum()) - len(speakers):
        sounding = counted(int(audible.sum()), "reference")
        raise TimelineError(
            f"{path}: names {counted(len(speakers), 'speaker')}, but {sounding} "
            f"{'is' if audible.sum() == 1 else 'are'} not silent"
            f"{'; is it of another recording?' if unnamed > 0 else '.'}"
        )
    names = [""] * count
    for row, column in zip(rows, columns, strict=True):
        if share[row, column] < _INSIDE:
            raise TimelineError(
                f"{path}: only {100 * share[row, column]:.0f} % of a reference sounds within the turns of "
                f"'{speakers[row]}'; is it of another recording?"
            )
        names[column] = speakers[row]
    return tuple(names)
