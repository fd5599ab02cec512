"""`polsess separate`: recordings in, one file per speaker out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polsess.cli._gate_options import Gate, Speakers, parse_speakers
from polsess.cli._pipes import PIPE, Pipes, pipes, send
from polsess.cli.terminal import ExitCode, Failure, Terminal, explain

if TYPE_CHECKING:
    from polsess.inference import SeparatedFile, Separator
    from polsess.inference.jobs import Job, Outcome, OutputOptions

_PICTURE_SECONDS = 60
_FILENAME = "{track}_{speaker}.{ext}"
_PIPED = "{track}.{ext}"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(separate)


def separate(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Sound files, or folders that are searched with their sub-folders; - is stdin.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder of the outputs, made if needed; - writes one file to stdout, a channel per speaker.",
            rich_help_panel="Outputs",
        ),
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
    ] = _FILENAME,
    gate: Gate = "auto",
    speakers: Speakers = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs.", rich_help_panel="Outputs")
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Leave out recordings whose outputs are all there.",
            rich_help_panel="Outputs",
        ),
    ] = False,
    spectrograms: Annotated[
        bool,
        typer.Option(
            "--spectrograms",
            help=f"Draw a picture of the first {_PICTURE_SECONDS} s as well.",
            rich_help_panel="Outputs",
        ),
    ] = False,
    timeline: Annotated[
        str,
        typer.Option(
            metavar="<elan,audacity,picture>",
            help="Files that say who speaks when, besides {track}.rttm and {track}.json: some of elan, "
            "audacity (labels) and picture, separated by commas.",
            rich_help_panel="Outputs",
        ),
    ] = "",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print a line of JSON per recording: paths, rates, gain, seconds, or its error.",
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
      polsess separate meeting.wav --speakers 2-4 --timeline elan,picture
    """
    from polsess.allocator import tune_allocator
    from polsess.audio import AudioFormat
    from polsess.dependencies import require
    from polsess.inference.jobs import OutputOptions, find_jobs, separate_jobs
    from polsess.inference.timeline_files import parse_formats

    terminal: Terminal = context.obj
    tune_allocator()
    if spectrograms:
        require("matplotlib", "--spectrograms")
    flags = {"--skip-existing": skip_existing, "--overwrite": overwrite, "--json": as_json}
    flags |= {"--spectrograms": spectrograms, "--filename": filename != _FILENAME}
    flags |= {"--timeline": bool(timeline)}
    _check_flags(out, flags)
    if timeline and gate == "never":
        raise Failure("--timeline: with --gate never nobody listens for speakers.", ExitCode.USAGE)
    with pipes(inputs, out) as piped:
        with _usage_errors():
            pattern, form = (_PIPED if piped.out else filename), AudioFormat(file_format, bits)
            options = OutputOptions(
                piped.out or out,
                pattern,
                form,
                clip_mode,
                overwrite,
                skip_existing,
                together=bool(piped.out),
                timeline=parse_formats(timeline),
            )
        separator = _open_separator(
            options, model, device, segment, overlap, channels=channels, gate=gate, speakers=speakers
        )
        jobs, problems = find_jobs(piped.inputs, options.folder, terminal.note, pattern)
        if piped.out and len(jobs) > 1:
            raise Failure(f"-o -: stdout takes one recording, got {len(jobs)}.", ExitCode.USAGE)
        results = _Results(terminal, separator.names, piped, as_json, spectrograms, problems)
        with terminal.progress() as progress:
            bar = progress.add_task("separating", total=len(jobs))
            for job, outcome in separate_jobs(
                separator, jobs, options, lambda index, share: progress.update(bar, completed=index + share)
            ):
                results.add(job, outcome)
        missing = not all(path.exists() for path in piped.inputs)
        results.finish(ExitCode.USAGE if missing else ExitCode.SOME_FAILED)


def _check_flags(out: Path, flags: Mapping[str, bool]) -> None:
    """Refuse flags that contradict each other, or that mean nothing for a sound to stdout."""
    given = [name for name, is_given in flags.items() if is_given]
    if out == PIPE and given:
        raise Failure(f"{given[0]}: means nothing with -o -, which writes a sound to stdout.", ExitCode.USAGE)
    if {"--skip-existing", "--overwrite"} <= set(given):
        raise Failure("--skip-existing and --overwrite exclude each other.", ExitCode.USAGE)


def _open_separator(
    options: OutputOptions,
    model: str,
    device: str,
    segment: float,
    overlap: float,
    *,
    channels: Literal["mix", "each"],
    gate: Literal["auto", "never", "always"],
    speakers: str,
) -> Separator:
    """Check what can be checked without the model, then load it."""
    from polsess.checkpoints import load_model
    from polsess.files import check_folder
    from polsess.inference import Separator, pick_device
    from polsess.inference.outputs import check_pattern

    with _usage_errors():
        check_folder(options.folder)
        check_pattern(options.pattern, num_sources=1)
        pick_device(device)
    loaded = load_model(model)
    with _usage_errors():
        check_pattern(options.pattern, 1 if options.together else loaded.output_sources)
        return Separator(
            loaded,
            device=device,
            segment_seconds=segment or None,
            overlap=overlap,
            channels=channels,
            gate=gate,
            num_speakers=parse_speakers(speakers),
        )


