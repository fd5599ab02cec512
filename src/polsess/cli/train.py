"""`polsess train`: fit a model to a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polsess.cli._corpus_options import MaxBad, max_bad_override
from polsess.cli.terminal import Terminal
from polsess.pace import in_words
from polsess.text_tables import counted

if TYPE_CHECKING:
    from polsess.config import Config
    from polsess.training.run import TrainingResult


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(train)


def train(
    context: typer.Context,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, e.g. training.max_epochs=3."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            help="The experiment's YAML file, or the name of a recipe.",
            show_default=False,
            rich_help_panel="Run",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Folder of the run.",
            show_default="runs/<config's name>",
            rich_help_panel="Run",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder of --out.", rich_help_panel="Run")
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Start from these weights: a folder, file, run, hub id or `default`. Without --config the "
            "model is theirs, too.",
            show_default=False,
            rich_help_panel="Fine-tuning",
        ),
    ] = None,
    reset_head: Annotated[
        bool,
        typer.Option(
            "--reset-head",
            help="With --init, give the head fresh weights if its number of sources differs.",
            rich_help_panel="Fine-tuning",
        ),
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Pattern of parameters that are not trained, e.g. 'encoder.*'; repeatable.",
            rich_help_panel="Fine-tuning",
        ),
    ] = None,
    max_bad: MaxBad = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the size, memory and time of the run without writing anything.",
            rich_help_panel="Checks",
        ),
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="The replay.pt of a run, to repeat the step that ended it.",
            show_default=False,
            rich_help_panel="Checks",
        ),
    ] = None,
) -> None:
    """Train a model; logs, the best and the last checkpoint go into the run's folder.

    Examples:
      polsess train -c bsrnn_sb_speech_clips training.max_epochs=50
      polsess train -c sepformer_sb_polsess data.corpus.root=PolSESS --dry-run
      polsess train -o runs/bsrnn_sb_speech_clips --resume
      polsess train -c bsrnn_sb_speech_clips --init default --freeze 'split.*'
    """
    from polsess.allocator import tune_allocator
    from polsess.config import find_config, load_config
    from polsess.dependencies import require

    terminal: Terminal = context.obj
    tune_allocator()
    require("lightning", "Training")
    if replay is not None:
        if any((overrides, config, out, resume, init, reset_head, freeze, max_bad, dry_run)):
            raise typer.BadParameter("--replay goes alone: the settings of the step are in its file.")
        _replay(replay)
        return
    if config is not None:
        config = find_config(config)
    if resume and config is None:
        if out is None:
            raise typer.BadParameter("--resume: name the run with -o FOLDER.")
        config = out / "config.json"  # continues as it began
    fine_tuning = _fine_tuning(init, freeze or [], reset_head=reset_head)
    experiment = load_config(
        config, [*fine_tuning, *max_bad_override(max_bad), *(overrides or [])], say=terminal.note
    )
    if dry_run:
        _print_dry_run(experiment, terminal)
        return
    from polsess.training.distributed import is_main_process
    from polsess.training.run import train as run_training
    from polsess.training.signals import Preempted

    folder = out or Path("runs") / (config.stem if config else experiment.model.model_type)
    try:
        result = run_training(
            experiment,
            folder,
            resume=resume,
            progress=terminal.interactive,
            say=terminal.note,
            say_epoch=None if terminal.interactive else terminal.note,
        )
    except Preempted as stopped:
        if is_main_process():
            terminal.error(str(stopped))
            _requeue(stopped.received.name, terminal)
        raise typer.Exit(128 + stopped.received) from None
    if is_main_process():
        _print_result(terminal, result, experiment)


def _print_result(terminal: Terminal, result: TrainingResult, experiment: Config) -> None:
    from polsess.training.monitor import monitor_of

    folder, max_epochs = result.run_folder, experiment.training.max_epochs
    monitor = monitor_of(experiment.task)
    lines = [
        f"{counted(result.epochs, 'epoch')}; best {monitor.label} on validation "
        f"{monitor.show(result.best_score)}\n"
        f"Best weights: {result.best_checkpoint}"
        if result.best_checkpoint
        else "Nothing has been validated yet.",
        f"Logs: {folder}/metrics.csv, or: tensorboard --logdir {folder}",
    ]
    if not result.complete:
        lines.append(
            f"Stopped after {result.epochs} of {max_epochs} epochs: training.max_minutes is over; go on with "
            "--resume."
        )
    if result.skipped_steps:
        lines.append(f"{result.skipped_steps} steps were left out: see {folder}/non_finite.jsonl")
    terminal.note("\n".join(lines))


def _print_dry_run(experiment: Config, terminal: Terminal) -> None:
    from polsess.training.dry_run import rehearse

    with terminal.progress() as progress:
        bar = progress.add_task("opening", total=None)
        found = rehearse(experiment, lambda phase: progress.update(bar, description=phase))
    if found.origin:
        typer.echo(found.origin.summary)
    examples, samples = found.batch
    memory = f"; peak memory {found.memory_bytes / 2**30:.2f} GiB" if found.memory_bytes else ""
    splits = [f"{each.split} {each.examples:,} examples, {each.hours:.2f} h" for each in found.data]
    total = found.max_epochs * found.epoch_seconds
    rows = {
        "model": f"{found.model_type}, {found.parameters:,} parameters ({found.trained_parameters:,} "
        f"trained), {found.weights_bytes / 2**20:.1f} MiB",
        "compute": f"{found.macs_per_second / 1e9:.2f} G multiply-accumulates per second of audio",
        "data": "; ".join(splits) + " (an epoch)",
        "step": f"{found.step_seconds:.3g} s on {found.device} for {examples} x "
        f"{samples / found.sample_rate:.3g} s{memory}",
        "loading": f"{found.loading_seconds:.3g} s a batch in one process, "
        f"{counted(found.num_workers, 'worker')}",
        "epoch": f"{found.steps_per_epoch:,} batches: about {in_words(found.training_seconds)}, and "
        f"{in_words(found.validation_seconds)} of validation",
        "run": f"at most {found.max_epochs} epochs: about {in_words(total)}",
    }
    for name, text in rows.items():
        typer.echo(f"{name:8} {text}")


def _fine_tuning(init: str | None, patterns: list[str], *, reset_head: bool) -> list[str]:
    """The options as ``key=value`` pairs."""
    import json  # JSON is valid YAML

    pairs = [f"training.init={json.dumps(init)}"] if init is not None else []
    pairs += [f"training.freeze={json.dumps(patterns)}"] if patterns else []
    return pairs + (["training.reset_head=true"] if reset_head else [])


def _replay(path: Path) -> None:
    from polsess.training.replay import replay_step

    result = replay_step(path)
    typer.echo(f"items: {', '.join(result.items)}")
    typer.echo(f"loss: {result.loss}, gradient norm: {result.gradient_norm}")
    found = (
        f"reproduced, first in {result.first_module}"
        if result.reproduced
        else "not reproduced (in float32 on the CPU)"
    )
    typer.echo(f"not finite: {found}")


def _requeue(received: str, terminal: Terminal) -> None:
    """Ask SLURM to start the job again, when its time is what ran out."""
    import os
    import shutil
    import subprocess

    job, scontrol = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if received == "SIGUSR1" and job and job.isdigit() and scontrol:
        subprocess.run([scontrol, "requeue", job], check=False)  # noqa: S603 - a fixed command
        terminal.note(f"Asked SLURM to start job {job} again.")
