"""The files that the sources of a recording go to, and those beside them that say who speaks when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from polsess.audio import AudioFormat, ClipMode
from polsess.diarization import SpeakerTimeline
from polsess.inference.outputs import as_one_source, check_targets, write_sources
from polsess.inference.recordings import Recording
from polsess.inference.rendering import Rendering
from polsess.inference.timeline_files import TimelineFiles

Targets = Sequence[Path | str] | Callable[[Sequence[str]], Sequence[Path | str]]
"""One path per source, or what makes them of the names of the sources."""


@dataclass(frozen=True)
class Written:
    """Files that were written."""

    paths: tuple[Path, ...]
    """Of the sources."""
    beside: tuple[Path, ...]
    """Those that say who speaks when."""
    gain: float
    """The common factor of the sources."""


@dataclass(frozen=True)
class FileOutputs:
    """Where the sources of a recording go, and in which form."""

    source: Path
    """The recording, which is never overwritten."""
    targets: Targets
    """One path per source; no more voices than these are then looked for. Or a function that gives the paths
    for the names of the sources, so that there may be more. For ``together`` a single path."""
    audio_format: AudioFormat | None = None
    """Format of the files; None for the one that their names end in."""
    clip_mode: ClipMode = "rescale"
    """Treatment of samples beyond full scale."""
    overwrite: bool = False
    """Whether existing files may be replaced."""
    together: bool = False
    """Write one file whose channels are the sources."""
    timeline_files: TimelineFiles | None = None
    """Files that say who speaks when; None for no such files."""

    @property
    def most(self) -> int | None:
        """The most sources that there are paths for; None for any number."""
        return None if callable(self.targets) or self.together else len(self.targets)

    def format_of(self, path: Path) -> AudioFormat:
        """The format of the file of a source."""
        return self.audio_format or AudioFormat.of(path)

    def paths(self, names: Sequence[str]) -> list[Path]:
        """The paths of sources, after a check that they may be written."""
        expected = 1 if self.together else len(names)
        targets = self.targets(names[:expected]) if callable(self.targets) else self.targets
        paths = [Path(target) for target in targets]
        if len(paths) != expected:
            raise ValueError(f"targets: expected {expected} paths, got {len(paths)}.")
        for path in paths:
            self.format_of(paths[0]).check_name(path)
        beside = self.timeline_files.paths.values() if self.timeline_files else ()
        check_targets((*paths, *beside), self.source, self.overwrite)
        return paths

    def write(self, rendering: Rendering, recording: Recording, timeline: SpeakerTimeline | None) -> Written:
        """Write all files of a result, or none."""
        paths, writers = self.paths(rendering.names), {}
        if self.timeline_files and timeline:
            writers = self.timeline_files.of(timeline, rendering.names, paths, recording)
        gain = write_sources(
            paths,
            partial(as_one_source, rendering.blocks) if self.together else rendering.blocks,
            recording.sample_rate,
            recording.num_samples,
            self.format_of(paths[0]),
            self.clip_mode,
            self.overwrite,
            writers,
        )
        return Written(tuple(paths), tuple(writers), gain)