@contextmanager
def _usage_errors() -> Iterator[None]:
    """An option that cannot be met ends the command with the code for a wrong command line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise Failure(explain(error), ExitCode.USAGE) from None


@dataclass
class _Results:
    """Prints every result when it is there, and all problems at the end."""

    terminal: Terminal
    names: Sequence[str]
    piped: Pipes
    as_json: bool
    pictures: bool
    problems: list[str]
    done: list[SeparatedFile] = field(default_factory=list)
    num_skipped: int = 0
    rates: set[int] = field(default_factory=set)
    """Rates of recordings of which was said that the model's band is narrower."""

    def add(self, job: Job, outcome: Outcome) -> None:
        """Take a result, or the error that ended it."""
        from polsess.inference.jobs import Skipped

        name = self.piped.shown(str(job.source))
        if isinstance(outcome, Exception):
            if self.terminal.debug:
                raise outcome
            text = self.piped.shown(explain(outcome))
            self.problems.append(text if name in text else f"{name}: {text}")
            self._record({"input": name, "error": text})
        elif isinstance(outcome, Skipped):
            self.num_skipped += bool(outcome.paths)
            self._record({"input": name, "outputs": self._outputs(outcome.paths), "skipped": True})
        else:
            self.done.append(outcome)
            self._show(job.source, name, outcome)

    def _show(self, source: Path, name: str, result: SeparatedFile) -> None:
        picture = _draw(source, result) if self.pictures else None
        if self.piped.out:
            send(result.paths[0])
        elif not self.as_json:
            for path in (*result.paths, *result.timeline_paths[2:], *([picture] if picture else [])):
                typer.echo(path)
        self._record(
            {
                "input": name,
                "outputs": self._outputs(result.paths, result.names),
                **({"picture": str(picture)} if picture else {}),
                **({"timeline": [str(path) for path in result.timeline_paths]} if result.timeline else {}),
                "sample_rate": result.sample_rate,
                "model_rate": result.model_rate,
                "bandwidth_hz": result.bandwidth_hz,
                "seconds": result.duration_seconds,
                "gain": result.peak_gain,
                "elapsed_seconds": round(result.elapsed_seconds, 3),
            }
        )
        if result.peak_gain < 1:
            self.terminal.note(
                f"{name}: all speakers made {result.peak_gain:.3f} times as loud to avoid clipping."
            )
        if result.timeline is not None and (note := result.timeline.note()):
            self.terminal.note(f"{name}: {note}")
        rate = result.model_rate or result.sample_rate
        if rate < result.sample_rate and result.sample_rate not in self.rates:
            self.rates.add(result.sample_rate)
            where = ", where several talk," if rate < 2 * result.bandwidth_hz else ""
            self.terminal.note(
                f"{name}: is at {result.sample_rate} Hz, the model at {rate} Hz: the outputs{where} "
                f"hold nothing above {rate / 2:.0f} Hz."
            )

    def _outputs(self, paths: Sequence[Path], names: Sequence[str] = ()) -> dict[str, str]:
        return {speaker: str(path) for speaker, path in zip(names or self.names, paths, strict=False)}

    def _record(self, record: Mapping[str, object]) -> None:
        if self.as_json:
            typer.echo(json.dumps(record))

    def finish(self, code: ExitCode) -> None:
        """Sum up; problems end the command with a code."""
        if self.done:
            sound = sum(result.duration_seconds for result in self.done)
            spent = sum(result.elapsed_seconds for result in self.done)
            self.terminal.note(
                f"{_count(len(self.done), 'recording')}, {sound:.1f} s of sound in {spent:.1f} s: "
                f"real-time factor {spent / sound:.3f}."
            )
        if self.num_skipped:
            self.terminal.note(f"{_count(self.num_skipped, 'recording')} skipped, whose outputs exist.")
        if self.problems:
            done = f"{len(self.done)} done" + (f", {self.num_skipped} skipped" if self.num_skipped else "")
            lines = [f"{_count(len(self.problems), 'input')} failed, {done}:", *self.problems]
            raise Failure("\n  ".join(lines), code)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _draw(source: Path, result: SeparatedFile) -> Path:
    """A picture of mixture and estimates beside the first output, up to where the outputs hold something."""
    from polsess.audio import read_audio, to_mono
    from polsess.pictures import draw_spectrograms

    length = min(result.num_samples, _PICTURE_SECONDS * result.sample_rate)
    paths = {"mixture": source, **dict(zip(result.names, result.paths, strict=True))}
    signals = {name: to_mono(read_audio(path, num_samples=length)[0], path) for name, path in paths.items()}
    picture = result.paths[0].with_suffix(".png")
    draw_spectrograms(signals, result.sample_rate, picture, title=source.name, max_hz=result.bandwidth_hz)
    return picture
