"""Many recordings at once: finding them in files and folders, naming their outputs, separating each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from polsess.audio import AudioError, AudioFormat, ClipMode, list_sounds
from polsess.inference.long_form import LongFormSeparator
from polsess.inference.outputs import DEFAULT_PATTERN, SeparatedFile, output_paths, track_of_output
from polsess.inference.timeline_files import TimelineFiles, TimelineFormat
from polsess.publication import sweep_once


@dataclass(frozen=True)
class Job:
    """One recording to separate."""

    source: Path
    track: str
    """Unique name of its outputs, with the sub-folders below the folder that was given."""
    is_output: bool = False
    """Whether it is, by place and name, an output of another job, which is not separated again."""


def find_jobs(
    inputs: Iterable[Path],
    out: Path,
    on_note: Callable[[str], None] = lambda _: None,
    pattern: str = DEFAULT_PATTERN,
) -> tuple[list[Job], list[str]]:
    """Find the recordings in files and folders.

    Folders are searched with their sub-folders; hidden files and the output folder are passed over. A file
    that is given twice is one job. Where two files would have outputs of one name, those of the later one get
    a number. Outputs of earlier runs in a folder that is searched are passed over.

    Args:
        inputs: Files and folders.
        out: The output folder.
        on_note: Called with a line on the files in a folder that are passed over.
        pattern: Names of the outputs.

    Returns:
        The jobs, and a message for every input without a recording.
    """
    jobs: list[Job] = []
    problems: list[str] = []
    sources: set[Path] = set()
    tracks: set[str] = set()
    for path in inputs:
        found = [(path, Path(path.name))]
        if path.is_dir():
            sounds = list_sounds(path, leave_out=out, on_error=problems.append)
            found = [(source, source.relative_to(path)) for source in sounds.paths]
            if note := sounds.note():
                on_note(f"{path}: {note}")
            if not found:
                problems.append(f"{path}: no sound files in this folder.")
        for source, name in found:
            identity = Path(os.path.realpath(source))
            if identity not in sources:
                sources.add(identity)
                jobs.append(Job(source, _unused(name.with_suffix("").as_posix(), tracks)))
    return _without_outputs(jobs, set(inputs), out, pattern, on_note), problems


def _without_outputs(
    jobs: Sequence[Job], named: set[Path], out: Path, pattern: str, on_note: Callable[[str], None]
) -> list[Job]:
    """Leave out files that are outputs of other jobs; one that was named itself stays, marked."""
    tracks = {job.track.casefold() for job in jobs}
    outputs = {
        job: replace(job, is_output=True)
        for job in jobs
        if (track := track_of_output(out, pattern, job.source)) not in (None, job.track)
        and track.casefold() in tracks
    }
    if outputs:
        first = next(iter(outputs)).source
        on_note(f"{out}: {len(outputs)} files passed over, outputs of other inputs, e.g. {first}.")
    return [outputs.get(job, job) for job in jobs if job not in outputs or job.source in named]


def _unused(track: str, taken: set[str]) -> str:
    """The name, followed by a number if it is taken; some file systems do not distinguish a from A."""
    candidate, number = track, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{track}_{number}"
    taken.add(candidate.casefold())
    return candidate


@dataclass(frozen=True)
class OutputOptions:
    """Folder, names and format of the outputs."""

    folder: Path
    pattern: str = DEFAULT_PATTERN
    audio_format: AudioFormat = field(default_factory=AudioFormat)
    clip_mode: ClipMode = "rescale"
    overwrite: bool = False
    skip_existing: bool = False
    """Whether a job whose outputs are all there is left out."""
    together: bool = False
    """Whether all speakers go into one file, as its channels; who speaks when is then not written."""
    timeline: tuple[TimelineFormat, ...] = ()
    """Files that say who speaks when, beside RTTM and JSON."""
    protected: tuple[Path, ...] = ()
    """Files that are never overwritten, as the inputs are not."""


@dataclass(frozen=True)
class Skipped:
    """A job that was left out."""

    paths: tuple[Path, ...]
    """Its outputs, which are there already; none for an output of another job."""


Outcome = SeparatedFile | Skipped | Exception
"""Result of a job, or the error that ended it."""


def separate_jobs(
    separator: LongFormSeparator[Any],
    jobs: Sequence[Job],
    options: OutputOptions,
    progress: Callable[[int, float], None] | None = None,
) -> Iterator[tuple[Job, Outcome]]:
    """Separate recordings one by one; a failure does not stop the others.

    Args:
        separator: Separates each recording.
        jobs: Recordings to separate.
        options: Folder, names and format of the outputs. No input is ever overwritten.
        progress: Called with the index of the job and the share of it that is done.
    """
    sources = {Path(os.path.realpath(path)) for path in (*(job.source for job in jobs), *options.protected)}
    for index, job in enumerate(jobs):

        def report(share: float, index: int = index) -> None:
            if progress is not None:
                progress(index, share)

        try:
            yield job, _separate(separator, job, options, sources, report)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            yield job, error
        report(1.0)


def _separate(
    separator: LongFormSeparator[Any],
    job: Job,
    options: OutputOptions,
    sources: set[Path],
    report: Callable[[float], None],
) -> SeparatedFile | Skipped:
    if job.is_output:
        return Skipped(())

    def targets(names: Sequence[str]) -> list[Path]:
        paths = paths_of(names)
        for path in paths:
            if Path(os.path.realpath(path)) in sources:
                raise AudioError(path, "is one of the inputs, which are never overwritten.")
        return paths

    def paths_of(names: Sequence[str]) -> list[Path]:
        ending = options.audio_format.container
        return output_paths(options.folder, options.pattern, job.track, names, ending)

    paths = paths_of(separator.names[:1] if options.together else separator.names)
    if options.skip_existing:
        sweep_once(paths[0].resolve().parent)  # what a killed process had begun to name is finished first
        if all(path.exists() for path in paths):
            return Skipped(tuple(paths))
    return separator.separate_file(
        job.source,
        targets,
        audio_format=options.audio_format,
        clip_mode=options.clip_mode,
        overwrite=options.overwrite,
        together=options.together,
        timeline_files=None
        if options.together
        else TimelineFiles.beside(paths, Path(job.track).name, options.timeline),
        progress=report,
    )
