"""`polsess speakers`: score networks that say who speaks when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal

if TYPE_CHECKING:
    from polsess.evaluation.speaker_networks import Rate


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(speakers)


def speakers(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="Network to score: activity-detector, speaker-embedder, a folder, a file (an embedder's "
            "also as .onnx) or a run.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "-d",
            "--data",
            help="Test data: a YAML file with a corpus, the name of a recipe, or a metadata.csv of clips.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Changes to the configuration of the data, e.g. corpus.evaluation_seconds=4.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File to write the rates to, as JSON.", show_default=False),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="Condition to print another table by, e.g. noise. Repeatable."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            help="Probability from which a detector's frame counts as overlap.",
            show_default="0.5",
        ),
    ] = None,
    enhancer: Annotated[
        str,
        typer.Option(
            "--enhancer",
            help="Enhancer that the network hears the items through, as in `polsess separate`, e.g. "
            "enhance-one-streaming; none for the items as they are.",
        ),
    ] = "none",
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Split of the data to score on.")
    ] = "test",
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Number of items, from the first; all if left out."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Device: auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Score an activity detector or a speaker embedder: F1 of overlap, or equal error rate.

    Examples:
      polsess speakers -m activity-detector -d crnn_osd_conversations --by noise
      polsess speakers -m activity-detector -d voices/metadata.csv --enhancer enhance-one-streaming
      polsess speakers -m speaker-embedder -d voices/metadata.csv corpus.evaluation_seconds=4
    """
    from polsess.checkpoints import load_embedder, load_model
    from polsess.data import Split
    from polsess.devices import pick_device
    from polsess.evaluation import open_corpus
    from polsess.evaluation.speaker_networks import rates_by_condition
    from polsess.inference.hearing import NO_ENHANCER
    from polsess.models import ActivityDetector, Network, SpeakerEmbedder
    from polsess.onnx_files import is_onnx
    from polsess.tasks import Task
    from polsess.training.objectives.enhanced import load_enhancer

    terminal: Terminal = context.obj
    in_onnx = is_onnx(model)
    network = load_embedder(model) if in_onnx else load_model(model, kind=Network)
    network.to(pick_device(device))
    if not isinstance(network, ActivityDetector | SpeakerEmbedder):
        raise Failure(f"{model}: {network.model_type} is a {network.kind}; {network.usage}.", ExitCode.MODEL)
    if isinstance(network, SpeakerEmbedder) and threshold is not None:
        raise Failure("--threshold is for activity detectors; leave it out.", ExitCode.USAGE)
    task = Task.OSD if isinstance(network, ActivityDetector) else Task.SV
    rate = network.sample_rate
    hears_through = None if enhancer == NO_ENHANCER else load_enhancer(enhancer, rate)
    corpus = open_corpus(data, overrides or [], task=task, split=Split(split), sample_rate=rate)
    with terminal.progress() as progress:
        bar = progress.add_task(model, total=None)
        found = rates_by_condition(
            network,
            corpus,
            by or [],
            enhancer=hears_through,
            threshold=0.5 if threshold is None else threshold,
            limit=limit,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    items = min(limit or len(corpus), len(corpus))
    typer.echo(
        f"{model}, enhancer {enhancer}, task {task}, {items} items of split {split}: rates in %, thresholds "
        "as such (95 % interval)"
    )
    for key, groups in found.items():
        typer.echo(f"\n{_table(key, groups)}")
    if out is not None:
        facts = {"model": model, "enhancer": enhancer, "task": task, "split": split, "items": items}
        _write(out, facts, found)
        terminal.note(f"Rates: {out}")


def _table(key: str, groups: Mapping[str, Mapping[str, Rate]]) -> str:
    from polsess.text_tables import markdown

    columns = list(next(iter(groups.values())))
    rows = [[label, *(_cell(column, rates[column]) for column in columns)] for label, rates in groups.items()]
    return markdown([key, *(column.replace("_", " ") for column in columns)], rows)


def _cell(column: str, rate: Rate) -> str:
    factor, digits = (1, 2) if column.endswith("threshold") else (100, 1)
    value, low, high = (f"{factor * each:.{digits}f}" for each in (rate.value, rate.low, rate.high))
    return f"{value} ({low} to {high})"


def _write(
    out: Path, facts: Mapping[str, Any], found: Mapping[str, Mapping[str, Mapping[str, Rate]]]
) -> None:
    import json
    from dataclasses import asdict

    from polsess.files import write_text

    rows = [
        {"by": key or None, "group": label, "rate": name, **asdict(rate)}
        for key, groups in found.items()
        for label, rates in groups.items()
        for name, rate in rates.items()
    ]
    write_text(out, json.dumps({**facts, "rates": rows}, indent=2, ensure_ascii=False) + "\n")
