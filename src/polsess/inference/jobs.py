"""Many recordings at once: finding them, naming their outputs, separating each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from polsess.audio import AudioError, AudioFormat, ClipMode, is_hidden, list_sounds, sort_sounds
from polsess.inference.excerpts import sound_of
from polsess.inference.file_outputs import FileOutputs
from polsess.inference.finishing import Finishing
from polsess.inference.long_form import LongFormSeparator
from polsess.inference.manifests import Excerpt, Listed, is_manifest, read_manifest
from polsess.inference.outputs import DEFAULT_PATTERN, EXISTS, SeparatedFile, output_paths, track_of_output
from polsess.inference.passes import Course, Passes
from polsess.inference.timeline_files import TimelineFiles, TimelineFormat
from polsess.object_storage import exists, folder_for, is_folder, is_remote, list_objects, shown
from polsess.pace import Progress
from polsess.publication import sweep_once
from polsess.text_tables import counted

USUAL_BYTES = 32_000
"""Of a second of sound: 16 bits at 16 kHz."""
_BYTES_TOGETHER = 1 << 22
"""Of the recordings that share passes; in longer ones enough pieces go together."""


@dataclass(frozen=True)
class Job:
    """One recording to separate."""

    source: Path
    track: str
    """Unique name of its outputs, with the sub-folders below the folder that was given."""
    is_output: bool = False
    """Whether it is, by place and name, an output of another job, which is not separated again."""
    excerpt: Excerpt | None = None
    """The part of it that is separated; None for all."""
    seconds: float = 0.0
    """How long it is, as its list says, or guessed by its size; 0 if that is unknown."""

    @property
    def name(self) -> str:
        """The recording and its part, as ``a.wav#t=5,20``."""
        return f"{shown(self.source)}#{self.excerpt}" if self.excerpt else shown(self.source)


def find_jobs(
    inputs: Iterable[Path],
    out: Path,
    on_note: Callable[[str], None] = lambda _: None,
    pattern: str = DEFAULT_PATTERN,
    known: Mapping[str, str] | None = None,
) -> tuple[list[Job], list[str]]:
    """Find the recordings in files, folders and lists.

    Folders are searched with their sub-folders; hidden files and the output folder are passed over. A file
    that is given twice is one job. Where two files would have outputs of one name, those of the later one get
    a number. Outputs of earlier runs in a folder that is searched are passed over.

    Args:
        inputs: Files, folders and lists (see ``manifests``), of this machine or of a store (``s3://``).
        out: The output folder.
        on_note: Called with a line on the files in a folder that are passed over, and on numbered names.
        pattern: Names of the outputs.
        known: Tracks of earlier jobs by their names, which they keep.

    Returns:
        The jobs, and a message for every input without a recording.

    Raises:
        ValueError: If a list is damaged.
        OSError: If it cannot be read.
    """
    jobs: list[Job] = []
    numbered: list[Job] = []
    problems: list[str] = []
    given, known = list(inputs), known or {}
    found: set[tuple[Path, Excerpt | None]] = set()
    tracks = {track.casefold() for track in known.values()}
    for path in given:
        for each in _recordings_in(path, out, on_note, problems):
            source = each.source if is_remote(each.source) else Path(os.path.realpath(each.source))
            if (source, each.excerpt) not in found:
                found.add((source, each.excerpt))
                job = Job(each.source, each.name, excerpt=each.excerpt, seconds=each.seconds)
                jobs.append(replace(job, track=known.get(job.name) or _unused(each.name, tracks)))
                if job.name not in known and jobs[-1].track != each.name:
                    numbered.append(jobs[-1])
    if numbered:
        more = f", and {len(numbered) - 1} more" if len(numbered) > 1 else ""
        on_note(f"Inputs of one name have numbered outputs: {numbered[0].track} is {numbered[0].name}{more}.")
    return _without_outputs(jobs, set(given), out, pattern, on_note), problems


