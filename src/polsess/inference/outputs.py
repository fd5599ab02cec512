"""Results of a separation: sources in memory or in files, their names, and writing all of them or none."""

from __future__ import annotations

import base64
import html
import os
import re
import string
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, get_args

import numpy as np

from polsess.audio import (
    AnySamples,
    AudioError,
    AudioFormat,
    AudioWriter,
    Bits,
    ClipMode,
    Container,
    Samples,
    as_samples,
    peak_gain,
    write_audio,
)
from polsess.dependencies import is_installed
from polsess.diarization import SpeakerTimeline
from polsess.inference.network import SpeakerCount
from polsess.inference.timeline_files import TimelineFiles, TimelineFormat, Tracks, Writer
from polsess.interruption import heed
from polsess.pictures import draw_spectrograms
from polsess.publication import atomic_files, sweep_once
from polsess.timelines import Turn

EXISTS = "exists already; choose another place, or overwrite it (--overwrite)."
DEFAULT_PATTERN = "{track}_{speaker}.{ext}"
_SHOWN_SECONDS = 60.0
_FIELDS = {"track", "speaker", "ext"}


class _Band:
    """The band of separated sources, in memory or in files."""

    sample_rate: int
    model_rate: int | None
    timeline: SpeakerTimeline | None

    @property
    def bandwidth_hz(self) -> float:
        """Frequency above which the sources hold nothing, in Hz.

        Half the model's rate if that is lower than the input's; not where talk of one voice passes through.
        """
        passes = False
        if self.timeline is not None and not self.timeline.whole:
            passes = not all(_covered(turn, self.timeline.separated) for turn in self.timeline.turns)
        return min(self.sample_rate, self.sample_rate if passes else self.model_rate or self.sample_rate) / 2


@dataclass(frozen=True, repr=False)
class Separation(_Band, Generic[AnySamples]):
    """The speakers of one recording, in memory: tensors of torch, or arrays from ``polsess.runtime``."""

    sources: AnySamples
    """``[C, T]``, or ``[C, channels, T]`` where each channel was separated; float32 at the input's rate and
    length, each at its level in the mixture."""
    sample_rate: int
    """In Hz; the input's."""
    names: tuple[str, ...]
    """Names of the sources: speaker1, speaker2 ..., or speech."""
    elapsed_seconds: float
    """Seconds that the separation took."""
    track: str = "separated"
    """Name of the input without folder and suffix; files of the sources are named after it."""
    timeline: SpeakerTimeline | None = None
    """Who speaks when; None where the recording was separated without looking for that."""
    model_rate: int | None = None
    """The model's rate in Hz; None if it is the input's."""
    count: SpeakerCount | None = None
    """How many speakers the network heard, with the probability; sources beyond them are silent. None from a
    network that does not count, and where voices were found by the gate (``timeline.speakers``)."""
    precision: str = "float32"
    """The type in which the network's products were computed."""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[AnySamples]:
        return iter(self.sources)

    def __getitem__(self, source: int | str) -> AnySamples:
        """A source by index or by name, ``[T]`` or ``[channels, T]``."""
        return self.sources[self.names.index(source) if isinstance(source, str) else source]

    def __repr__(self) -> str:
        seconds = self.sources.shape[-1] / self.sample_rate
        band = (
            f", nothing above {self.bandwidth_hz:.0f} Hz" if self.bandwidth_hz < self.sample_rate / 2 else ""
        )
        about = f"{', '.join(self.names)}; {seconds:.1f} s at {self.sample_rate} Hz{band}"
        return f"Separation({self.track}: {about})"

    def _repr_html_(self) -> str:
        """Players, and spectrograms if matplotlib is installed, of the first minute, for notebooks."""
        return players_html(self)

    @property
    def realtime_factor(self) -> float:
        """Seconds of computing per second of sound; below 1 is faster than real time."""
        return self.elapsed_seconds * self.sample_rate / self.sources.shape[-1]

    def save(
        self,
        folder: Path | str,
        track: str | None = None,
        *,
        pattern: str = DEFAULT_PATTERN,
        container: Container = "wav",
        bits: Bits | None = None,
        clip_mode: ClipMode = "rescale",
        overwrite: bool = False,
        timeline: Sequence[TimelineFormat] = (),
    ) -> list[Path]:
        """Write one file per source, and those of the timeline where there is one, all of them or none.

        Args:
            folder: Folder to write to; made if needed.
            track: Value of ``{track}`` in the pattern; None for the name of the input.
            pattern: Names of the files.
            container: wav, flac, ogg or mp3.
            bits: 16, 24 or 32f.
            clip_mode: Treatment of samples beyond full scale; ``"rescale"`` makes all sources quieter by one
                factor.
            overwrite: Whether existing files may be replaced.
            timeline: Files of the timeline besides ``{track}.rttm`` and ``{track}.json``: elan, audacity,
                picture (of the sum of the sources).

        Returns:
            The paths of the sources, in their order.

        Raises:
            AudioError: If a file exists or cannot be written.
            ValueError: If an option cannot be met.
        """
        paths = output_paths(Path(folder), pattern, track or self.track, self.names, container)
        sources = self._array()
        num_samples = sources.shape[-1]
        write_sources(
            paths,
            lambda: iter([sources]),
            self.sample_rate,
            num_samples,
            AudioFormat(container, bits),
            clip_mode,
            overwrite,
            self._timeline_writers(paths, Path(track or self.track).name, tuple(timeline)),
        )
        return paths

    def _array(self) -> Samples:
        """The sources, ``[C, channels, T]``."""
        sources = as_samples(self.sources)
        return sources if sources.ndim == 3 else sources[:, None]

    def _timeline_writers(
        self, paths: Sequence[Path], track: str, formats: tuple[TimelineFormat, ...]
    ) -> dict[Path, Writer]:
        if self.timeline is None:
            return {}
        mixture = self._array().sum(0).mean(0)
        described = Tracks(
            self.names, paths, self.sample_rate, len(mixture), lambda: [mixture], title=self.track
        )
        return TimelineFiles.beside(paths, track, formats).writers(self.timeline, described)


