"""`polsess separate`: recordings in, one file per speaker out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from polsess.cli._cluster_options import Ray, Request, separate_with_ray
from polsess.cli._gate_options import Detector, Embedder, Enhancer, Gate, Speakers, listeners
from polsess.cli._pipes import PIPE, Pipes, pipes
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
    Precision,
    Segment,
    Shifts,
    SkipExisting,
    Spectrograms,
    Then,
    TimelineFormats,
)
from polsess.cli.terminal import ExitCode, Failure, Terminal

if TYPE_CHECKING:
    from polsess.audio import Bits, ClipMode, Container
    from polsess.inference.jobs import OutputOptions
    from polsess.inference.long_form import LongFormSeparator
    from polsess.models import SeparationModel

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
    precision: Precision = "auto",
    file_format: FileFormat = "wav",
    bits: BitDepth = None,
    clip_mode: Clipping = "rescale",
    filename: Filename = _FILENAME,
    gate: Gate = "auto",
    speakers: Speakers = "auto",
    detector: Detector = None,
    embedder: Embedder = None,
    enhancer: Enhancer = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    spectrograms: Spectrograms = False,
    timeline: TimelineFormats = "",
    as_json: AsJson = False,
    ray: Ray = None,
) -> None:
    """Separate the speakers of recordings of any length, rate and number of channels.

    The outputs are as long as the recording, at its rate, and at the level that each speaker has in it.

    Examples:
      polsess separate meeting.wav
      polsess separate recordings/ -o speakers --format flac
      polsess separate interview.mp3 -m runs/dprnn --segment 8
      polsess separate interview.mp3 -m default.onnx
      polsess separate noisy.wav -m enhance-both --then default --shifts 2
      polsess separate meeting.wav --speakers 2-4 --timeline elan,picture
      polsess separate s3://archive/2026 cuts.jsonl.gz -o s3://archive/speakers --ray ray://head:10001
    """
    from polsess.allocator import tune_allocator
    from polsess.inference.jobs import find_jobs
    from polsess.inference.outputs import check_pattern

    terminal: Terminal = context.obj
    tune_allocator()
    flags = {"--skip-existing": skip_existing, "--overwrite": overwrite, "--json": as_json}
    flags |= {"--spectrograms": spectrograms, "--filename": filename != _FILENAME}
    flags |= {"--timeline": bool(timeline), "--ray": ray is not None}
    _check_flags(inputs, out, flags, gate)
    models = model, shifts, then
    sound: dict[str, Any] = {"segment_seconds": segment or None, "overlap": overlap, "channels": channels}
    sound |= {"precision": precision, **listeners(detector, embedder, enhancer)}
    with pipes(inputs, out) as piped:
        options = _options(
            piped, out, filename, (file_format, bits), clip_mode, timeline, (overwrite, skip_existing)
        )
        opening = _load(options, models, "cpu" if ray else device, sound, gate, speakers)
        with usage_errors():
            separator = opening("cpu" if ray else device)
            check_pattern(options.pattern, 1 if options.together else len(separator.names))
        if ray is not None:
            settings = {**sound, "gate": gate, "speakers": speakers, **_settings(models, opening, options)}
            cluster = Request(ray, device, opening, separator.names, settings)
            separate_with_ray(terminal, cluster, inputs, options, as_json=as_json)
            return
        with usage_errors():
            jobs, problems = find_jobs(piped.inputs, options.folder, terminal.note, options.pattern)
        if piped.out and len(jobs) > 1:
            raise Failure(f"-o -: stdout takes one recording, got {len(jobs)}.", ExitCode.USAGE)
        results = Results(terminal, separator.names, piped, as_json, spectrograms, problems)
        separate_all(terminal, separator, jobs, options, results)


def _check_flags(inputs: list[Path], out: Path, flags: Mapping[str, bool], gate: str) -> None:
    """Refuse flags that contradict each other, or that mean nothing for a sound to stdout or on a cluster."""
    from polsess.dependencies import require
    from polsess.object_storage import is_remote

    given = [name for name, is_given in flags.items() if is_given]
    if out == PIPE and given:
        raise Failure(f"{given[0]}: means nothing with -o -, which writes a sound to stdout.", ExitCode.USAGE)
    if {"--skip-existing", "--overwrite"} <= set(given):
        raise Failure("--skip-existing and --overwrite exclude each other.", ExitCode.USAGE)
    if {"--spectrograms", "--ray"} <= set(given):
        raise Failure("--spectrograms: is not drawn on a cluster; leave it or --ray out.", ExitCode.USAGE)
    if "--spectrograms" in given and is_remote(out):
        raise Failure("--spectrograms: is drawn on this machine only; leave it out.", ExitCode.USAGE)
    if "--spectrograms" in given:
        require("matplotlib", "--spectrograms")
    if "--ray" in given and PIPE in inputs:
        raise Failure("--ray: takes files, folders and lists, no pipe.", ExitCode.USAGE)
    if "--timeline" in given and gate == "never":
        raise Failure("--timeline: with --gate never nobody listens for speakers.", ExitCode.USAGE)


def _options(
    piped: Pipes,
    out: Path,
    filename: str,
    form: tuple[Container, Bits | None],
    clip_mode: ClipMode,
    timeline: str,
    existing: tuple[bool, bool],
) -> OutputOptions:
    from polsess.audio import AudioFormat
    from polsess.inference.jobs import OutputOptions
    from polsess.inference.timeline_files import parse_formats

    with usage_errors():
        return OutputOptions(
            piped.out or out,
            _PIPED if piped.out else filename,
            AudioFormat(*form),
            clip_mode,
            *existing,
            together=bool(piped.out),
            timeline=parse_formats(timeline),
        )


def _load(
    options: OutputOptions,
    models: tuple[list[str], int, str | None],
    device: str,
    sound: Mapping[str, Any],
    gate: Literal["auto", "never", "always"],
    speakers: str,
) -> partial[LongFormSeparator[Any]]:
    """Check what can be checked without the model, then load it; the result makes separators, by device."""
    from polsess.diarization.settings import parse_speakers
    from polsess.files import check_folder
    from polsess.inference.outputs import check_pattern
    from polsess.object_storage import is_remote
    from polsess.onnx_files import is_onnx

    with usage_errors():
        if not is_remote(options.folder):
            check_folder(options.folder)
        check_pattern(options.pattern, num_sources=1)
        settings = {**sound, "num_speakers": parse_speakers(speakers)}
    sources, num_shifts, then = models
    if in_onnx := [each for each in (*sources, then or "") if is_onnx(each)]:
        if len(sources) > 1 or num_shifts != 1 or then:
            raise Failure(f"{in_onnx[0]}: ONNX files run alone, without --shifts and --then.", ExitCode.USAGE)
        if (precision := settings.pop("precision")) not in ("auto", "float32"):
            raise Failure(f"--precision {precision}: ONNX files run in float32.", ExitCode.USAGE)
        chosen = {} if gate == "auto" else {"gate": gate}
        return partial(_open_onnx, in_onnx[0], {**chosen, **settings})
    from polsess.checkpoints import load_model
    from polsess.inference import pick_device
    from polsess.models.combination import combine

    with usage_errors():
        pick_device(device)
    members, last = [load_model(each) for each in sources], None if then is None else load_model(then)
    with usage_errors():
        loaded = combine(members, num_shifts=num_shifts, then=last)
    return partial(_open_torch, loaded, {"gate": gate, **settings})


def _open_torch(model: SeparationModel, settings: Mapping[str, Any], device: str) -> LongFormSeparator[Any]:
    from polsess.inference import Separator

    return Separator(model, device=device, **settings)


def _open_onnx(model: str, settings: Mapping[str, Any], device: str) -> LongFormSeparator[Any]:
    """A separator without torch; it gates where the files of the networks that listen are there."""
    from polsess.runtime import Separator

    if device not in ("auto", "cpu"):
        raise Failure(f"--device {device}: ONNX files run on the processor; use auto or cpu.", ExitCode.USAGE)
    return Separator.from_onnx(model, **settings)


def _settings(
    models: tuple[list[str], int, str | None],
    opening: partial[LongFormSeparator[Any]],
    options: OutputOptions,
) -> dict[str, Any]:
    """What the outputs depend on, for a manifest."""
    from polsess.evaluation import ModelSystem
    from polsess.files import sha256

    network = opening.args[0]
    return {
        "models": models,
        "weights": sha256(Path(network)) if isinstance(network, str) else ModelSystem(network, "").identity,
        "filename": options.pattern,
        "format": [options.audio_format.container, options.audio_format.bits, options.clip_mode],
        "timeline": options.timeline,
    }
