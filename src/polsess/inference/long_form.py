"""Separation of a recording of any rate, length and number of channels, whatever runs the network.

The recording is first read to check it and to measure its level. A gate then decides whether the network
separates all of it or only where several talk. The estimates are stored until everything about them is known;
then they are resampled and returned. Arrays go through all of it; torch is not needed.

Shapes: B batch, C sources, K channels, T samples.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, get_args, overload

import numpy as np

from polsess.audio import AnySamples, AudioFormat, ClipMode, Samples, resampled_length
from polsess.diarization import SpeakerTimeline
from polsess.diarization.known_voices import KnownVoices
from polsess.diarization.regions import Regions
from polsess.diarization.settings import GateConfig, NumSpeakers, speaker_range
from polsess.files import check_folder
from polsess.inference.file_outputs import FileOutputs, Targets
from polsess.inference.gated import separate_gated
from polsess.inference.hearing import Hearing, Listeners
from polsess.inference.network import Estimator, check_number
from polsess.inference.outputs import SeparatedFile, Separation, source_names
from polsess.inference.passes import Asking, Course, Passes, RecordingNetwork
from polsess.inference.recordings import Audio, Channels, FileRecording, Recording, open_recording
from polsess.inference.rendering import Rendering
from polsess.inference.side_by_side import ONE_THREAD, Threads
from polsess.inference.stitching import Spools
from polsess.inference.timeline_files import TimelineFiles
from polsess.inference.voices import hear
from polsess.inference.whole import separate_whole
from polsess.pace import Progress
from polsess.system_errors import check_space

Gate = Literal["auto", "never", "always"]
"""Whether only what several say at once is separated: ``auto`` where people take turns; never; always."""

_SPOOL_BYTES = 2**24
HEARING_SHARE = 0.3
"""Of the work, in which it is found who speaks when, for the progress."""


class LongFormSeparator(ABC, Generic[AnySamples]):
    """Separates recordings with a network; a subclass says what runs it.

    Args:
        num_sources: C, the outputs of the network.
        counts_speakers: Whether the network says how many speakers there are; C is then the most.
        segment_seconds: Longest piece per pass through the network; None for the whole recording.
        overlap: Share of a segment, 0 to 0.5, in common with the next one.
        channels: ``"mix"`` separates the mean of the channels, ``"each"`` each by itself.
        batch_size: Pieces per pass through the network.
        gate: ``"always"`` passes through what one voice says alone and separates only where several talk,
            ``"never"`` separates everything, ``"auto"`` is ``"never"`` for recordings in which too little is
            said alone to know the voices by, and for networks with one output.
        num_speakers: How many voices there are: a number, the fewest and the most, or None to let the gate
            find it, and the network if it counts them. Tracks of voices that are not there are silent.
        gate_config: Thresholds of the gate.

    Raises:
        ValueError: If an option is out of range.
    """

    def __init__(
        self,
        num_sources: int,
        *,
        counts_speakers: bool = False,
        segment_seconds: float | None = 24.0,
        overlap: float = 0.25,
        channels: Channels = "mix",
        batch_size: int = 1,
        gate: Gate = "auto",
        num_speakers: NumSpeakers = None,
        gate_config: GateConfig | None = None,
    ) -> None:
        if segment_seconds is not None and not segment_seconds > 0:
            raise ValueError(f"segment_seconds: expected a positive number or None, got {segment_seconds}.")
        if not 0 <= overlap <= 0.5:
            raise ValueError(f"overlap: expected a share from 0 to 0.5, got {overlap}.")
        if channels not in get_args(Channels):
            raise ValueError(f"channels: expected 'mix' or 'each', got {channels!r}.")
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}.")
        if gate not in get_args(Gate):
            raise ValueError(f"gate: expected auto, never or always, got {gate!r}.")
        if num_sources == 1:
            if gate == "always":
                raise ValueError(
                    "gate: a model with one output has no overlaps to separate; use auto or never."
                )
            gate = "never"
        self._num_speakers = speaker_range(num_speakers)
        if (asked := num_speakers is not None) and gate == "never":
            check_number(self._num_speakers[0], num_sources, counts_speakers)
        self._num_sources, self._asked = num_sources, asked
        self.channels: Channels = channels
        self._segment_seconds, self._overlap, self._batch_size = segment_seconds, overlap, batch_size
        self.gate: Gate = gate
        self._gate_config = gate_config or GateConfig()

    named_listeners: Mapping[str, str] = {}
    """Networks that listen in place of those of the package, for the settings of timelines."""

    _known_voices: KnownVoices | None = None
    """Voices that are looked for, and are told from others with more care."""

    @abstractmethod
    def _estimator(self) -> Estimator:
        """The network, ready for a recording."""

    @abstractmethod
    def _listeners(self) -> Listeners:
        """The networks that say who speaks when; asked for once."""

    def _threads(self) -> Threads:
        """For calls of the networks side by side."""
        return ONE_THREAD

    @abstractmethod
    def _given_back(self, sources: Samples) -> AnySamples:
        """Sources in the caller's kind of array."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources that every recording has; the gate may find more."""
        return source_names(self._num_sources)

    @overload
    def separate(
        self, audio: Audio, sample_rate: float | None = None, *, progress: Progress | None = None
    ) -> Separation[AnySamples]: ...

    @overload
    def separate(
        self, audio: list[Any], sample_rate: float | None = None, *, progress: Progress | None = None
    ) -> list[Separation[AnySamples]]: ...

    def separate(
        self,
        audio: Audio | list[Any],
        sample_rate: float | None = None,
        *,
        progress: Progress | None = None,
    ) -> Separation[AnySamples] | list[Separation[AnySamples]]:
        """Separate a recording in memory; calling the separator itself does the same.

        Args:
            audio: Samples ``[T]`` or ``[channels, T]``, or a sound file: its path, or a binary file object.
                A list of such gives a list of results.
            sample_rate: Rate of the samples in Hz; None for a file.
            progress: Called with the share that is done.

        Raises:
            ValueError: If the samples have another shape or are not finite, or the rate is missing.
            AudioError: If the file cannot be used.
            SeparationError: If the model returns NaN or infinity.
        """
        if isinstance(audio, list):
            return [self.separate(each, sample_rate, progress=progress) for each in audio]
        passes = self.passes()
        return passes.alone(self._separated(passes, audio, sample_rate, progress))

    __call__ = separate

    def passes(self) -> Passes:
        """The network, ready for recordings that may share its passes."""
        return Passes(self._estimator(), self._batch_size, self._threads())

    def _separated(
        self, passes: Passes, audio: Audio, sample_rate: float | None, progress: Progress | None
    ) -> Course[Separation[AnySamples]]:
        """The course of ``separate`` for one recording."""
        begin, estimator = time.perf_counter(), passes.estimator
        with open_recording(audio, sample_rate) as recording, contextlib.ExitStack() as stack:
            rendering = yield from self._render(passes, recording, Spools(stack), progress)
            yield None
            sources = np.concatenate(list(rendering.blocks()), -1)
            timeline = self._described(estimator, rendering.timeline())
        sources = sources[:, 0] if self.channels == "mix" else sources
        track = Path(audio).stem if isinstance(audio, str | Path) else "separated"
        return Separation(
            self._given_back(sources),
            recording.sample_rate,
            rendering.names,
            time.perf_counter() - begin,
            track,
            timeline,
            estimator.sample_rate,
            rendering.count,
            estimator.precision,
        )

    def separate_file(
        self,
        source: Path | str,
        targets: Targets,
        *,
        audio_format: AudioFormat | None = None,
        clip_mode: ClipMode = "rescale",
        overwrite: bool = False,
        together: bool = False,
        timeline_files: TimelineFiles | None = None,
        progress: Progress | None = None,
    ) -> SeparatedFile:
        """Separate a file of any length into files, in bounded memory.

        For many files, ``inference.jobs.separate_jobs`` lets short ones share passes through the network.

        Args:
            source: A sound file.
            targets: One path per source, see ``names``; no more voices than these are then looked for. Or a
                function that gives the paths for the names of the sources, so that there may be more. For
                ``together`` a single path.
            audio_format: Format of the files; None for the container that their names end in, with 16 bits.
            clip_mode: Treatment of samples beyond full scale.
            overwrite: Whether existing files may be replaced. The source itself never is.
            together: Write one file whose channels are the sources.
            timeline_files: Files that say who speaks when; None for no such files.
            progress: Called with the share that is done.

        Raises:
            AudioError: If the source cannot be used or a target not be written.
            SeparationError: If the model returns NaN or infinity.
            OSError: If the disk is full.
        """
        outputs = FileOutputs(
            Path(source),
            targets,
            audio_format,
            clip_mode,
            overwrite,
            together,
            timeline_files,
        )
        passes = self.passes()
        return passes.alone(self.file_course(passes, outputs, progress))

    def file_course(
        self, passes: Passes, outputs: FileOutputs, progress: Progress | None = None
    ) -> Course[SeparatedFile]:
        """The course of ``separate_file``, to be run with those of other files.

        Args:
            passes: Runs the course.
            outputs: The file and where its sources go.
            progress: Called with the share that is done.
        """
        begin, estimator = time.perf_counter(), passes.estimator
        if self.gate == "never":
            outputs = replace(outputs, timeline_files=None)
        path = outputs.paths(self.names)[0]
        with FileRecording(outputs.source) as recording, contextlib.ExitStack() as stack:
            audio_format = outputs.format_of(path)
            audio_format.check_rate(recording.sample_rate, path)
            check_space(path.parent, self._bytes_on_disk(recording, audio_format, estimator.sample_rate))
            spools = Spools(stack, _SPOOL_BYTES, check_folder(path.parent))
            rendering = yield from self._render(passes, recording, spools, progress, outputs.most)
            yield None
            timeline = self._described(estimator, rendering.timeline())
            written = outputs.write(rendering, recording, timeline)
        return SeparatedFile(
            written.paths,
            recording.sample_rate,
            recording.num_samples,
            written.gain,
            time.perf_counter() - begin,
            rendering.names,
            timeline,
            estimator.sample_rate,
            written.beside,
            rendering.count,
            estimator.precision,
            recording.num_channels if self.channels == "mix" else 1,
        )

    def _bytes_on_disk(self, recording: Recording, audio_format: AudioFormat, rate: int) -> int:
        """The space that a separation takes, as far as it is known before: compressed files count nothing."""
        channels = self._num_channels(recording)
        rows = self._num_sources * channels
        length = resampled_length(recording.num_samples, recording.sample_rate, rate)
        at_rest = 4 * length * (rows if self.gate == "never" else rows + channels + 1)
        written = rows * recording.num_samples * audio_format.bytes_per_sample
        spooled = at_rest if at_rest > _SPOOL_BYTES else 0
        return spooled + (written if audio_format.container == "wav" else 0)

    def _num_channels(self, recording: Recording) -> int:
        return 1 if self.channels == "mix" else recording.num_channels

    @cached_property
    def _heard_by(self) -> Listeners:
        return self._listeners()

    def _hearing(self, rate: int) -> Hearing:
        """The networks that listen, for sound at a rate in Hz."""
        return Hearing(self._heard_by, rate, self._threads())

    def _render(
        self,
        passes: Passes,
        recording: Recording,
        spools: Spools,
        progress: Progress | None,
        most: int | None = None,
    ) -> Asking[Rendering]:
        """Separate a recording, gated or whole, with ``most`` voices at most; None for as many as asked."""
        report = progress or (lambda _: None)
        gain = recording.working_gain(self.channels)
        network = RecordingNetwork(passes, recording.name)
        spool = spools.open(network.num_sources * self._num_channels(recording))
        seconds = recording.num_samples / recording.sample_rate
        done, config, regions = 0.0, self._gate_config, None
        if self.gate != "never":
            hearing = self._hearing(network.sample_rate)
            heard = hear(
                hearing,
                recording,
                self.channels,
                network.sample_rate,
                gain,
                spools,
                config,
                lambda share: report(HEARING_SHARE * share),
            )
            done, regions = HEARING_SHARE, heard.regions
            if not self._is_whole(regions):
                fewest, ceiling = self._num_speakers
                ceiling = min(ceiling, most or ceiling)
                return (
                    yield from separate_gated(
                        network,
                        hearing,
                        heard,
                        self.channels,
                        spool,
                        gain=gain,
                        num_speakers=(min(fewest, ceiling), ceiling),
                        longest_seconds=self._segment_seconds or seconds,
                        config=config,
                        known=self._known_voices,
                        progress=lambda share: report(done + (1 - done) * share),
                    )
                )
        if self._asked:
            network.num_speakers = self._num_speakers
        return (
            yield from separate_whole(
                network,
                recording,
                self.channels,
                gain,
                spool,
                segment_seconds=self._segment_seconds,
                overlap=self._overlap,
                regions=regions,
                progress=lambda share: report(done + (1 - done) * share),
            )
        )

    def _described(self, estimator: Estimator, timeline: SpeakerTimeline | None) -> SpeakerTimeline | None:
        """The timeline with the settings that it depends on; None where nobody listened for speakers."""
        if timeline is None or self.gate == "never":
            return None
        settings: dict[str, str | float | int] = {
            "model": estimator.model_type,
            "model_sample_rate": estimator.sample_rate,
            "precision": estimator.precision,
            "gate": self.gate,
            "segment_seconds": self._segment_seconds or 0,
            **self.named_listeners,
        }
        thresholds = asdict(self._gate_config)
        settings |= thresholds.pop("regions") | thresholds
        settings |= dict(zip(("fewest_speakers", "most_speakers"), self._num_speakers, strict=True))
        return replace(timeline, settings=settings)

    def _is_whole(self, regions: Regions) -> bool:
        """Whether too little is said alone to know the voices by: the network then separates everything."""
        if not (regions.speech & ~regions.overlap).any() and regions.overlap.any():
            return True  # no voice is ever heard alone
        auto = self.gate == "auto" and self._num_speakers[0] <= self._num_sources
        config, expected = self._gate_config, regions.expected_overlap
        solo_seconds = regions.speech.sum() * regions.hop_seconds * (1 - expected)
        little = bool(solo_seconds < config.solo_seconds * expected)
        return auto and little and bool(regions.overlap.any()) and expected >= config.whole_from
