"""`polsess listen`: make a blind listening test from evaluations and analyse its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polsess.cli.terminal import Terminal
from polsess.text_tables import counted

listen_app = typer.Typer(help="Make a blind listening test and analyse its answers.", no_args_is_help=True)

_Evaluations = Annotated[
    list[Path],
    typer.Argument(
        metavar="EVALUATION...", help="Folders of evaluations of different systems on the same data."
    ),
]
_Anchor = Annotated[
    list[str] | None,
    typer.Option(
        "--anchor",
        help="Anchor to add: low, mid, halfway or mixture. Repeatable; MUSHRA has low, mid and mixture.",
    ),
]
_Clips = Annotated[
    int | None, typer.Option("--clips", min=1, help="Number of clips that count; up to 10 if left out.")
]
_Items = Annotated[
    list[str] | None,
    typer.Option("--item", help="Utterance to take clips from; all if left out. Repeatable."),
]
_Seconds = Annotated[
    float, typer.Option("--seconds", help="Largest length of a clip in seconds; longer ones are cut.")
]
_Title = Annotated[
    str, typer.Option("--title", help="Title that listeners see; it should not name a system.")
]
_WebMushra = Annotated[bool, typer.Option("--webmushra", help="Write a configuration for webMUSHRA too.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(listen_app, name="listen")


@listen_app.command()
def make(
    context: typer.Context,
    evaluations: _Evaluations,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the page and its key.")],
    kind: Annotated[Literal["mushra", "ab", "p835"], typer.Option("--kind", help="Kind of test.")] = "mushra",
    anchor: _Anchor = None,
    clips: _Clips = None,
    item: _Items = None,
    seconds: _Seconds = 12.0,
    title: _Title = "Listening test",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the choice and order of clips and sounds.")
    ] = 0,
    webmushra: _WebMushra = False,
    device: Annotated[
        str,
        typer.Option(
            "--device", help="Device for models whose estimates were not saved: auto, cpu, cuda or mps."
        ),
    ] = "auto",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace another test in the folder, whose answers are then lost."),
    ] = False,
) -> None:
    """Make a page for listeners and a key for the experimenter.

    Examples:
      polsess listen make evaluation/my_set/a evaluation/my_set/b -o listening --clips 8
    """
    from polsess.evaluation import SavedEvaluation
    from polsess.listening import Clips, ListeningPlan, export_webmushra, make_test, save_test
    from polsess.listening.trials import DEFAULT_CLIPS
    from polsess.schema import parse

    terminal: Terminal = context.obj
    settings = {"kind": kind, "title": title, "clips": clips, "items": item or (), "anchors": anchor or ()}
    plan = parse(ListeningPlan, settings | {"max_seconds": seconds, "seed": seed}, "listen")
    source = Clips([SavedEvaluation(folder, device) for folder in evaluations])
    if source.num_left_out:
        terminal.note(f"{counted(source.num_left_out, 'utterance')} left out: not in all evaluations.")
    with terminal.progress() as progress:
        bar = progress.add_task("Clips", total=(clips or DEFAULT_CLIPS) + 1)
        test = make_test(source, plan, lambda done: progress.update(bar, completed=done))
    for name in test.left_out:
        terminal.note(f"{name} is left out: its target is silent.")
    save_test(test, out, overwrite=overwrite)
    if webmushra:
        terminal.note(f"For webMUSHRA: {export_webmushra(test, out / 'webmushra')}")
    trials = [trial.key for trial in test.trials]
    typer.echo(
        f"{len(trials)} pages ({sum(each.training for each in trials)} for training), "
        f"{counted(len({each.clip for each in trials if not each.training}), 'clip')}, "
        f"{counted(len(source.systems), 'system')}.\n"
        f"For listeners: {out / 'test.html'}\nKeep to yourself: {out / 'key.json'}"
    )


@listen_app.command()
def analyse(
    context: typer.Context,
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS...", help="Files of answers, or folders that hold them.")
    ],
    key: Annotated[Path, typer.Option("--key", help="File key.json of the test.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the tables and a picture.")
    ] = None,
) -> None:
    """Screen the listeners, then compute means with intervals and paired tests.

    Examples:
      polsess listen analyse answers/ --key listening/key.json -o results
    """
    from polsess.listening import analyse as run
    from polsess.listening import read_answers, read_key, save_analysis
    from polsess.listening.results import plot_ratings, report

    terminal: Terminal = context.obj
    opened = read_key(key)
    analysis = run(read_answers(answers, opened), opened)
    typer.echo(report(analysis))
    if out is None:
        return
    save_analysis(analysis, out)
    try:
        plot_ratings(analysis, out / "ratings.png")
    except ModuleNotFoundError as error:
        terminal.note(f"No picture: {error}")
    terminal.note(f"Results: {out}")
