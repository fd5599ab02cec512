"""Separation of many recordings on a cluster: what is still to do, who does it, and the record of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from polsess.cluster.manifest import Entry, Manifest, Status
from polsess.cluster.workers import Cluster, Failed, Work, group_by_length
from polsess.inference.jobs import USUAL_BYTES, Job, OutputOptions, find_jobs, separate_jobs
from polsess.inference.long_form import LongFormSeparator
from polsess.inference.manifests import Excerpt
from polsess.inference.outputs import EXISTS, SeparatedFile, output_paths, track_of_output
from polsess.object_storage import is_remote, list_objects, shown
from polsess.system_errors import one_line

OpenSeparator = Callable[[str], LongFormSeparator[Any]]
"""Makes a separator for a device."""

_GROUP_SECONDS = 60.0
"""Short recordings are handed out together, up to this much sound."""


@dataclass(frozen=True)
class Plan:
    """What a command has to do, after what earlier ones have done."""

    jobs: list[Job]
    """To be separated."""
    num_done: int
    """Recordings that earlier commands have finished."""
    others: list[Entry]
    """Recordings that are refused, or stay as they are."""
    problems: list[str]
    """Inputs without a recording."""


def plan(
    inputs: Iterable[Path],
    options: OutputOptions,
    manifest: Manifest,
    names: Sequence[str],
    on_note: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Find out what is to be done, and record it, so that the next command knows which outputs are its own.

    Args:
        inputs: Files, folders and lists.
        options: Folder, names and format of the outputs.
        manifest: Of the folder.
        names: Names of the speakers that every recording has.
        on_note: Called with a line on files that are passed over.

    Raises:
        ValueError: If a list is damaged.
        FileExistsError: If the folder holds outputs of other settings.
        OSError: If something cannot be read or written.
    """
    if options.overwrite:
        manifest.discard()
    known = {
        name: entry
        for name, entry in manifest.restore().items()
        if entry.status in ("pending", "done", "failed")
    }
    tracks = {name: entry.track for name, entry in known.items()}
    places = [path if is_remote(path) else path.absolute() for path in inputs]  # workers have another folder
    jobs, problems = find_jobs(places, options.folder, on_note, options.pattern, tracks)
    there = _tracks_in(options)
    sources = {track_of_output(options.folder, options.pattern, job.source) for job in jobs}
    chosen, others, num_done = list[Job](), list[Entry](), 0
    for job in jobs:
        name = job.name
        if name in known and known[name].status == "done":
            num_done += 1
        elif reason := _objection(job, sources):
            others.append(Entry(_text(name), _text(job.track), "refused", error=f"{_text(name)}: {reason}"))
        elif name not in known and job.track in there and not options.overwrite:
            others.append(_of_old_outputs(job, options, names))
        else:
            chosen.append(job)
            if name not in known:
                manifest.add(Entry(name, job.track, "pending"))
    for entry in others:
        manifest.add(entry)
    manifest.flush()
    return Plan(chosen, num_done, others, problems)


def _objection(job: Job, sources: set[str | None]) -> str:
    """Why a recording is not separated; empty if it is."""
    if job.track in sources or job.is_output:
        return "its outputs would replace one of the inputs, which are never overwritten."
    if _text(job.name) != job.name or _text(job.track) != job.track:
        return "its name is not one line of UTF-8, which the manifest needs; rename it."
    return ""


def _of_old_outputs(job: Job, options: OutputOptions, names: Sequence[str]) -> Entry:
    """The row of a recording whose outputs were there before any manifest."""
    paths = output_paths(options.folder, options.pattern, job.track, names, options.audio_format.container)
    status: Status = "skipped" if options.skip_existing else "refused"
    outputs = tuple(shown(path) for path in paths) if options.skip_existing else ()
    error = "" if options.skip_existing else f"{shown(paths[0])}: {EXISTS}"
    return Entry(job.name, job.track, status, outputs, error=error)


def _tracks_in(options: OutputOptions) -> set[str]:
    """The tracks of which files are in the output folder."""
    folder = options.folder
    paths = list_objects(folder) if is_remote(folder) else folder.rglob("*") if folder.is_dir() else ()
    found = set[str]()
    for path in paths:
        if (track := track_of_output(folder, options.pattern, path)) is not None:
            found.add(track)
        elif path.suffix in (".rttm", ".json"):
            found.add(path.relative_to(folder).with_suffix("").as_posix())
    return found


def separate_on_cluster(
    cluster: Cluster,
    open_separator: OpenSeparator,
    jobs: Sequence[Job],
    options: OutputOptions,
    manifest: Manifest,
) -> Iterator[Entry]:
    """Separate recordings on the workers of a cluster; a failure does not stop the others.

    Args:
        cluster: The cluster.
        open_separator: Called once in each worker, which has this package; what it holds is sent there.
        jobs: Of a plan, whose outputs are replaced where they are there.
        options: Folder, names and format of the outputs; the folder is one that all machines share.
        manifest: Takes each row before it is given.
    """
    work = _Separating(open_separator, replace(options, overwrite=True, skip_existing=False))
    by_name = {job.name: job for job in jobs}
    groups = group_by_length([_plain(job) for job in jobs], lambda item: item["seconds"], _GROUP_SECONDS)
    for item, result in cluster.map(work.prepare, groups):
        job = by_name[item["name"]]
        if isinstance(result, Failed):
            entry = Entry(job.name, job.track, "failed", error=f"{job.name}: {result.reason}.")
        else:
            entry = Entry.from_plain(result)
        manifest.add(entry)
        yield entry


@dataclass(frozen=True)
class _Separating:
    """What is sent to every worker."""

    open_separator: OpenSeparator
    options: OutputOptions

    def prepare(self, device: str) -> Work:
        """Load the model; called in the worker."""
        from polsess.allocator import tune_allocator

        tune_allocator()
        separator = self.open_separator(device)
        return lambda item: asdict(_separate(separator, _job_of(item), self.options))


def _separate(separator: LongFormSeparator[Any], job: Job, options: OutputOptions) -> Entry:
    """Separate one recording, in a worker."""
    ((_, outcome),) = separate_jobs(separator, [job], options)
    if isinstance(outcome, Exception):
        text = _text(one_line(outcome))
        named = shown(job.source) in text
        return Entry(job.name, job.track, "failed", error=text if named else f"{job.name}: {text}")
    assert isinstance(outcome, SeparatedFile)  # nothing is skipped
    return Entry(
        job.name,
        job.track,
        "done",
        tuple(map(shown, outcome.paths)),
        tuple(map(shown, outcome.timeline_paths)),
        outcome.sample_rate,
        outcome.duration_seconds,
        len(outcome.names) if outcome.count is None else outcome.count.number,
        round(outcome.elapsed_seconds, 3),
        outcome.precision,
    )


def _plain(job: Job) -> dict[str, Any]:
    """A job as JSON holds it."""
    seconds = job.seconds
    if not seconds and not is_remote(job.source):
        try:
            seconds = job.source.stat().st_size / USUAL_BYTES
        except OSError:  # the worker says what is wrong with it
            seconds = 0.0
    return {**asdict(job), "name": job.name, "source": str(job.source), "seconds": seconds}


def _job_of(item: Mapping[str, Any]) -> Job:
    part = item["excerpt"]
    excerpt = None if part is None else Excerpt(**{**part, "channels": tuple(part["channels"])})
    return Job(Path(item["source"]), item["track"], excerpt=excerpt)


def _text(text: str) -> str:
    """One line that UTF-8 holds; bytes of names that it does not hold become escapes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
