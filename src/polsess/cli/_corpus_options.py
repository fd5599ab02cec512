"""Options about a corpus that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

MaxBad = Annotated[
    str | None,
    typer.Option(
        "--max-bad",
        metavar="SHARE",
        help="Largest share of unusable recordings, e.g. 1%; they are reported and left out.",
        show_default=False,
        rich_help_panel="Data",
    ),
]


def max_bad_override(share: str | None, corpus: str = "data.corpus") -> list[str]:
    """Convert the option to ``key=value`` pairs.

    Args:
        share: Value of the option; None keeps that of the configuration.
        corpus: Key of the corpus.
    """
    return [] if share is None else [f"{corpus}.max_bad={share}"]
