"""Separation of a recording of any rate, length and number of channels into its speakers.

The recording is read twice: once to check it and to measure its level, once to separate it. The estimates are
stored until the gains are known; then they are resampled and returned.

Shapes: B batch, C sources, K channels, T samples.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, overload

import torch
from torch import Tensor

from polsess.audio import AudioError, AudioFormat, ClipMode, StreamResampler, resampled_length
from polsess.checkpoints import DEFAULT_MODEL, load_model
from polsess.devices import pick_device
from polsess.inference.outputs import (
    EXISTS,
    SeparatedFile,
    Separation,
    as_one_source,
    source_names,
    write_sources,
)
from polsess.inference.recordings import Audio, Channels, FileRecording, Recording, open_recording
from polsess.inference.segments import Segment, SegmentPlan, cut
from polsess.inference.stitching import JoinedEstimates, Spool, Stitcher
from polsess.models import SeparationModel
from polsess.publication import sweep_once
from polsess.system_errors import check_space, shortage_of_memory

Progress = Callable[[float], None]
"""Called with the fraction of the work that is done, 0 to 1."""

_SPOOL_BYTES = 2**26
_BLOCK = 2**18


class SeparationError(ValueError):
    """A recording could not be separated; the message names it and the cause."""


class Separator:
    """Separates recordings with a model.

    Args:
        model: Any registered model; it is moved to the device and put in evaluation mode.
        device: ``"auto"`` for CUDA, else Apple's MPS, else the CPU; or a device's name.
        segment_seconds: Longest piece per pass through the network; None for the whole recording.
        overlap: Share of a segment, 0 to 0.5, in common with the next one.
        channels: ``"mix"`` separates the mean of the channels, ``"each"`` each by itself.
        batch_size: Pieces per pass through the network; None for 8 on CUDA, else 1.

    Raises:
        ValueError: If an option is out of range or there is no such device.

    Examples:
        >>> separator = Separator.from_pretrained()  # doctest: +SKIP
        >>> separator.separate("meeting.flac").save("speakers")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: SeparationModel,
        *,
        device: str = "auto",
        segment_seconds: float | None = 24.0,
        overlap: float = 0.25,
        channels: Channels = "mix",
        batch_size: int | None = None,
    ) -> None:
        if segment_seconds is not None and not segment_seconds > 0:
            raise ValueError(f"segment_seconds: expected a positive number or None, got {segment_seconds}.")
        if not 0 <= overlap <= 0.5:
            raise ValueError(f"overlap: expected a share from 0 to 0.5, got {overlap}.")
        if channels not in ("mix", "each"):
            raise ValueError(f"channels: expected 'mix' or 'each', got {channels!r}.")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}.")
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.channels: Channels = channels
        self._segment_seconds, self._overlap = segment_seconds, overlap
        self._batch_size = batch_size or (8 if self.device.type == "cuda" else 1)

    @classmethod
    def from_pretrained(
        cls, model: str | Path = DEFAULT_MODEL, *, device: str = "auto", **options: Any
    ) -> Self:
        """Load a model and create a separator from it.

        Args:
            model: A folder, a file or a hub id, as for ``polsess.checkpoints.load_model``; ``"default"`` is
                the small model of the package.
            device: As in the class.
            **options: The other options of the class.

        Raises:
            CheckpointError: If the model cannot be loaded.
        """
        return cls(load_model(model), device=device, **options)

    def __repr__(self) -> str:
        model = self.model
        return f"{type(self).__name__}({model.config.model_type}, {model.sample_rate} Hz, {self.device})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources."""
        return source_names(self.model.output_sources)

    @overload
    def separate(
        self, audio: Audio, sample_rate: float | None = None, *, progress: Progress | None = None
    ) -> Separation: ...

    @overload
    def separate(
        self, audio: list[Any], sample_rate: float | None = None, *, progress: Progress | None = None
    ) -> list[Separation]: ...

    def separate(
        self,
        audio: Audio | list[Any],
        sample_rate: float | None = None,
        *,
        progress: Progress | None = None,
    ) -> Separation | list[Separation]:
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
        begin = time.perf_counter()
        with (
            _defaults(),
            open_recording(audio, sample_rate) as recording,
            self._spool(recording) as spool,
        ):
            estimates = self._estimate(recording, spool, progress)
            sources = torch.cat(list(estimates.blocks()), dim=-1)
        sources = sources.squeeze(1) if self.channels == "mix" else sources
        track = Path(audio).stem if isinstance(audio, str | Path) else "separated"
        elapsed = time.perf_counter() - begin
        return Separation(
            sources, recording.sample_rate, self.names, elapsed, track, model_rate=self.model.sample_rate
        )

    __call__ = separate

    def separate_file(
        self,
        source: Path | str,
        targets: Sequence[Path],
        *,
        audio_format: AudioFormat | None = None,
        clip_mode: ClipMode = "rescale",
        overwrite: bool = False,
        together: bool = False,
        progress: Progress | None = None,
    ) -> SeparatedFile:
        """Separate a file of any length into files, in bounded memory.

        Args:
            source: A sound file.
            targets: One path per source, see ``names``; one alone for ``together``.
            audio_format: Format of the files; None for 16-bit WAV.
            clip_mode: Treatment of samples beyond full scale.
            overwrite: Whether existing files may be replaced. The source itself never is.
            together: Write one file whose channels are the sources.
            progress: Called with the share that is done.

        Raises:
            AudioError: If the source cannot be used or a target not be written.
            SeparationError: If the model returns NaN or infinity.
            OSError: If the disk is full.
        """
        begin = time.perf_counter()
        self._check_targets(Path(source), targets, overwrite, 1 if together else self.model.output_sources)
        folder, audio_format = targets[0].parent, audio_format or AudioFormat()
        with _defaults(), FileRecording(source) as recording:
            audio_format.check_rate(recording.sample_rate, targets[0])
            check_space(folder, self._bytes_on_disk(recording, audio_format))
            folder.mkdir(parents=True, exist_ok=True)
            with self._spool(recording, _SPOOL_BYTES, folder) as spool:
                estimates = self._estimate(recording, spool, progress)
                gain = write_sources(
                    targets,
                    partial(as_one_source, estimates.blocks) if together else estimates.blocks,
                    recording.sample_rate,
                    recording.num_samples,
                    audio_format,
                    clip_mode,
                    overwrite,
                )
        elapsed = time.perf_counter() - begin
        return SeparatedFile(
            tuple(targets),
            recording.sample_rate,
            recording.num_samples,
            gain,
            elapsed,
            self.names,
            model_rate=self.model.sample_rate,
        )

    def _check_targets(self, source: Path, targets: Sequence[Path], overwrite: bool, count: int) -> None:
        """Check before the work that its results can be written."""
        if len(targets) != count:
            raise ValueError(f"targets: expected {count} paths, got {len(targets)}.")
        for target in targets:
            sweep_once(target.resolve().parent)  # what a killed process had begun to name is finished first
            if target.exists() and source.exists() and target.samefile(source):
                raise AudioError(target, "is the input itself, which is never overwritten.")
            if target.exists() and not overwrite:
                raise AudioError(target, EXISTS)

    def _bytes_on_disk(self, recording: Recording, audio_format: AudioFormat) -> int:
        """The space that a separation takes, as far as it is known before: compressed files count nothing."""
        rows = self.model.output_sources * self._num_channels(recording)
        at_rest = (
            4 * rows * resampled_length(recording.num_samples, recording.sample_rate, self.model.sample_rate)
        )
        written = rows * recording.num_samples * audio_format.bytes_per_sample
        spooled = at_rest if at_rest > _SPOOL_BYTES else 0
        return spooled + (written if audio_format.container == "wav" else 0)

    def _spool(self, recording: Recording, memory_bytes: int = 0, folder: Path | None = None) -> Spool:
        return Spool(self.model.output_sources * self._num_channels(recording), memory_bytes, folder)

    def _num_channels(self, recording: Recording) -> int:
        return 1 if self.channels == "mix" else recording.num_channels

    def _plan(self, num_samples: int) -> SegmentPlan:
        if self._segment_seconds is None:
            return SegmentPlan(num_samples, num_samples, 0)
        longest = max(2, round(self._segment_seconds * self.model.sample_rate))
        return SegmentPlan.balanced(num_samples, longest, int(self._overlap * longest))

    def _estimate(self, recording: Recording, spool: Spool, progress: Progress | None) -> _Estimates:
        """Run the model over the whole recording and store the estimates."""
        model = self._ready_model()
        rate, channels = self.model.sample_rate, self._num_channels(recording)
        gain = recording.working_gain(self.channels)
        plan = self._plan(resampled_length(recording.num_samples, recording.sample_rate, rate))
        stitcher = Stitcher(spool, self.model.output_sources, channels, plan.overlap, rate)
        segments = cut(plan, recording.resampled(self.channels, rate, gain))
        for segment, mixture, estimates in self._batches(model, segments, recording.name):
            skip = segment.keep - segment.start
            last = segment.stop == plan.num_samples
            stitcher.push(estimates[..., skip:].transpose(0, 1), mixture[:, skip:], last)
            if progress is not None:
                progress(segment.stop / plan.num_samples)
        return _Estimates(stitcher.finish(), recording, rate, 1 / gain)

    def _ready_model(self) -> SeparationModel:
        """The model on the device, in evaluation mode and float32 (or float64): a copy where it is not so.

        Somebody else may have changed it since; that is neither an error nor undone.
        """
        parameters = list(self.model.parameters())
        places = {parameter.device.type for parameter in parameters} <= {self.device.type}
        types = {parameter.dtype for parameter in parameters}
        training = any(module.training for module in self.model.modules())
        if places and not training and (types <= {torch.float32} or types <= {torch.float64}):
            return self.model
        return copy.deepcopy(self.model).to(self.device, torch.float32).eval()

    def _batches(
        self, model: SeparationModel, segments: Iterator[tuple[Segment, Tensor]], name: str
    ) -> Iterator[tuple[Segment, Tensor, Tensor]]:
        """Segments with their mixture ``[K, n]`` and estimates ``[K, C, n]``, several per pass."""
        waiting: list[tuple[Segment, Tensor]] = []
        for each in segments:
            waiting.append(each)
            if len(waiting) * len(each[1]) >= self._batch_size:
                yield from self._flush(model, waiting, name)
                waiting = []
        if waiting:
            yield from self._flush(model, waiting, name)

    def _flush(
        self, model: SeparationModel, waiting: list[tuple[Segment, Tensor]], name: str
    ) -> Iterator[tuple[Segment, Tensor, Tensor]]:
        rows = torch.cat([mixture for _, mixture in waiting])  # [B, n]
        estimates = rows.new_zeros(len(rows), self.model.output_sources, rows.shape[-1])
        audible = rows.any(dim=1).nonzero().squeeze(1)  # digital silence needs no network
        for first in range(0, len(audible), self._batch_size):
            batch = audible[first : first + self._batch_size]
            estimates[batch] = self._run(model, rows[batch])
        for row in range(len(rows)):
            if not estimates[row].isfinite().all():
                second = waiting[row // len(waiting[0][1])][0].start / self.model.sample_rate
                raise SeparationError(
                    f"{name}: the model returned NaN or infinity in the segment at {second:.1f} s; "
                    "nothing was written. Check the weights, or use another model."
                )
        for index, (segment, mixture) in enumerate(waiting):
            first = index * len(mixture)
            yield segment, mixture, estimates[first : first + len(mixture)]

    def _run(self, model: SeparationModel, batch: Tensor) -> Tensor:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``."""
        parameter = next(model.parameters(), None)
        dtype = torch.float32 if parameter is None else parameter.dtype
        try:
            with torch.inference_mode():
                estimates = model(batch.to(self.device, dtype)).float().cpu()
        except (RuntimeError, MemoryError) as error:
            if (shortage := shortage_of_memory(error)) is None:
                raise
            seconds = batch.shape[-1] / self.model.sample_rate
            pieces = "a piece" if len(batch) == 1 else f"{len(batch)} pieces"
            raise SeparationError(
                f"{pieces} of {seconds:.1f} s does not fit in the memory of {self.device}: {shortage}; "
                f"choose shorter pieces (--segment {seconds / 2:.0f}) or a smaller model."
            ) from None
        return estimates.view(len(batch), self.model.output_sources, -1)


@contextlib.contextmanager
def _defaults() -> Iterator[None]:
    """Torch's own default type and device; tensors that a program creates elsewhere may have others."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    if (dtype, device.type) == (torch.float32, "cpu"):
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


@dataclass(frozen=True)
class _Estimates:
    """The estimates of a recording at the model's rate."""

    joined: JoinedEstimates
    recording: Recording
    model_rate: int
    gain: float

    def blocks(self) -> Iterator[Tensor]:
        """The sources ``[C, K, n]`` at the recording's rate, as long as the recording."""
        recording, shape = self.recording, self.joined.shape
        stream = StreamResampler(self.model_rate, recording.sample_rate, shape[0] * shape[1])
        expected = resampled_length(recording.num_samples, recording.sample_rate, self.model_rate)
        missing, taken = recording.num_samples, 0
        for block in self.joined.blocks(_BLOCK):
            taken += block.shape[-1]
            ready = stream.push((block * self.gain).flatten(0, 1), last=taken == expected)[:, :missing]
            missing -= ready.shape[-1]
            if ready.shape[-1]:
                yield ready.unflatten(0, shape)
