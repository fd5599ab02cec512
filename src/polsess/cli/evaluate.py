"""`polsess evaluate`: score models, or estimates in files, on a test set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from polsess.cli import _evaluate_options as options
from polsess.cli._cluster_options import Ray, connected_to
from polsess.cli._conversation_options import (
    Baselines,
    Collar,
    OnePass,
    TranscriberCommand,
    TranscriberLimit,
    baselines_of,
    compare_word_errors,
    describe_unheard,
    fit_to_corpus,
    open_transcriber,
)
from polsess.cli._corpus_options import MaxBad, max_bad_override
from polsess.cli._gate_options import GATE, Detector, Embedder, Enhancer, Gate, Speakers, listeners
from polsess.cli._sound_options import Precision, Shifts, Then
from polsess.cli.terminal import ExitCode, Failure, Terminal, explain, refuse
from polsess.text_tables import counted

if TYPE_CHECKING:
    from polsess.data import Corpus
    from polsess.evaluation import Evaluation, System
    from polsess.evaluation.runner import Elsewhere
    from polsess.metrics import PredictorConfig

_BY_CONDITION = ("si_snri", "wrong_track", "der")
"""Scores that are printed by a condition."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(evaluate)


def evaluate(
    context: typer.Context,
    overrides: options.Overrides = None,
    data: options.Data = None,
    model: options.Model = None,
    ensemble: options.Ensemble = False,
    shifts: Shifts = 1,
    then: Then = None,
    estimates: options.Estimates = None,
    system: options.System = None,
    out: options.Out = Path("evaluation"),
    task: options.Task = None,
    split: options.Split = "test",
    metrics: options.Metrics = None,
    predictor: options.Predictor = None,
    by: options.By = None,
    variants: options.Variants = False,
    jobs: options.Jobs = None,
    device: options.Device = "auto",
    precision: Precision = "float32",
    limit: options.Limit = None,
    max_bad: MaxBad = None,
    seed: options.Seed = None,
    table_format: options.Format = "csv",
    save_estimates: options.Save = False,
    overwrite: options.Overwrite = False,
    baselines: Baselines = False,
    collar: Collar = 0.0,
    one_pass: OnePass = False,
    gate: Gate = "auto",
    speakers: Speakers = "auto",
    detector: Detector = None,
    embedder: Embedder = None,
    enhancer: Enhancer = None,
    transcriber: TranscriberCommand = None,
    transcriber_limit: TranscriberLimit = 600.0,
    ray: Ray = None,
) -> None:
    """Score models, or estimates in files, on a test set; an interrupted evaluation continues.

    Examples:
      polsess evaluate -m default -d data/my_set --by sexes
      polsess evaluate -m runs/a -m runs/b -d convtasnet_sb_polsess --save-estimates
      polsess evaluate --estimates published -d data/my_set --metrics si_snr,pesq
      polsess evaluate -m default -d conversations.yaml --baselines --metrics si_snr,conversation
      polsess evaluate -m default -d data/my_set --ray ray://head:10001
    """
    from polsess.allocator import tune_allocator
    from polsess.evaluation import evaluate as run
    from polsess.evaluation import names_of_data
    from polsess.metrics import resolve_metrics

    terminal: Terminal = context.obj
    if not data or (model is None) == (estimates is None):
        raise Failure("Say what to evaluate: -d DATA and -m MODEL or --estimates FOLDER.", ExitCode.USAGE)
    _refuse_ignored(context, estimates, transcriber, one_pass=one_pass)
    tune_allocator()
    names = metrics.split(",") if metrics else None
    resolve_metrics(names, conversations=True, counts=True)  # before the models are read
    if metrics is None:
        _note_missing_metrics(terminal)
    changes = [*max_bad_override(max_bad, "corpus"), *(overrides or [])]
    changes += ["corpus.each_variant=true"] if variants else []
    predictors = [_read_predictor(path) for path in predictor or []]
    listener = open_transcriber(transcriber, transcriber_limit)
    folders = names_of_data(data)
    fit = partial(fit_to_corpus, context, one_pass=one_pass, gate=gate, speakers=speakers)
    fit = partial(fit, listening=listeners(detector, embedder, enhancer))
    done: dict[Path, list[Evaluation]] = {path: [] for path in data}
    with _elsewhere(ray, device, jobs) as elsewhere:
        for each, path, corpus in _pairs(
            _open_systems(
                model, "cpu" if ray else device, precision, estimates, system, ensemble, shifts, then
            ),
            data,
            lambda path, system: _open_data(path, changes, task, split, seed, system),
            with_baselines=baselines or listener is not None,
        ):
            folder = out / folders[path] / each.name
            with terminal.progress() as progress:
                bar = progress.add_task(each.name, total=None)
                evaluation = run(
                    fit(each, corpus),
                    corpus,
                    metrics=names,
                    predictors=predictors,
                    num_workers=jobs,
                    folder=folder,
                    limit=limit,
                    overwrite=overwrite,
                    table_format=table_format,
                    collar_seconds=collar,
                    transcriber=listener,
                    save_estimates=save_estimates,
                    elsewhere=elsewhere,
                    progress=lambda done, total: progress.update(bar, completed=done, total=total),  # noqa: B023
                )
            _print(terminal, evaluation, by or [], folder)
            done[path].append(evaluation)
    for evaluations in done.values() if listener is not None else ():
        typer.echo(compare_word_errors(evaluations))
    every = [evaluation for evaluations in done.values() for evaluation in evaluations]
    if variants:
        _print_variants(terminal, every, out)
    problems = [describe_unheard(every)] if listener is not None else []
    if num_failed := sum(each.num_failed for each in every):
        problems.append(
            f"{counted(num_failed, 'utterance')} could not be evaluated: see the column 'failure'. The same "
            "command tries again."
        )
    if any(problems):
        raise Failure(" ".join(filter(None, problems)))


