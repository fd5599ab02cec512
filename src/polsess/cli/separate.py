"""`polsess separate`: recordings in, one file per speaker out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal, explain

if TYPE_CHECKING:
    from polsess.inference import SeparatedFile

_PICTURE_SECONDS = 60


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(separate)


def separate(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Sound files, or folders that are searched with their sub-folders.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder of the outputs; made if needed.", rich_help_panel="Outputs"),
    ] = Path("separated"),
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="Weights: folder, file, hub id, or a bundled model (default, enhance-one, enhance-both).",
            rich_help_panel="Separation",
        ),
    ] = "default",
    channels: Annotated[
        Literal["mix", "each"],
        typer.Option(
            help="Separate the mean of the channels, or each channel by itself.", rich_help_panel="Separation"
        ),
    ] = "mix",
    segment: Annotated[
        float,
        typer.Option(
            help="Longest piece that the network sees at once, in seconds; 0 for whole recordings.",
            rich_help_panel="Separation",
        ),
    ] = 24.0,
    overlap: Annotated[
        float,
        typer.Option(
            help="Share of a piece that it has in common with the next, 0 to 0.5.",
            rich_help_panel="Separation",
        ),
    ] = 0.25,
    device: Annotated[
        str, typer.Option(help="Device to run on: auto, cpu, cuda or mps.", rich_help_panel="Separation")
    ] = "auto",
    file_format: Annotated[
        Literal["wav", "flac", "ogg", "mp3"],
        typer.Option("--format", help="File format of the outputs.", rich_help_panel="Outputs"),
    ] = "wav",
    bits: Annotated[
        Literal["16", "24", "32f"] | None,
        typer.Option(
            help="Bits per sample of the outputs, for wav and flac.",
            show_default="16",
            rich_help_panel="Outputs",
        ),
    ] = None,
    clip_mode: Annotated[
        Literal["rescale", "clamp", "error"],
        typer.Option(
            help="What to do beyond full scale: make all speakers quieter, cut the peaks, or refuse.",
            rich_help_panel="Outputs",
        ),
    ] = "rescale",
    filename: Annotated[
        str,
        typer.Option(help="Pattern of the output names; may hold sub-folders.", rich_help_panel="Outputs"),
    ] = "{track}_{speaker}.{ext}",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs.", rich_help_panel="Outputs")
    ] = False,
    spectrograms: Annotated[
        bool,
        typer.Option(
            "--spectrograms",
            help=f"Draw a picture of the first {_PICTURE_SECONDS} s as well.",
            rich_help_panel="Outputs",
        ),
    ] = False,
) -> None:
    """Separate the speakers of recordings of any length, rate and number of channels.

    The outputs are as long as the recording, at its rate, and at the level that each speaker has in it.

    Examples:
      polsess separate meeting.wav
      polsess separate recordings/ -o speakers --format flac
      polsess separate interview.mp3 -m runs/dprnn/best --segment 8
    """
    from polsess.allocator import tune_allocator
    from polsess.audio import AudioFormat
    from polsess.checkpoints import load_model
    from polsess.dependencies import require
    from polsess.files import check_folder
    from polsess.inference import Separator, pick_device
    from polsess.inference.jobs import OutputOptions, find_jobs, separate_jobs
    from polsess.inference.outputs import check_pattern

    terminal: Terminal = context.obj
    tune_allocator()
    if spectrograms:
        require("matplotlib", "--spectrograms")
    with _usage_errors():
        check_folder(out)
        check_pattern(filename, num_sources=1)
        options = OutputOptions(out, filename, AudioFormat(file_format, bits), clip_mode, overwrite)
        pick_device(device)
    loaded = load_model(model)
    with _usage_errors():
        check_pattern(filename, loaded.output_sources)
        separator = Separator(
            loaded, device=device, segment_seconds=segment or None, overlap=overlap, channels=channels
        )
    jobs, problems = find_jobs(inputs, out, terminal.note)
    done: list[SeparatedFile] = []
    with terminal.progress() as progress:
        bar = progress.add_task("separating", total=len(jobs))
        for job, outcome in separate_jobs(
            separator, jobs, options, lambda index, share: progress.update(bar, completed=index + share)
        ):
            if isinstance(outcome, Exception):
                if terminal.debug:
                    raise outcome
                problems.append(_problem(job.source, outcome))
                continue
            done.append(outcome)
            _print(terminal, job.source, outcome)
            if spectrograms:
                _draw(job.source, outcome, separator.names)
    _finish(terminal, done, problems)


@contextmanager
def _usage_errors() -> Iterator[None]:
    """An option that cannot be met ends the command with the code for a wrong command line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise Failure(explain(error), ExitCode.USAGE) from None


def _problem(source: Path, error: Exception) -> str:
    text = explain(error)
    return text if str(source) in text else f"{source}: {text}"


def _print(terminal: Terminal, source: Path, result: SeparatedFile) -> None:
    for path in result.paths:
        typer.echo(path)
    if result.peak_gain < 1:
        terminal.note(f"{source}: all speakers made {result.peak_gain:.3f} times as loud to avoid clipping.")


def _draw(source: Path, result: SeparatedFile, names: Sequence[str]) -> None:
    """A picture of the mixture and the estimates beside the first output."""
    from polsess.audio import read_audio, to_mono
    from polsess.pictures import draw_spectrograms

    length = min(result.num_samples, _PICTURE_SECONDS * result.sample_rate)
    paths = {"mixture": source, **dict(zip(names, result.paths, strict=True))}
    signals = {name: to_mono(read_audio(path, num_samples=length)[0], path) for name, path in paths.items()}
    picture = result.paths[0].with_suffix(".png")
    draw_spectrograms(signals, result.sample_rate, picture, title=source.name)
    typer.echo(picture)


def _finish(terminal: Terminal, done: Sequence[SeparatedFile], problems: Sequence[str]) -> None:
    if done:
        sound = sum(result.duration_seconds for result in done)
        spent = sum(result.elapsed_seconds for result in done)
        terminal.note(
            f"{len(done)} recordings, {sound:.1f} s of sound in {spent:.1f} s: "
            f"real-time factor {spent / sound:.3f}."
        )
    if problems:
        lines = [f"{len(problems)} inputs failed, {len(done)} are done:", *problems]
        raise Failure("\n  ".join(lines))
