"""Options about the gate and the number of voices that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Gate = Annotated[
    Literal["auto", "never", "always"],
    typer.Option(
        help="Separate only where several talk, and pass through what one says alone: always; never; or "
        "auto, unless several talk throughout. Models with one output never do.",
        rich_help_panel="Separation",
    ),
]
Speakers = Annotated[
    str,
    typer.Option(
        help="Number of voices, e.g. 2, or the fewest and the most, e.g. 2-4, or auto to find it.",
        rich_help_panel="Separation",
    ),
]


def parse_speakers(speakers: str) -> int | tuple[int, int] | None:
    """The value of ``--speakers``: a number, two of them, or None for ``auto``.

    Raises:
        ValueError: If it is none of these.
    """
    if speakers == "auto":
        return None
    fewest, dash, most = speakers.partition("-")
    if not fewest.isdecimal() or (dash and not most.isdecimal()):
        raise ValueError(
            f"speakers: expected a number, e.g. 2, a range, e.g. 2-4, or auto, got {speakers!r}."
        )
    return (int(fewest), int(most)) if dash else int(fewest)
