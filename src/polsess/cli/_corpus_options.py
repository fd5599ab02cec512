"""Options of several commands about the corpus that they read."""

from __future__ import annotations

from typing import Annotated

import typer

MaxBad = Annotated[
    str | None,
    typer.Option(
        "--max-bad",
        metavar="SHARE",
        help="Recordings that may be unusable, e.g. 1%: they are listed and left out; more stop the command.",
        show_default=False,
    ),
]


def max_bad_override(share: str | None, corpus: str = "data.corpus") -> list[str]:
    """The option as ``key=value`` pairs.

    Args:
        share: What the user wrote; None for what the configuration says.
        corpus: The key of the corpus.
    """
    return [] if share is None else [f"{corpus}.max_bad={share}"]
