"""The layers of a PolSESS mixture: their folders, and the choice of layers by variant and task.

MM-IPC (Mix Modification by Inverted Phase Cancellation) makes easier mixtures by subtracting layers. The
letters of a variant name the layers that remain: S scene, E event, R reverberation, C none of them. Source:
the PolSESS corpus and its generator. Corpora of one or three speakers follow the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from polsess.tasks import SEPARATION_TASKS, Task

MAX_SPEAKERS = 3
_NUMBERS = range(1, MAX_SPEAKERS + 1)

INDOOR_VARIANTS = ("SER", "SR", "ER", "R", "C_in")
OUTDOOR_VARIANTS = ("SE", "S", "E", "C_out")
VARIANTS = (*INDOOR_VARIANTS, *OUTDOOR_VARIANTS)
"""All variants; C, the dry speakers alone, is counted separately for indoors and outdoors."""

FOLDERS = {
    "mixFile": "mix",
    **{f"speaker{n}File": "clean" for n in _NUMBERS},
    "sceneFile": "scene",
    "eventFile": "event",
    **{f"reverbForSpeaker{n}": f"sp{n}_reverb" for n in _NUMBERS},
    "reverbForEvent": "ev_reverb",
}
"""The folder of each column's files."""

ROLES = {
    **{f"speaker{n}File": f"speaker{n}" for n in _NUMBERS},
    **{f"reverbForSpeaker{n}": f"speaker{n}" for n in _NUMBERS},
    "sceneFile": "scene",
    "eventFile": "event",
    "reverbForEvent": "event",
}
"""The source that each layer belongs to."""


def speaker_files(num_speakers: int) -> tuple[str, ...]:
    """The columns of the dry speakers."""
    return tuple(f"speaker{n}File" for n in range(1, num_speakers + 1))


def speaker_reverbs(num_speakers: int) -> tuple[str, ...]:
    """The columns of the speakers' reverberation."""
    return tuple(f"reverbForSpeaker{n}" for n in range(1, num_speakers + 1))


def expand_variants(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of variants with ``C`` replaced by its two kinds, without repetition.

    Raises:
        ValueError: If a name is unknown.
    """
    expanded = [kind for name in names for kind in (("C_in", "C_out") if name == "C" else (name,))]
    if unknown := [name for name in expanded if name not in VARIANTS]:
        raise ValueError(f"unknown variant '{unknown[0]}'; known: C, {', '.join(VARIANTS)}.")
    return tuple(dict.fromkeys(expanded))


def variants_of(indoor: bool) -> tuple[str, ...]:
    """Variants of a mixture by its location."""
    return INDOOR_VARIANTS if indoor else OUTDOOR_VARIANTS


def tasks_of(num_speakers: int) -> frozenset[Task]:
    """Tasks that suit mixtures with a number of speakers."""
    return (frozenset({Task.ES}) if num_speakers == 1 else SEPARATION_TASKS) | {Task.OSD}


@dataclass(frozen=True)
class Recipe:
    """The layers of one example, and their sums."""

    subtract: tuple[str, ...]
    """Columns of the layers that are subtracted from the mixture."""
    references: tuple[tuple[str, ...], ...]
    """Columns that are summed to each reference."""


@lru_cache(maxsize=256)
def create_recipe(
    task: Task, variant: str, *, indoor: bool, reverberant: bool, num_speakers: int = 2
) -> Recipe:
    """The layers that a variant needs under a task, and no others."""
    kept = variant.split("_")[0]
    files, reverbs = speaker_files(num_speakers), speaker_reverbs(num_speakers)
    subtract = [] if "S" in kept else ["sceneFile"]
    if "E" not in kept:
        subtract += ["eventFile", "reverbForEvent"] if indoor else ["eventFile"]
    if indoor and "R" not in kept:
        subtract += reverbs
    if task is Task.ES:
        subtract += files[1:]
        if indoor and "R" in kept:
            subtract += reverbs[1:]
    with_reverb = reverberant and indoor and "R" in kept
    pairs = zip(files, reverbs, strict=True)
    voices: list[tuple[str, ...]] = [names if with_reverb else names[:1] for names in pairs]
    if task is Task.EB:
        voices = [tuple(name for names in voices for name in names)]
    return Recipe(tuple(subtract), tuple(voices[: task.num_sources(len(voices))]))
