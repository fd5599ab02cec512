"""`polsess listen`: make a blind listening test from evaluations, analyse its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polsess.cli.terminal import Terminal

listen_app = typer.Typer(
    help="Blind listening tests: make a page, analyse its answers.", no_args_is_help=True
)

_Evaluations = Annotated[
    list[Path],
    typer.Argument(metavar="EVALUATION...", help="Folders that `polsess evaluate` wrote, on the same data."),
]
_Anchor = Annotated[
    list[str] | None,
    typer.Option(
        "--anchor",
        help="Known degradations: low, mid, halfway, mixture. Repeatable; MUSHRA has low, mid and mixture.",
    ),
]
_Clips = Annotated[int | None, typer.Option("--clips", min=1, help="That count; up to 10 if left out.")]
_Items = Annotated[list[str] | None, typer.Option("--item", help="Only from this utterance. Repeatable.")]
_Seconds = Annotated[float, typer.Option("--seconds", help="Longer clips are cut.")]
_Title = Annotated[str, typer.Option("--title", help="What listeners read; do not name systems.")]
_WebMushra = Annotated[bool, typer.Option("--webmushra", help="Also as a configuration for webMUSHRA.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(listen_app, name="listen")


@listen_app.command()
def make(
    context: typer.Context,
    evaluations: _Evaluations,
    out: Annotated[Path, typer.Option("-o", "--out", help="Receives the page and its key.")],
    kind: Annotated[
        Literal["mushra", "ab", "p835"], typer.Option("--kind", help="What listeners are asked.")
    ] = "mushra",
    anchor: _Anchor = None,
    clips: _Clips = None,
    item: _Items = None,
    seconds: _Seconds = 12.0,
    title: _Title = "Listening test",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of clips, names and orders.")] = 0,
    webmushra: _WebMushra = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another test in OUT.")] = False,
) -> None:
    """Make a page for listeners and a key for the experimenter.

    Example: polsess listen make evaluation/my_set/a evaluation/my_set/b -o listening --clips 8
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
        terminal.note(f"{source.num_left_out} utterance(s) are not in all evaluations and are left out.")
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
        f"{len({each.clip for each in trials if not each.training})} clips, "
        f"{len(source.systems)} system(s).\n"
        f"For listeners: {out / 'test.html'}\nKeep to yourself: {out / 'key.json'}"
    )


@listen_app.command()
def analyse(
    context: typer.Context,
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="Files, or folders of them.")],
    key: Annotated[Path, typer.Option("--key", help="The key.json of the test.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Receives tables and a picture.")] = None,
) -> None:
    """Screen listeners, then means with intervals and paired tests.

    Example: polsess listen analyse answers/ --key listening/key.json -o results
    """
    from polsess.dependencies import is_installed
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
    if is_installed("matplotlib"):
        plot_ratings(analysis, out / "ratings.png")
    else:
        terminal.note("No picture: matplotlib is not installed (pip install 'polsess-separation[plots]').")
    terminal.note(f"Tables and picture: {out}")
