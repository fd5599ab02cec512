"""`polsess separate`: recordings in, one file per speaker out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from polsess.cli._gate_options import Gate, Speakers
from polsess.cli._pipes import PIPE, pipes
from polsess.cli._results import Results, separate_all, usage_errors
from polsess.cli._sound_options import (
    AsJson,
    BitDepth,
    ChannelChoice,
    Clipping,
    Device,
    FileFormat,
    Filename,
    Inputs,
    Models,
    Out,
    Overlap,
    Overwrite,
    Segment,
    Shifts,
    SkipExisting,
    Spectrograms,
    Then,
    TimelineFormats,
)
from polsess.cli.terminal import ExitCode, Failure, Terminal

if TYPE_CHECKING:
    from polsess.inference.jobs import OutputOptions
    from polsess.inference.long_form import LongFormSeparator

_FILENAME = "{track}_{speaker}.{ext}"
_PIPED = "{track}.{ext}"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(separate)


def separate(
    context: typer.Context,
    inputs: Inputs,
    out: Out = Path("separated"),
    model: Models = ["default"],  # noqa: B006 - typer does not change it
    shifts: Shifts = 1,
    then: Then = None,
    channels: ChannelChoice = "mix",
    segment: Segment = 24.0,
    overlap: Overlap = 0.25,
    device: Device = "auto",
    file_format: FileFormat = "wav",
    bits: BitDepth = None,
    clip_mode: Clipping = "rescale",
    filename: Filename = _FILENAME,
    gate: Gate = "auto",
    speakers: Speakers = "auto",
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    spectrograms: Spectrograms = False,
    timeline: TimelineFormats = "",
    as_json: AsJson = False,
) -> None:
    """Separate the speakers of recordings of any length, rate and number of channels.

    The outputs are as long as the recording, at its rate, and at the level that each speaker has in it.

    Examples:
      polsess separate meeting.wav
      polsess separate recordings/ -o speakers --format flac
      polsess separate interview.mp3 -m runs/dprnn/best --segment 8
      polsess separate interview.mp3 -m default.onnx
      polsess separate noisy.wav -m enhance-both --then default --shifts 2
      polsess separate meeting.wav --speakers 2-4 --timeline elan,picture
    """
    from polsess.allocator import tune_allocator
    from polsess.audio import AudioFormat
    from polsess.dependencies import require
    from polsess.inference.jobs import OutputOptions, find_jobs
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
        with usage_errors():
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
            options,
            (model, shifts, then),
            device,
            segment,
            overlap,
            channels=channels,
            gate=gate,
            speakers=speakers,
        )
        jobs, problems = find_jobs(piped.inputs, options.folder, terminal.note, pattern)
        if piped.out and len(jobs) > 1:
            raise Failure(f"-o -: stdout takes one recording, got {len(jobs)}.", ExitCode.USAGE)
        results = Results(terminal, separator.names, piped, as_json, spectrograms, problems)
        separate_all(terminal, separator, jobs, options, results)


def _check_flags(out: Path, flags: Mapping[str, bool]) -> None:
    """Refuse flags that contradict each other, or that mean nothing for a sound to stdout."""
    given = [name for name, is_given in flags.items() if is_given]
    if out == PIPE and given:
        raise Failure(f"{given[0]}: means nothing with -o -, which writes a sound to stdout.", ExitCode.USAGE)
    if {"--skip-existing", "--overwrite"} <= set(given):
        raise Failure("--skip-existing and --overwrite exclude each other.", ExitCode.USAGE)


def _open_separator(
    options: OutputOptions,
    models: tuple[list[str], int, str | None],
    device: str,
    segment: float,
    overlap: float,
    *,
    channels: Literal["mix", "each"],
    gate: Literal["auto", "never", "always"],
    speakers: str,
) -> LongFormSeparator[Any]:
    """Check what can be checked without the model, then load it."""
    from polsess.diarization.settings import parse_speakers
    from polsess.files import check_folder
    from polsess.inference.outputs import check_pattern

    with usage_errors():
        check_folder(options.folder)
        check_pattern(options.pattern, num_sources=1)
        voices = parse_speakers(speakers)
    settings: dict[str, Any] = {
        "segment_seconds": segment or None,
        "overlap": overlap,
        "channels": channels,
        "num_speakers": voices,
    }
    sources, num_shifts, then = models
    if in_onnx := [each for each in (*sources, then or "") if each.lower().endswith(".onnx")]:
        if len(sources) > 1 or num_shifts != 1 or then:
            raise Failure(f"{in_onnx[0]}: ONNX files run alone, without --shifts and --then.", ExitCode.USAGE)
        return _open_onnx(options, in_onnx[0], device, gate, settings)
    from polsess.checkpoints import load_model
    from polsess.inference import Separator, pick_device
    from polsess.models.combination import combine

    with usage_errors():
        pick_device(device)
    members, last = [load_model(each) for each in sources], None if then is None else load_model(then)
    with usage_errors():
        loaded = combine(members, num_shifts=num_shifts, then=last)
        check_pattern(options.pattern, 1 if options.together else loaded.output_sources)
        return Separator(loaded, device=device, gate=gate, **settings)


def _open_onnx(
    options: OutputOptions,
    model: str,
    device: str,
    gate: Literal["auto", "never", "always"],
    settings: Mapping[str, Any],
) -> LongFormSeparator[Any]:
    """A separator without torch; ``auto`` gates where the files of the networks that listen are there."""
    from polsess.inference.outputs import check_pattern
    from polsess.runtime import Separator

    if device not in ("auto", "cpu"):
        raise Failure(f"--device {device}: ONNX files run on the processor; use auto or cpu.", ExitCode.USAGE)
    chosen = {} if gate == "auto" else {"gate": gate}
    with usage_errors():
        separator = Separator.from_onnx(model, **chosen, **settings)
        check_pattern(options.pattern, 1 if options.together else len(separator.names))
        return separator
