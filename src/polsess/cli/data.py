"""`polsess data`: sets to try recipes on; audit a corpus, generate one, measure how fast one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polsess.cli._corpus_options import MaxBad, max_bad_override
from polsess.cli.terminal import ExitCode, Failure, Terminal
from polsess.text_tables import counted

data_app = typer.Typer(
    help="Make sets to try recipes on; audit, generate and time corpora.", no_args_is_help=True
)
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="Folder with train, val and test.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Number of processes; one per core by default.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(data_app, name="data")


@data_app.command()
def audit(
    context: typer.Context,
    root: Root,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="CSV file that receives all findings.")
    ] = None,
    headers: Annotated[
        bool, typer.Option("--headers", help="Check headers and CSVs only, which is fast.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Check a PolSESS corpus for faults; the exit code is 1 if something is broken.

    Examples:
      polsess data audit data/polsess
      polsess data audit data/polsess --headers -o findings.csv
    """
    from polsess.data.polsess.audit import audit_polsess, save_findings
    from polsess.files import check_target
    from polsess.processes import num_processors

    terminal: Terminal = context.obj
    if out is not None:
        check_target(out)
    with terminal.progress() as progress:
        bar = progress.add_task("Rows", total=None)
        result = audit_polsess(
            root,
            headers_only=headers,
            num_workers=workers or num_processors(),
            on_start=lambda count: progress.update(bar, total=count),
            on_row=lambda: progress.advance(bar),
        )
    typer.echo(result.table())
    typer.echo(result.summary())
    if out is not None:
        save_findings(result.findings, out)
        terminal.note(f"All findings: {out}")
    if result.broken:
        raise typer.Exit(ExitCode.SOME_FAILED)


@data_app.command()
def fetch(
    context: typer.Context,
    name: Annotated[
        Literal["mini"],
        typer.Argument(help="mini: a small set for each corpus that recipes name, made of bundled voices."),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder that receives the sets; recipes look in data."),
    ] = Path("data"),
) -> None:
    """Make small sets on which every recipe can be tried as it stands; nothing is downloaded.

    Examples:
      polsess data fetch mini
      polsess train -c convtasnet_sb_polsess model.preset=tiny training.max_epochs=3
    """
    from polsess.data.mini import make_mini
    from polsess.files import check_folder

    terminal: Terminal = context.obj
    check_folder(out)
    made = make_mini(out, terminal.note)
    for folder in made:
        typer.echo(folder)
    if made:
        terminal.note(f"The {name} sets are for trying things out; scores on them say nothing.")


