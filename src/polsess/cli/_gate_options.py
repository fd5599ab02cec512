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
