"""Options about the gate and the number of voices that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import typer

GATE = {"--gate", "--speakers", "--detector", "--embedder", "--enhancer"}

Gate = Annotated[
    Literal["auto", "never", "always"],
    typer.Option(
        help="Separate only where several talk, and pass through what one says alone: always; never; or "
        "auto, unless too little is said alone to know the voices by. Models with one output never do.",
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
Detector = Annotated[
    str | None,
    typer.Option(
        help="Network that says how many talk, in place of the bundled one: a name, a folder or a file of "
        "`polsess train` with task OSD; with an ONNX model a file of polsess export.",
        rich_help_panel="Separation",
    ),
]
Embedder = Annotated[
    str | None,
    typer.Option(
        help="Network that says whose voice it is, in place of the bundled one: a name, a folder, or any "
        "ONNX file from samples [1, T] to an embedding [1, D] with sample_rate in its metadata.",
        rich_help_panel="Separation",
    ),
]

Enhancer = Annotated[
    str | None,
    typer.Option(
        help="Network that takes noise and rooms out of what detector and embedder hear, in place of the "
        "bundled one: a name, a folder or a file, or none for the recording as it is.",
        rich_help_panel="Separation",
    ),
]


def listeners(detector: str | None, embedder: str | None, enhancer: str | None) -> Mapping[str, str]:
    """The networks that are named, as options of a separator."""
    given = {"detector": detector, "embedder": embedder, "enhancer": enhancer}
    return {option: network for option, network in given.items() if network is not None}
