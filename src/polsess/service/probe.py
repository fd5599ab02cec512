"""A process that looks into uploaded files, so that a decoder that falls over one takes nothing with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polsess.audio import AudioError, read_audio_info
from polsess.workers import serve

_FOREIGN = ("is not a WAV", "is not read")
"""What the reasons say of files that are no sound, or that no decoder here reads."""


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """The facts of a sound file, or why it is none."""
    try:
        info = read_audio_info(Path(request["path"]))
    except AudioError as error:
        foreign = any(words in error.cause for words in _FOREIGN)
        return {"refused": error.cause, "status": 415 if foreign else 422}
    return {
        "sample_rate": info.sample_rate,
        "channels": info.num_channels,
        "seconds": info.duration_seconds,
        "container": info.container,
    }


if __name__ == "__main__":
    serve({"probe": probe})
