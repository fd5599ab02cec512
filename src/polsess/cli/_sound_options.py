"""Options of the commands that separate recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

PICTURE_SECONDS = 60
"""Length of the pictures of ``--spectrograms``."""

Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="Sound files, or folders that are searched with their sub-folders; - is stdin.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "-o",
        "--out",
        help="Folder of the outputs, made if needed; - writes one file to stdout, a channel per speaker.",
        rich_help_panel="Outputs",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        help="Weights: folder, file, hub id, a bundled model (default, enhance-one, enhance-both, each "
        "also with -16k; default-streaming, enhance-one-streaming), or an ONNX file of polsess export, "
        "which needs no torch.",
        rich_help_panel="Separation",
    ),
]
Models = Annotated[
    list[str],
    typer.Option(
        "-m",
        "--model",
        help="Weights: folder, file, hub id, or a bundled model (default, enhance-both-16k, ...). Given "
        "several times, the models are averaged.",
        show_default="default",
        rich_help_panel="Separation",
    ),
]
Shifts = Annotated[
    int,
    typer.Option(
        min=1,
        help="Average over as many places of a model's frames within a hop, at as many times the cost.",
        rich_help_panel="Separation",
    ),
]
Then = Annotated[
    str | None,
    typer.Option(
        help="Another model, which takes what the first gives: one of both is an enhancer.",
        rich_help_panel="Separation",
    ),
]
ChannelChoice = Annotated[
    Literal["mix", "each"],
    typer.Option(
        help="Separate the mean of the channels, or each channel by itself.", rich_help_panel="Separation"
    ),
]
Segment = Annotated[
    float,
    typer.Option(
        help="Longest piece that the network sees at once, in seconds; 0 for whole recordings.",
        rich_help_panel="Separation",
    ),
]
Overlap = Annotated[
    float,
    typer.Option(
        help="Share of a piece that it has in common with the next, 0 to 0.5.",
        rich_help_panel="Separation",
    ),
]
Device = Annotated[
    str, typer.Option(help="Device to run on: auto, cpu, cuda or mps.", rich_help_panel="Separation")
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        help="Type of the network's products; auto is bfloat16 where device and model are made for it.",
        rich_help_panel="Separation",
    ),
]
FileFormat = Annotated[
    Literal["wav", "flac", "ogg", "mp3"],
    typer.Option("--format", help="File format of the outputs.", rich_help_panel="Outputs"),
]
BitDepth = Annotated[
    Literal["16", "24", "32f"] | None,
    typer.Option(
        help="Bits per sample of the outputs, for wav and flac.",
        show_default="16",
        rich_help_panel="Outputs",
    ),
]
Clipping = Annotated[
    Literal["rescale", "clamp", "error"],
    typer.Option(
        help="What to do beyond full scale: make all speakers quieter, cut the peaks, or refuse.",
        rich_help_panel="Outputs",
    ),
]
Filename = Annotated[
    str,
    typer.Option(help="Pattern of the output names; may hold sub-folders.", rich_help_panel="Outputs"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing outputs.", rich_help_panel="Outputs")
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave out recordings whose outputs are all there.",
        rich_help_panel="Outputs",
    ),
]
Spectrograms = Annotated[
    bool,
    typer.Option(
        "--spectrograms",
        help=f"Draw a picture of the first {PICTURE_SECONDS} s as well.",
        rich_help_panel="Outputs",
    ),
]
TimelineFormats = Annotated[
    str,
    typer.Option(
        metavar="<elan,audacity,picture>",
        help="Files that say who speaks when, besides {track}.rttm and {track}.json: some of elan, "
        "audacity (labels) and picture, separated by commas.",
        rich_help_panel="Outputs",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print a line of JSON per recording: paths, rates, gain, seconds, or its error.",
        rich_help_panel="Outputs",
    ),
]
