"""`polsess extract`: of recordings, the voices that are known from enrolments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polsess.cli._gate_options import Detector, Embedder, Enhancer, Gate, Speakers, listeners
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
    Model,
    Out,
    Overlap,
    Overwrite,
    Precision,
    Segment,
    SkipExisting,
    TimelineFormats,
)
from polsess.cli.terminal import Terminal

_FORBIDDEN = frozenset('/\\:*?"<>|')
"""Letters that cannot be in the name of a file on every system."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(extract)


def extract(
    context: typer.Context,
    inputs: Inputs,
    voice: Annotated[
        list[str],
        typer.Option(
            "--voice",
            metavar="[NAME=]FILE",
            help="Recording of one person, 2 s of speech or more, ideally 10; repeatable. The track is "
            "called NAME, or as the file.",
            rich_help_panel="Voices",
        ),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Similarity of a voice and a track, a cosine, from which they are one person. With "
            "--embedder it has to be given; polsess speakers says where its errors are fewest.",
            show_default="of the bundled speaker embedder, see docs/inference.md",
            rich_help_panel="Voices",
        ),
    ] = None,
    out: Out = Path("extracted"),
    model: Model = "default",
    channels: ChannelChoice = "mix",
    segment: Segment = 24.0,
    overlap: Overlap = 0.25,
    device: Device = "auto",
    precision: Precision = "auto",
    file_format: FileFormat = "wav",
    bits: BitDepth = None,
    clip_mode: Clipping = "rescale",
    filename: Filename = "{track}_{speaker}.{ext}",
    gate: Gate = "auto",
    speakers: Speakers = "auto",
    detector: Detector = None,
    embedder: Embedder = None,
    enhancer: Enhancer = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    timeline: TimelineFormats = "",
    as_json: AsJson = False,
) -> None:
    """Separate recordings and keep the tracks of given voices, each named after its voice.

    A voice that is not in a recording is an error that says how similar the nearest track is; then nothing is
    written for this recording.

    Examples:
      polsess extract --voice alice.wav meeting.wav
      polsess extract --voice alice.wav --voice bob=voices/robert.flac meetings/ -o tracks
    """
    from polsess.allocator import tune_allocator
    from polsess.audio import AudioFormat
    from polsess.checkpoints import load_model
    from polsess.diarization.settings import parse_speakers
    from polsess.files import check_folder
    from polsess.inference import pick_device
    from polsess.inference.extraction import Extractor
    from polsess.inference.jobs import OutputOptions, find_jobs
    from polsess.inference.outputs import check_pattern
    from polsess.inference.timeline_files import parse_formats

    terminal: Terminal = context.obj
    tune_allocator()
    with usage_errors():
        _check_flags(out, skip_existing=skip_existing, overwrite=overwrite)
        voices, num_speakers = _parse_voices(voice), parse_speakers(speakers)
        check_folder(out)
        check_pattern(filename, len(voices))
        pick_device(device)
        options = OutputOptions(
            out,
            filename,
            AudioFormat(file_format, bits),
            clip_mode,
            overwrite,
            skip_existing,
            timeline=parse_formats(timeline),
            protected=tuple(voices.values()),
        )
    loaded = load_model(model)
    with usage_errors():
        extractor = Extractor(
            loaded,
            dict(voices),
            threshold=threshold,
            device=device,
            precision=precision,
            segment_seconds=segment or None,
            overlap=overlap,
            channels=channels,
            gate=gate,
            num_speakers=num_speakers,
            **listeners(detector, embedder, enhancer),
        )
    with pipes(inputs, out) as piped:
        jobs, problems = find_jobs(piped.inputs, out, terminal.note, filename)
        results = Results(terminal, extractor.names, piped, as_json, pictures=False, problems=problems)
        separate_all(terminal, extractor, jobs, options, results)


def _check_flags(out: Path, *, skip_existing: bool, overwrite: bool) -> None:
    if out == PIPE:
        raise ValueError("-o -: extract writes files; name a folder.")
    if skip_existing and overwrite:
        raise ValueError("--skip-existing and --overwrite exclude each other.")


def _parse_voices(words: list[str]) -> dict[str, Path]:
    """The enrolments by name."""
    voices: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.rpartition("=")
        file = Path(path if equals and not Path(word).is_file() else word)
        name = name if equals and not Path(word).is_file() else file.stem
        if not file.is_file():
            raise ValueError(f"--voice {word}: there is no such file.")
        if not name.strip() or name.startswith(".") or _FORBIDDEN & set(name) or not name.isprintable():
            raise ValueError(
                f"--voice {word}: '{name}' cannot be the name of a track; write NAME=FILE with another name."
            )
        if name.casefold() in {each.casefold() for each in voices}:
            raise ValueError(f"--voice: two voices are called '{name}'; write NAME=FILE.")
        voices[name] = file
    return voices