@data_app.command()
def generate(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that receives the corpus.")],
    speech: Annotated[Path, typer.Option("--speech", help="Folder or CSV of speech; labels are speakers.")],
    scenes: Annotated[
        Path, typer.Option("--scenes", help="Folder or CSV of scenes; labels are their classes.")
    ],
    events: Annotated[
        Path, typer.Option("--events", help="Folder or CSV of events; labels are their classes.")
    ],
    train: Annotated[int, typer.Option("--train", min=0, help="Number of mixtures for training.")] = 0,
    val: Annotated[int, typer.Option("--val", min=0, help="Number of mixtures for validation.")] = 0,
    test: Annotated[int, typer.Option("--test", min=0, help="Number of mixtures for testing.")] = 0,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the corpus; OUT's name by default.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of every mixture in seconds.")] = 4.0,
    rate: Annotated[int, typer.Option("--rate", help="Sample rate in Hz.")] = 8000,
    speakers: Annotated[
        int, typer.Option("--speakers", min=1, max=3, help="Number of speakers per mixture.")
    ] = 2,
    overlap: Annotated[
        float, typer.Option("--overlap", help="Share of the time in which both speak, 0 to 1.")
    ] = 1.0,
    conversations: Annotated[
        bool,
        typer.Option(
            "--conversations", help="Let people take turns, and write an RTTM file beside every mixture."
        ),
    ] = False,
    overlap_range: Annotated[
        tuple[float, float],
        typer.Option(help="With --conversations: lowest and highest share of overlap in talk, 0 to 1."),
    ] = (0.0, 0.4),
    voices: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="With --conversations: shares of mixtures with 1, 2, ... voices, e.g. 0.25,0.75; the other "
            "speakers are silent. All talk if left out.",
        ),
    ] = None,
    words: Annotated[
        bool,
        typer.Option(
            "--words",
            help="With --conversations: make every turn a whole recording whose words are known (from a "
            "column text, or a text file beside it), and write a transcript (STM) beside every mixture.",
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of all draws; the same seed gives the same bytes.")
    ] = 0,
    rirs: Annotated[
        Path | None, typer.Option("--rirs", help="Folder or CSV of impulse responses to use as rooms.")
    ] = None,
    scene_table: Annotated[
        Path | None,
        typer.Option("--scene-table", help="YAML file with the scenes and the events that go with them."),
    ] = None,
    compat: Annotated[
        str, typer.Option("--compat", help="none, or matlab for the rules of the original generator.")
    ] = "none",
    workers: Workers = None,
) -> None:
    """Generate a PolSESS corpus from recordings; an interrupted run continues.

    Examples:
      polsess data generate mine --speech voices --scenes scenes --events events --train 8000 --test 500
      polsess data generate talk --speech voices --scenes scenes --events events --test 100 --conversations
    """
    from polsess.data.base import Split
    from polsess.data.polsess.generation import GenerationConfig, collect_ingredients, generate_split
    from polsess.processes import num_processors
    from polsess.schema import parse

    terminal: Terminal = context.obj
    counts = {split: count for split, count in zip(Split, (train, val, test), strict=True) if count}
    if not counts:
        raise Failure("--train, --val, --test: nothing to make; give at least one.", ExitCode.USAGE)
    settings: dict[str, object] = {"name": name or out.resolve().name, "seed": seed, "sample_rate": rate}
    settings |= {"seconds": seconds, "speakers": speakers, "overlap": overlap, "compat": compat}
    if conversations:
        shares = [_share(word) for word in voices.split(",")] if voices else []
        settings["conversations"] = {
            "overlap_range": overlap_range,
            "voice_shares": shares,
            "words": words,
        }
    elif voices or words or overlap_range != (0.0, 0.4):
        raise Failure("--voices, --overlap-range, --words: belong to --conversations.", ExitCode.USAGE)
    config = parse(GenerationConfig, settings, "generate")
    places = {"speech": speech, "scenes": scenes, "events": events}
    repeated: list[str] = []
    ingredients = collect_ingredients(
        config, list(counts), **places, table=scene_table, rirs=rirs, on_repeated=repeated.append
    )
    if repeated:
        terminal.note(
            f"Left out, {counted(len(repeated), 'file')} with the sound of another: {'; '.join(repeated[:3])}"
        )
    for split, count in counts.items():
        with terminal.progress() as progress:
            bar = progress.add_task(split, total=count)
            made = generate_split(
                out,
                split,
                count,
                ingredients[split],
                num_workers=workers or num_processors(),
                on_item=lambda progress=progress, bar=bar: progress.advance(bar),  # type: ignore[misc]
            )
        dropped = ", ".join(f"{reason} {times}" for reason, times in sorted(made.redrawn.items())) or "none"
        terminal.note(f"{made.table}: {counted(count, 'mixture')}, {made.num_resumed} of them made before.")
        terminal.note(f"Dropped draws: {dropped}.")


@data_app.command()
def bench(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="An experiment's YAML file, or the name of a recipe.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Settings to change, e.g. data.batch_size=8."),
    ] = None,
    items: Annotated[
        int, typer.Option("--items", min=1, help="Number of items to read with each number of workers.")
    ] = 500,
    workers: Annotated[
        list[int] | None,
        typer.Option("--workers", min=0, help="Number of worker processes; may be repeated."),
    ] = None,
    max_bad: MaxBad = None,
) -> None:
    """Measure how many training items per second are read, by the number of worker processes.

    Examples:
      polsess data bench convtasnet_sb_polsess data.corpus.root=/data/PolSESS
      polsess data bench wham.yaml --workers 0 --workers 4 --max-bad 1%
    """
    from polsess.config import load_config
    from polsess.data import Split, create_corpus
    from polsess.data.loader import measure_loading
    from polsess.processes import num_processors

    experiment = load_config(config, [*max_bad_override(max_bad), *(overrides or [])])
    corpus = create_corpus(experiment.data.corpus, Split.TRAIN, experiment.task, experiment.seed)
    context.obj.note(f"{len(corpus)} items in the training split, batches of {experiment.data.batch_size}.")
    typer.echo("workers  items/s")
    for count in workers or sorted({0, 1, num_processors()}):
        typer.echo(f"{count:7}  {measure_loading(corpus, experiment.data, count, items):7.1f}")


def _share(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise Failure(f"--voices: expected shares such as 0.25,0.75, got '{word}'.", ExitCode.USAGE) from None