@dataclass(frozen=True)
class SeparatedFile(_Band):
    """The speakers of one recording, written to files."""

    paths: tuple[Path, ...]
    """One per source."""
    sample_rate: int
    """In Hz; the input's."""
    num_samples: int
    """Per channel; the input's."""
    peak_gain: float
    """The factor by which all sources were made quieter to avoid clipping; 1 if there was no need."""
    elapsed_seconds: float
    """Seconds that the separation took."""
    names: tuple[str, ...] = ()
    """Names of the sources, one per path."""
    timeline: SpeakerTimeline | None = None
    """Who speaks when; None where the recording was separated without looking for that."""
    model_rate: int | None = None
    """The model's rate in Hz; None if it is the input's."""
    timeline_paths: tuple[Path, ...] = ()
    """Files that say who speaks when."""
    count: SpeakerCount | None = None
    """As in ``Separation``."""
    precision: str = "float32"
    """The type in which the network's products were computed."""
    mixed_channels: int = 1
    """Channels of the recording that were mixed into one."""

    @property
    def duration_seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.num_samples / self.sample_rate

    def note_on_count(self) -> str:
        """What a user should know of the number of speakers, in one line; empty where none was counted."""
        if self.count is None:
            return ""
        number, silent = self.count.number, self.names[self.count.number :]
        heard = "1 speaker was" if number == 1 else f"{number} speakers were"
        rest = f"; {', '.join(silent)} {'is' if len(silent) == 1 else 'are'} silent" if silent else ""
        return f"{heard} counted (probability {self.count.probability:.2f}){rest}."

    @property
    def realtime_factor(self) -> float:
        """Seconds of computing per second of sound."""
        return self.elapsed_seconds / self.duration_seconds


def _covered(turn: Turn, spans: Iterable[tuple[float, float]]) -> bool:
    """Whether a turn lies within spans of time, but for a hundredth of a second."""
    within = sum(max(0.0, min(turn.end, last) - max(turn.start, first)) for first, last in spans)
    return turn.end - turn.start - within < 0.01


def source_names(num_sources: int) -> tuple[str, ...]:
    """Names of the outputs: ``speech`` for one, else ``speaker1``, ``speaker2`` ..."""
    return ("speech",) if num_sources == 1 else tuple(f"speaker{i + 1}" for i in range(num_sources))


def check_pattern(pattern: str, num_sources: int) -> None:
    """Refuse a pattern of file names that cannot work.

    Raises:
        ValueError: If it has other fields than track, speaker and ext, leaves the folder, or would give two
            speakers one name.
    """
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(f"filename: {pattern!r} is no pattern: {error}.") from None
    fields = {field for _, field, _, _ in parts if field is not None}
    if not fields <= _FIELDS or any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError(f"filename: expected only {{track}}, {{speaker}} and {{ext}} in {pattern!r}.")
    if "track" not in fields or (num_sources > 1 and "speaker" not in fields):
        raise ValueError(
            f"filename: {pattern!r} gives several outputs one name; use {{track}} and {{speaker}}."
        )
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ValueError(f"filename: {pattern!r} leaves the output folder.")


def output_paths(folder: Path, pattern: str, track: str, names: Sequence[str], ext: str) -> list[Path]:
    """One path per output; ``track`` may hold sub-folders.

    Raises:
        ValueError: As ``check_pattern``.
    """
    check_pattern(pattern, len(names))
    parent, stem = Path(track).parent, Path(track).name
    return [folder / parent / pattern.format(track=stem, speaker=name, ext=ext) for name in names]