def _recordings_in(
    path: Path, out: Path, on_note: Callable[[str], None], problems: list[str]
) -> Iterator[Listed]:
    """The recordings that an input names."""
    if is_manifest(path) and not path.is_dir():
        yield from read_manifest(path)
        return
    if not is_folder(path):
        yield Listed(path, path.stem)
        return
    sizes: dict[Path, int] = {}
    if is_remote(path):
        sizes = {place: size for place, size in list_objects(path).items() if out not in place.parents}
        sounds = sort_sounds(each for each in sizes if not any(map(is_hidden, each.relative_to(path).parts)))
    else:
        sounds = list_sounds(path, leave_out=out, on_error=problems.append)
    if note := sounds.note():
        on_note(f"{shown(path)}: {note}")
    if not sounds.paths:
        problems.append(f"{shown(path)}: no sound files in this folder.")
    for source in sounds.paths:
        name = source.relative_to(path).with_suffix("").as_posix()
        yield Listed(source, name, seconds=sizes.get(source, 0) / USUAL_BYTES)


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
        on_note(
            f"{shown(out)}: {counted(len(outputs), 'file')} passed over, outputs of other inputs, "
            f"e.g. {first}."
        )
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

    def __post_init__(self) -> None:
        self.audio_format.check_name(self.pattern)


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
    progress: Progress | None = None,
) -> Iterator[tuple[Job, Outcome]]:
    """Separate recordings; results come in their order, and a failure does not stop the others.

    Short ones share passes through the network where their pieces are equally long, and files are written
    while the network is at work on the next recordings.

    Args:
        separator: Separates each recording.
        jobs: Recordings to separate.
        options: Folder, names and format of the outputs. No input is ever overwritten.
        progress: Called with the number of recordings that are separated, with shares of those at work.
    """
    sources = {Path(os.path.realpath(path)) for path in (*(job.source for job in jobs), *options.protected)}
    shares = [0.0] * len(jobs)
    done = 0.0

    def report(index: int, share: float) -> None:
        nonlocal done
        done += share - shares[index]
        shares[index] = share
        if progress is not None:
            progress(done)

    passes, first = separator.passes(), 0
    with Finishing[Job, SeparatedFile | Skipped]() as finishing:
        for group in _groups(jobs, passes.batch_size):
            yield from _told(finishing.results(sum(map(_bytes, group))))
            courses = [
                _separate(separator, passes, job, options, sources, partial(report, first + place))
                for place, job in enumerate(group)
            ]
            errors = passes.advance(courses)
            for place, (job, course, error) in enumerate(zip(group, courses, errors, strict=True)):
                last = first + len(group) == len(jobs)
                finishing.add(job, _bytes(job), error or course, last)
                report(first + place, 1.0)
            first += len(group)
        yield from _told(finishing.results())


def _told(
    results: Iterator[tuple[Job, SeparatedFile | Skipped | Exception]],
) -> Iterator[tuple[Job, Outcome]]:
    """Results, but for errors that are no recording's fault."""
    for job, outcome in results:
        if isinstance(outcome, Exception) and not isinstance(
            outcome, ValueError | OSError | RuntimeError | MemoryError
        ):
            raise outcome
        yield job, outcome


def _groups(jobs: Sequence[Job], most: int) -> Iterator[list[Job]]:
    """Neighbours, at most so many, that are not too long to be at work together."""
    group: list[Job] = []
    for job in jobs:
        if group and (len(group) == most or sum(map(_bytes, (*group, job))) > _BYTES_TOGETHER):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


def _bytes(job: Job) -> int:
    """About the size of a recording."""
    try:
        return round(job.seconds * USUAL_BYTES) or job.source.stat().st_size
    except OSError:  # whoever opens it says what is wrong with it
        return 0


def _separate(
    separator: LongFormSeparator[Any],
    passes: Passes,
    job: Job,
    options: OutputOptions,
    sources: set[Path],
    report: Progress,
) -> Course[SeparatedFile | Skipped]:
    """The course of one recording."""
    if job.is_output:
        yield None
        return Skipped(())

    def paths_in(folder: Path, names: Sequence[str]) -> list[Path]:
        ending = options.audio_format.container
        return output_paths(folder, options.pattern, job.track, names, ending)

    def targets(names: Sequence[str]) -> list[Path]:
        for path in paths_in(options.folder, names):
            if Path(os.path.realpath(path)) in sources:
                raise AudioError(path, "is one of the inputs, which are never overwritten.")
        return paths_in(folder, names)

    names = separator.names[:1] if options.together else separator.names
    paths = paths_in(options.folder, names)
    if options.skip_existing:
        if not is_remote(paths[0]):
            sweep_once(paths[0].resolve().parent)  # what a killed process had begun to name is finished first
        if all(exists(path) for path in paths):
            yield None
            return Skipped(tuple(paths))
    if is_remote(options.folder) and not options.overwrite and any(exists(path) for path in paths):
        raise AudioError(shown(paths[0]), EXISTS)
    with sound_of(job.source, job.excerpt) as sound, folder_for(options.folder) as folder:
        track = Path(job.track).name
        beside = TimelineFiles.beside(paths_in(folder, names), track, options.timeline)
        outputs = FileOutputs(
            sound,
            targets,
            options.audio_format,
            options.clip_mode,
            options.overwrite,
            options.together,
            None if options.together else beside,
        )
        result = yield from separator.file_course(passes, outputs, report)
    if folder == options.folder:
        return result
    places = [
        tuple(options.folder / path.relative_to(folder) for path in each)
        for each in (result.paths, result.timeline_paths)
    ]
    return replace(result, paths=places[0], timeline_paths=places[1])
