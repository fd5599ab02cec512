"""Options of `polsess evaluate`: data, systems, scores and results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Changes to the configuration of the data, e.g. corpus.sample_rate=8000.",
    ),
]
Data = Annotated[
    list[Path] | None,
    typer.Option(
        "-d",
        "--data",
        help="Test data: a YAML file with a corpus, the name of a recipe, a folder of "
        "<item>/{mix,s1,s2}.wav, the root of a PolSESS corpus, a manifest.csv, or a metadata.csv of clips. "
        "Repeatable.",
        rich_help_panel="Data",
    ),
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        help="Model to evaluate: a name, a folder or a file of weights in any format. Repeatable.",
        rich_help_panel="Systems",
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        help="Take all models as one: their estimates are averaged, as polsess separate does.",
        rich_help_panel="Systems",
    ),
]
Estimates = Annotated[
    Path | None,
    typer.Option(
        "--estimates",
        help="Folder of estimates to score in place of a model: <item>/<system>/s1.wav and so on.",
        rich_help_panel="Systems",
    ),
]
System = Annotated[
    list[str] | None,
    typer.Option(
        "--system",
        help="Name of a system in the folder of --estimates; all if left out. Repeatable.",
        rich_help_panel="Systems",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "-o", "--out", help="Folder for the results, written to <data>/<model>/.", rich_help_panel="Results"
    ),
]
Task = Annotated[
    Literal["ES", "EB", "SB"] | None,
    typer.Option(
        "--task",
        help="Task: ES (the first speaker), EB (the sum of the speakers) or SB (every speaker).",
        rich_help_panel="Data",
    ),
]
Split = Annotated[
    Literal["train", "val", "test"],
    typer.Option("--split", help="Split of the data to evaluate.", rich_help_panel="Data"),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="Metrics, separated by commas, e.g. si_snr,sdr,pesq; all that are installed if left out.",
        rich_help_panel="Scores",
    ),
]
Predictor = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictor",
        help="YAML file that describes an ONNX network which scores without a reference. Repeatable.",
        rich_help_panel="Scores",
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        "--by", help="Condition to print another table by, e.g. sexes. Repeatable.", rich_help_panel="Scores"
    ),
]
Variants = Annotated[
    bool,
    typer.Option(
        "--variants",
        help="Evaluate every PolSESS mixture in each of its variants and print a table by task and variant.",
        rich_help_panel="Data",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=0,
        help="Number of processes for the metrics; one per core if left out.",
        rich_help_panel="Scores",
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", help="Device for the model: auto, cpu, cuda or mps.", rich_help_panel="Systems"),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="Number of utterances to evaluate, from the first; all if left out.",
        rich_help_panel="Data",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of data that is drawn at random.", rich_help_panel="Data"),
]
Format = Annotated[
    Literal["csv", "parquet"],
    typer.Option("--format", help="Format of the table of scores.", rich_help_panel="Results"),
]
Save = Annotated[
    bool,
    typer.Option(
        "--save-estimates",
        help="Save the estimates too, as 32-bit WAV files beside the table.",
        rich_help_panel="Results",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace earlier results instead of continuing them.", rich_help_panel="Results"
    ),
]
