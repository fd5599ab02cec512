"""`polsess tune`: a search for the best settings of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polsess.cli.terminal import Terminal

if TYPE_CHECKING:
    from polsess.training.monitor import Monitor
    from polsess.training.tuning import Trial


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(tune)


def tune(
    context: typer.Context,
    space: Annotated[
        Path,
        typer.Argument(metavar="SPACE.yaml", help="YAML file with the experiment and the ranges to search."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the experiment to change."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the search.", show_default="runs/<the file's name>"),
    ] = None,
) -> None:
    """Search the best settings with Optuna; the same command goes on with a search that was stopped.

    Examples:
      polsess tune space.yaml
      polsess tune space.yaml training.max_epochs=20 -o runs/search
    """
    from polsess.allocator import tune_allocator
    from polsess.dependencies import require

    terminal: Terminal = context.obj
    tune_allocator()
    require("lightning", "Training")
    require("optuna", "polsess tune")
    from polsess.training.monitor import monitor_of
    from polsess.training.search_space import load_space
    from polsess.training.signals import Preempted
    from polsess.training.tuning import tune as search

    wanted, base = load_space(space, overrides or [])
    monitor = monitor_of(base.get("task", "SB"))
    folder = out or Path("runs") / space.stem
    with terminal.progress() as progress:
        bar = progress.add_task("trials", total=wanted.trials)

        def on_epoch(number: int, epoch: int, score: float) -> None:
            progress.update(bar, description=f"trial {number}, epoch {epoch + 1}: {monitor.show(score)}")

        def on_trial(trial: Trial, best: Trial | None) -> None:
            progress.update(bar, completed=trial.number + 1, description="trials")
            known = f"; best {_score(best, monitor)} (trial {best.number})" if best else ""
            terminal.note(_line(trial, monitor) + known)

        try:
            result = search(wanted, base, folder, on_trial, on_epoch)
        except Preempted as stopped:
            terminal.error(f"Stopped by {stopped.received.name}; the same command goes on with the search.")
            raise typer.Exit(128 + stopped.received) from None
    states = [trial.state for trial in result.trials]
    terminal.note(
        f"{len(states)} trials, {states.count('pruned')} pruned, {states.count('failed')} failed\n"
        f"Best: {_line(result.best, monitor)}\n"
        f"Train it: polsess train --config {result.best_config}"
    )


def _score(trial: Trial, monitor: Monitor) -> str:
    return "no score" if trial.score is None else monitor.show(trial.score)


def _line(trial: Trial, monitor: Monitor) -> str:
    values = ", ".join(f"{key}={_number(value)}" for key, value in trial.values.items())
    return f"trial {trial.number}: {trial.remark or _score(trial, monitor)} ({trial.state}; {values})"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
