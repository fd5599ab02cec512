"""From a recording of any rate, length and number of channels to its speakers.

The recording is read twice: once to check it and to measure its level, once to separate it. The estimates are
put aside until the gains are known; then they are resampled and returned.

Shapes: B batch, C sources, K channels, T samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from polsess.audio import AudioError, AudioFormat, ClipMode, StreamResampler, resampled_length
from polsess.checkpoints import DEFAULT_MODEL, load_model
from polsess.devices import pick_device
from polsess.inference.outputs import SeparatedFile, Separation, source_names, write_sources
from polsess.inference.recordings import Channels, FileRecording, Recording, TensorRecording
from polsess.inference.segments import Segment, SegmentPlan, cut
from polsess.inference.stitching import JoinedEstimates, Spool, Stitcher
from polsess.models import SeparationModel

Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""

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
        parameter = next(model.parameters(), None)
        self._dtype = torch.float32 if parameter is None else parameter.dtype

    @classmethod
    def from_pretrained(
        cls, model: str | Path = DEFAULT_MODEL, *, device: str = "auto", **options: Any
    ) -> Self:
        """Load a model and make a separator of it.

        Args:
            model: A folder, a file or a hub id, as for ``polsess.checkpoints.load_model``; ``"default"`` is
                the small model of the package.
            device: As in the class.
            **options: The other options of the class.

        Raises:
            CheckpointError: If the model cannot be loaded.
        """
        return cls(load_model(model), device=device, **options)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources."""
        return source_names(self.model.output_sources)

    def separate(
        self,
        audio: Tensor | np.ndarray | Path | str,
        sample_rate: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> Separation:
        """Separate a recording in memory.

        Args:
            audio: Samples ``[T]`` or ``[channels, T]``, or a sound file.
            sample_rate: Rate of the samples in Hz; None for a file.
            progress: Called with the share that is done.

        Raises:
            ValueError: If the samples have another shape or are not finite, or the rate is missing.
            AudioError: If the file cannot be used.
            SeparationError: If the model returns NaN or infinity.
        """
        begin = time.perf_counter()
        with _recording(audio, sample_rate) as recording, self._spool(recording) as spool:
            estimates = self._estimate(recording, spool, progress)
            sources = torch.cat(list(estimates.blocks()), dim=-1)
        sources = sources.squeeze(1) if self.channels == "mix" else sources
        return Separation(sources, recording.sample_rate, self.names, time.perf_counter() - begin)

    def separate_file(
        self,
        source: Path | str,
        targets: Sequence[Path],
        *,
        audio_format: AudioFormat | None = None,
        clip_mode: ClipMode = "rescale",
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> SeparatedFile:
        """Separate a file of any length into files, in bounded memory.

        Args:
            source: A sound file.
            targets: One path per source, see ``names``.
            audio_format: Format of the files; None for 16-bit WAV.
            clip_mode: Treatment of samples beyond full scale.
            overwrite: Whether existing files may be replaced. The source itself never is.
            progress: Called with the share that is done.

        Raises:
            AudioError: If the source cannot be used or a target not be written.
            SeparationError: If the model returns NaN or infinity.
        """
        begin = time.perf_counter()
        self._check_targets(Path(source), targets, overwrite)
        folder, audio_format = targets[0].parent, audio_format or AudioFormat()
        with FileRecording(source) as recording:
            audio_format.check_rate(recording.sample_rate, targets[0])
            folder.mkdir(parents=True, exist_ok=True)
            with self._spool(recording, _SPOOL_BYTES, folder) as spool:
                estimates = self._estimate(recording, spool, progress)
                gain = write_sources(
                    targets,
                    estimates.blocks,
                    recording.sample_rate,
                    recording.num_samples,
                    audio_format,
                    clip_mode,
                    overwrite,
                )
        elapsed = time.perf_counter() - begin
        return SeparatedFile(tuple(targets), recording.sample_rate, recording.num_samples, gain, elapsed)

    def _check_targets(self, source: Path, targets: Sequence[Path], overwrite: bool) -> None:
        """Check before the work that its results can be written."""
        if len(targets) != self.model.output_sources:
            raise ValueError(f"targets: expected {self.model.output_sources} paths, got {len(targets)}.")
        for target in targets:
            if target.exists() and source.exists() and target.samefile(source):
                raise AudioError(target, "is the input itself, which is never overwritten.")
            if target.exists() and not overwrite:
                raise AudioError(target, "exists already; choose another place or allow overwriting.")

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
        """Run the model over the whole recording and put the estimates aside."""
        rate, channels = self.model.sample_rate, self._num_channels(recording)
        gain = recording.working_gain(self.channels)
        plan = self._plan(resampled_length(recording.num_samples, recording.sample_rate, rate))
        stitcher = Stitcher(spool, self.model.output_sources, channels, plan.overlap, rate)
        segments = cut(plan, recording.resampled(self.channels, rate, gain))
        for segment, mixture, estimates in self._batches(segments, recording.name):
            skip = segment.keep - segment.start
            last = segment.stop == plan.num_samples
            stitcher.push(estimates[..., skip:].transpose(0, 1), mixture[:, skip:], last)
            if progress is not None:
                progress(segment.stop / plan.num_samples)
        return _Estimates(stitcher.finish(), recording, rate, 1 / gain)

    def _batches(
        self, segments: Iterator[tuple[Segment, Tensor]], name: str
    ) -> Iterator[tuple[Segment, Tensor, Tensor]]:
        """Segments with their mixture ``[K, n]`` and estimates ``[K, C, n]``, several per pass."""
        waiting: list[tuple[Segment, Tensor]] = []
        for each in segments:
            waiting.append(each)
            if len(waiting) * len(each[1]) >= self._batch_size:
                yield from self._flush(waiting, name)
                waiting = []
        if waiting:
            yield from self._flush(waiting, name)

    def _flush(
        self, waiting: list[tuple[Segment, Tensor]], name: str
    ) -> Iterator[tuple[Segment, Tensor, Tensor]]:
        rows = torch.cat([mixture for _, mixture in waiting])  # [B, n]
        estimates = rows.new_zeros(len(rows), self.model.output_sources, rows.shape[-1])
        audible = rows.any(dim=1).nonzero().squeeze(1)  # digital silence needs no network
        for first in range(0, len(audible), self._batch_size):
            batch = audible[first : first + self._batch_size]
            estimates[batch] = self._run(rows[batch])
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

    def _run(self, batch: Tensor) -> Tensor:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``."""
        try:
            with torch.inference_mode():
                estimates = self.model(batch.to(self.device, self._dtype)).float().cpu()
        except torch.OutOfMemoryError:
            seconds = batch.shape[-1] / self.model.sample_rate
            raise SeparationError(
                f"{len(batch)} segments of {seconds:.1f} s do not fit in the memory of {self.device}; choose "
                "shorter segments or a smaller batch."
            ) from None
        return estimates.view(len(batch), self.model.output_sources, -1)


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


def _recording(audio: Tensor | np.ndarray | Path | str, sample_rate: int | None) -> Recording:
    if isinstance(audio, str | Path):
        if sample_rate is not None:
            raise ValueError("sample_rate: a file knows its own; leave it out.")
        return FileRecording(audio)
    if sample_rate is None or sample_rate < 1:
        raise ValueError(f"sample_rate: expected the rate of the samples in Hz, got {sample_rate}.")
    samples = torch.as_tensor(audio)
    if samples.ndim not in (1, 2) or samples.numel() == 0:
        raise ValueError(f"audio: expected [T] or [channels, T] with T > 0, got {list(samples.shape)}.")
    if not samples.is_floating_point():
        raise ValueError(f"audio: expected floats with full scale at 1, got {samples.dtype}.")
    samples = samples.detach().cpu().float()
    if not samples.isfinite().all():
        raise ValueError("audio: holds NaN or infinity.")
    return TensorRecording(samples.reshape(-1, samples.shape[-1]), sample_rate)