def _refuse_ignored(
    context: typer.Context, estimates: Path | None, transcriber: str | None, *, one_pass: bool
) -> None:
    """Refuse options that mean nothing beside the others."""
    if estimates is None:
        refuse(context, {"--system"}, "names a system of --estimates; leave it out.")
    else:
        of_models = {"--ensemble", "--shifts", "--then", "--device", "--precision", "--one-pass", *GATE}
        refuse(context, of_models, "is for models, not for estimates; leave it out.")
    if transcriber is None:
        refuse(context, {"--transcriber-limit"}, "is the limit of --transcriber; leave it out.")
    if one_pass:
        refuse(context, GATE, "--one-pass has no gate; leave one of them out.")


@contextmanager
def _elsewhere(address: str | None, device: str, jobs: int | None) -> Iterator[Elsewhere | None]:
    """The workers of a cluster; None without an address."""
    if address is None:
        yield None
        return
    if jobs is not None:
        raise Failure("--jobs: on a cluster each worker computes its metrics; leave it out.", ExitCode.USAGE)
    from polsess.cluster.evaluation import evaluate_on

    with connected_to(address, device) as cluster:
        yield evaluate_on(cluster)


def _open_systems(
    models: list[str] | None,
    device: str,
    precision: Precision,
    estimates: Path | None,
    names: list[str] | None,
    ensemble: bool,
    num_shifts: int,
    then: str | None,
) -> list[System]:
    from polsess.checkpoints import CheckpointError
    from polsess.evaluation import open_combined, open_estimates

    if estimates is not None:
        return open_estimates(estimates, names)
    try:
        return open_combined(
            models or [], device, precision, ensemble=ensemble, num_shifts=num_shifts, then=then
        )
    except (CheckpointError, OSError) as error:
        raise Failure(explain(error), ExitCode.MODEL) from None
    except ValueError as error:
        raise Failure(explain(error), ExitCode.USAGE) from None


def _pairs(
    systems: Sequence[System],
    data: Sequence[Path],
    open_data: Callable[[Path, System], Corpus],
    *,
    with_baselines: bool,
) -> Iterator[tuple[System, Path, Corpus]]:
    """Every system on every corpus, after the baselines of the corpus."""
    begun: set[tuple[Path, int]] = set()
    for each in systems:
        for path in data:
            corpus = open_data(path, each)
            key = path, corpus.config.sample_rate
            for baseline in baselines_of(corpus) if with_baselines and key not in begun else ():
                yield baseline, path, corpus
            begun.add(key)
            yield each, path, corpus