def track_of_output(folder: Path, pattern: str, path: Path) -> str | None:
    """The track of which a file would be an output, by its place and its name; None where it is no output.

    Args:
        folder: The folder of the outputs.
        pattern: Their names.
        path: Any file.
    """
    place = Path(os.path.realpath(path.parent), path.name)
    if not place.is_relative_to(root := os.path.realpath(folder)):
        return None
    containers = "|".join(get_args(Container))
    kinds = {"track": "[^/]+", "speaker": r"(?:speech|speaker[1-9]\d*)", "ext": f"(?:{containers})"}
    expression, seen = "(?P<parent>(?:[^/]+/)*?)", set[str]()
    for literal, field, _, _ in string.Formatter().parse(Path(pattern).as_posix()):
        expression += re.escape(literal)
        if field is not None:
            expression += f"(?P={field})" if field in seen else f"(?P<{field}>{kinds[field]})"
            seen.add(field)
    match = re.fullmatch(expression, place.relative_to(root).as_posix())
    return match["parent"] + match["track"] if match else None


def check_targets(targets: Sequence[Path], source: Path, overwrite: bool) -> None:
    """Find out before the work whether its results may be written.

    Raises:
        AudioError: If a file exists, or is the recording itself.
    """
    for target in targets:
        sweep_once(target.resolve().parent)  # what a killed process had begun to name is finished first
        if target.exists() and source.exists() and target.samefile(source):
            raise AudioError(target, "is the input itself, which is never overwritten.")
        if target.exists() and not overwrite:
            raise AudioError(target, EXISTS)


def write_sources(
    paths: Sequence[Path],
    blocks: Callable[[], Iterator[Samples]],
    sample_rate: int,
    num_samples: int,
    audio_format: AudioFormat,
    clip_mode: ClipMode,
    overwrite: bool,
    beside: Mapping[Path, Writer] | None = None,
) -> float:
    """Write one file per source, all by the same factor, and all of them or none.

    Args:
        paths: C of them.
        blocks: Returns the sources from the start, ``[C, K, n]`` per block; called once or twice.
        sample_rate: In Hz.
        num_samples: Samples of all blocks together.
        audio_format: Format of the files.
        clip_mode: Treatment of samples beyond full scale.
        overwrite: Whether existing files may be replaced.
        beside: Other files that belong to the result, and what writes each.

    Returns:
        The common factor; 1 unless clipping had to be avoided.

    Raises:
        AudioError: If a file exists, is named after another format, or cannot be written.
        ValueError: If there is clipping and ``clip_mode`` is ``"error"``.
    """
    beside = beside or {}
    for path in (*paths, *beside):
        if path.is_dir() or (path.exists() and not overwrite):
            raise AudioError(path, EXISTS)
    peak = 0.0 if audio_format.holds_peaks else max(float(np.abs(block).max()) for block in blocks())
    gain = peak_gain(peak, audio_format, clip_mode)
    writers: list[AudioWriter] = []
    with atomic_files([*paths, *beside], overwrite=overwrite) as temporaries, ExitStack() as stack:
        for block in blocks():
            heed()
            for index, path in enumerate(paths):
                if len(writers) <= index:
                    channels = block.shape[1]
                    writer = AudioWriter(
                        temporaries[index],
                        sample_rate,
                        channels,
                        num_samples,
                        audio_format,
                        clip_mode == "clamp",
                        path,
                    )
                    writers.append(stack.enter_context(writer))
                writers[index].write(block[index] * np.float32(gain))
        for temporary, write in zip(temporaries[len(paths) :], beside.values(), strict=True):
            write(temporary)
    return gain


def as_one_source(blocks: Callable[[], Iterator[Samples]]) -> Iterator[Samples]:
    """Blocks ``[C, K, n]`` as the C * K channels of one source, ``[1, C * K, n]``."""
    return (block.reshape(1, -1, block.shape[-1]) for block in blocks())


def players_html(separation: Separation[AnySamples]) -> str:
    """A player, and a spectrogram if matplotlib is installed, for the first minute of each source."""
    length = min(separation.sources.shape[-1], round(_SHOWN_SECONDS * separation.sample_rate))
    parts = []
    for name, source in zip(separation.names, separation, strict=True):
        mono = as_samples(source)[..., :length].reshape(-1, length).mean(0)
        with tempfile.TemporaryDirectory() as folder:
            sound, picture = Path(folder) / "a.wav", Path(folder) / "a.png"
            write_audio(sound, mono / max(1.0, np.abs(mono).max()), separation.sample_rate)
            parts.append(f"<p>{name}<br>{_embedded('audio controls', 'audio/wav', sound)}</audio></p>")
            if is_installed("matplotlib"):
                draw_spectrograms(
                    {name: mono}, separation.sample_rate, picture, max_hz=separation.bandwidth_hz
                )
                parts.append(_embedded("img", "image/png", picture))
    return f"<div><p>{html.escape(repr(separation))}</p>{''.join(parts)}</div>"


def _embedded(tag: str, kind: str, path: Path) -> str:
    return f'<{tag} src="data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}">'
