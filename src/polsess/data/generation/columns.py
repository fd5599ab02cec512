"""The columns of a corpus's CSV: the original's 34, fewer or more with one or three speakers."""

from __future__ import annotations

_REVERB_NUMBERS = ("highCut", "diffusion", "decay", "freqDamp")


def list_columns(speakers: int) -> tuple[str, ...]:
    """All columns in their order; with two speakers exactly the original's, its spelling included."""
    numbers = range(1, speakers + 1)
    levels = tuple("SSR" if n == 2 else f"SSR{n}" for n in numbers[1:])
    return (
        "subset",
        *(f"speech{n}{part}" for n in numbers for part in ("OryginalPath", "Start", "End")),
        *levels,
        *("sceneOryginalPath", "sceneStart", "sceneEnd", "sceneRandomDB", "sceneOffsetDB", "sceneVolumeGain"),
        *("eventOryginalPath", "eventStart", "eventEnd"),
        *(f"speaker{n}File" for n in numbers),
        *("eventFile", "sceneFile"),
        *(f"reverbForSpeaker{n}" for n in numbers),
        *("reverbForEvent", "mixFile", "sceneClass", "eventClass", "preDelayForEvent"),
        *(f"preDelay{n}" for n in numbers),
        *_REVERB_NUMBERS,
    )


def is_reverb_number(column: str) -> bool:
    """Whether a column holds a number that outdoor rows do not have."""
    return column in _REVERB_NUMBERS or column.startswith("preDelay")