def _open_data(
    path: Path, overrides: list[str], task: str | None, split: str, seed: int | None, system: System
) -> Corpus:
    from polsess.data import Split
    from polsess.evaluation import open_corpus
    from polsess.tasks import Task

    chosen = Task(task) if task else None
    try:
        return open_corpus(
            path,
            overrides,
            task=chosen,
            default_task=system.task,
            split=Split(split),
            seed=seed,
            sample_rate=system.sample_rate,
        )
    except (ValueError, OSError) as error:
        raise Failure(explain(error), ExitCode.USAGE) from None


def _read_predictor(path: Path) -> PredictorConfig:
    from polsess.metrics import parse_predictor
    from polsess.yaml_files import read_yaml

    data = read_yaml(path)
    if not isinstance(data, dict):
        raise Failure(f"{path}: expected keys such as path and sha256.", ExitCode.USAGE)
    if isinstance(data.get("path"), str):
        data["path"] = str(path.parent / data["path"])  # beside its description
    return parse_predictor(data, str(path))


def _note_missing_metrics(terminal: Terminal) -> None:
    from polsess.metrics import missing_metrics

    for name, package in missing_metrics().items():
        terminal.note(f"{name} is left out: the package {package} is not installed.")


def _print(terminal: Terminal, evaluation: Evaluation, conditions: list[str], folder: Path) -> None:
    from polsess.evaluation.score_table import find_table
    from polsess.evaluation.tables import caution_lines, failure_lines, strata_table, summary_table
    from polsess.metrics import failure_rate, title_of
    from polsess.text_tables import percent

    settings, collar = evaluation.settings, evaluation.settings.get("collar_seconds")
    typer.echo(
        f"\n{evaluation.system}, task {settings['task']}, {counted(len(evaluation.rows), 'utterance')} at "
        f"{settings['sample_rate']} Hz, list {evaluation.list_hash}\n\n{summary_table(evaluation)}\n"
    )
    if "si_snri" in evaluation.columns:
        rates = [percent(failure_rate(evaluation.values("si_snri"), limit)) for limit in (0, 5)]
        typer.echo(f"SI-SNRi below 0 dB: {rates[0]} of the utterances, below 5 dB: {rates[1]}")
    if levels := [level for row in evaluation.rows if not math.isnan(level := row.scores.unassigned_db)]:
        typer.echo(
            f"Outputs without a reference in {len(levels)} utterances: the loudest of each lies "
            f"{statistics.mean(levels):.1f} dB from the mixture on average, at most {max(levels):.1f} dB."
        )
    if collar is not None:
        typer.echo(f"DER and its parts: overlaps scored, {collar:g} s around true starts and ends left out.")
    if heard := sum(row.metadata.get("true_words") == "references" for row in evaluation.rows):
        corpus = settings["corpus"]
        advice = " With corpus.words=true they are made of clips whose words are known."
        typer.echo(
            f"{heard} recordings have no transcript: what is heard on their references counts as true."
            f"{advice if corpus.get('words') is False else ''}"
        )
    for line in failure_lines(evaluation):
        typer.echo(f"No value: {line}")
    for line in caution_lines(evaluation):
        typer.echo(f"Caution: {line}")
    for key in conditions:
        if not evaluation.strata(key):
            known = dict.fromkeys(name for row in evaluation.rows for name in row.metadata)
            terminal.note(f"No utterance has a condition '{key}'. Known: {', '.join(known) or 'none'}.")
            continue
        for column in (name for name in _BY_CONDITION if name in evaluation.columns):
            table = strata_table(evaluation, key, column)
            typer.echo(f"\n{title_of(column)} by {key}\n\n{table}\n")
    if taken := evaluation.seconds_per_utterance:
        terminal.note(
            "Seconds per utterance: " + ", ".join(f"{key} {each:.3f}" for key, each in taken.items())
        )
    terminal.note(f"Every utterance: {find_table(folder)}; summary: {folder / 'summary.json'}")


def _print_variants(terminal: Terminal, evaluations: list[Evaluation], out: Path) -> None:
    from polsess.evaluation.tables import variants_table
    from polsess.files import write_texts
    from polsess.text_tables import comma_separated, latex, markdown

    header, rows = variants_table(evaluations)
    typer.echo(f"\n{markdown(header, rows)}\n")
    texts = {"csv": comma_separated(header, rows), "tex": latex(header, rows) + "\n"}
    write_texts({out / f"variants.{ending}": text for ending, text in texts.items()})
    terminal.note(f"The table: {out / 'variants.csv'} and .tex")
