"""Separation of all of a recording, segment by segment.

Shapes: C sources, K channels, n samples, L frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples, StreamResampler, resampled_length
from polsess.diarization import SpeakerTimeline
from polsess.diarization.regions import Regions
from polsess.inference.levels import active_frames
from polsess.inference.network import SpeakerCount
from polsess.inference.outputs import source_names
from polsess.inference.passes import Asking, RecordingNetwork
from polsess.inference.recordings import Channels, Recording
from polsess.inference.rendering import Rendering
from polsess.inference.segments import Segment, cut, find_silences, plan_segments
from polsess.inference.stitching import JoinedEstimates, Spool, Stitcher
from polsess.pace import Progress
from polsess.timelines import JOIN_SECONDS, list_overlaps, sorted_timeline, turns_of

BLOCK_SAMPLES = 2**18
"""Samples of the network's rate that are returned at once."""
_FRAME_SECONDS = 0.02
_LOUDER_SECONDS = 0.3
"""Which track is louder is asked for so long around a frame."""


def separate_whole(
    network: RecordingNetwork,
    recording: Recording,
    channels: Channels,
    gain: float,
    spool: Spool,
    *,
    segment_seconds: float | None,
    overlap: float,
    regions: Regions | None,
    progress: Progress,
) -> Asking[Rendering]:
    """Run the network over the whole recording and store the estimates.

    Args:
        network: Estimates C sources.
        recording: After its ``working_gain``.
        channels: Which channels are separated, K of them.
        gain: The working gain.
        spool: For C * K rows.
        segment_seconds: Longest piece per pass; None for the whole recording.
        overlap: Share of a segment in common with the next one.
        regions: How many talk; None where nobody listened for it.
        progress: Called with the share that is done.
    """
    rate, num_channels = network.sample_rate, 1 if channels == "mix" else recording.num_channels
    num_samples = resampled_length(recording.num_samples, recording.sample_rate, rate)
    if segment_seconds is None:
        shared, plan = 0, [Segment(0, 0, num_samples, last=True)]
    else:
        longest = max(2, round(segment_seconds * rate))
        shared = int(overlap * longest)
        silences = [
            (round(begin * rate), min(round(end * rate), num_samples))
            for begin, end in find_silences(
                recording.frame_levels, recording.level_frame / recording.sample_rate
            )
        ]
        plan = plan_segments(num_samples, longest, shared, silences)
    stitcher = Stitcher(spool, network.num_sources, num_channels, shared, rate)
    segments = cut(plan, recording.resampled(channels, rate, gain))
    heard = 0
    batches = _batches(segments, network)
    while several := list(islice(batches, network.passes_at_once)):
        rows = [np.concatenate([mixture for _, mixture in together]) for together in several]
        starts = [[segment.start for segment, mixture in together for _ in mixture] for together in several]
        estimates = yield from network.estimate(rows, starts)  # [B, C, n] each
        parts = [np.split(each, len(together)) for each, together in zip(estimates, several, strict=True)]
        for (segment, mixture), estimate in zip(chain(*several), chain(*parts), strict=True):
            skip = segment.keep - segment.start
            heard += (segment.stop - segment.start) * bool(mixture.any())
            outputs = estimate[..., skip:].swapaxes(0, 1)
            stitcher.push(outputs, mixture[:, skip:], segment.last, segment.silent)
            progress(segment.stop / num_samples)
    return _Whole(stitcher.finish(), recording, rate, 1 / gain, heard / rate, network.count, regions)


def _batches(
    segments: Iterable[tuple[Segment, Samples]], network: RecordingNetwork
) -> Iterator[list[tuple[Segment, Samples]]]:
    """Neighbouring segments of one length with their mixtures ``[K, n]``, as many as go into a pass."""
    waiting: list[tuple[Segment, Samples]] = []
    for each in segments:
        if waiting and waiting[0][1].shape != each[1].shape:
            yield waiting
            waiting = []
        waiting.append(each)
        if len(waiting) * len(each[1]) >= network.batch_size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


class _Whole(Rendering):
    """The estimates of a recording, made as loud as the recording and brought to its rate."""

    def __init__(
        self,
        joined: JoinedEstimates,
        recording: Recording,
        rate: int,
        gain: float,
        network_seconds: float,
        count: SpeakerCount | None,
        regions: Regions | None,
    ) -> None:
        self._joined, self._recording, self._rate, self._gain = joined, recording, rate, gain
        self._network_seconds, self._regions = network_seconds, regions
        self.num_tracks, self.count = joined.shape[0], count

    def blocks(self) -> Iterator[Samples]:
        recording, shape = self._recording, self._joined.shape
        stream = StreamResampler(self._rate, recording.sample_rate, shape[0] * shape[1])
        expected = resampled_length(recording.num_samples, recording.sample_rate, self._rate)
        missing, taken = recording.num_samples, 0
        for block in self._joined.blocks(BLOCK_SAMPLES):
            taken += block.shape[-1]
            rows = (block * np.float32(self._gain)).reshape(shape[0] * shape[1], block.shape[-1])
            ready = stream.push(rows, last=taken == expected)[:, :missing]
            missing -= ready.shape[-1]
            if ready.shape[-1]:
                yield ready.reshape(*shape, -1)

    def timeline(self) -> SpeakerTimeline | None:
        """Where one talks, its track is the loudest; where several do, these are the two loudest at least."""
        if self.num_tracks == 1:
            return None
        frame = max(1, round(_FRAME_SECONDS * self._rate))
        rest, energies = np.zeros((*self._joined.shape, 0), np.float32), []
        for block in self._joined.blocks(BLOCK_SAMPLES):
            rest = np.concatenate([rest, block], -1)
            length = rest.shape[-1] // frame * frame
            frames = np.square(rest[..., :length]).reshape(*self._joined.shape, -1, frame)
            energies.append(frames.mean((1, -1)))
            rest = rest[..., length:].copy()
        energy = np.concatenate(energies, -1)  # [C, L]
        active = _who_talks(energy, self._regions, frame / self._rate)
        turns = turns_of(active, source_names(self.num_tracks), frame / self._rate)
        turns = sorted_timeline(turns, join_seconds=JOIN_SECONDS)
        seconds = self._recording.num_samples / self._recording.sample_rate
        return SpeakerTimeline(
            turns,
            duration_seconds=seconds,
            whole=True,
            overlaps=tuple(list_overlaps(turns)),
            separated=((0.0, seconds),),
            network_seconds=self._network_seconds,
            swaps_repaired=self._joined.swaps,
        )


def _who_talks(energy: Samples, regions: Regions | None, frame_seconds: float) -> NDArray[np.bool_]:
    """Whether each track ``[C, L]`` is active, by the energies of its frames and by how many talk.

    Where nobody listened for that, a track is active where it is loud, and louder than what may leak onto it.
    """
    if not energy.size:
        return energy.astype(bool)
    loud = active_frames(energy)
    if regions is None:
        return loud & (energy > 0)
    width = 2 * round(_LOUDER_SECONDS / frame_seconds / 2) + 1
    near = np.stack([np.convolve(row, np.ones(width), "full")[width // 2 :][: len(row)] for row in energy])
    places = ((np.arange(energy.shape[1]) + 0.5) * frame_seconds / regions.hop_seconds).astype(np.int64)
    places = np.minimum(places, len(regions.speech) - 1)
    rank = (-near).argsort(0, kind="stable").argsort(0)
    alone = (rank == 0) & regions.speech[places]
    active: NDArray[np.bool_] = np.where(regions.overlap[places], (rank < 2) | loud, alone) & (energy > 0)
    return active
