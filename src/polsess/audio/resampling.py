"""Sample rate conversion by soxr (band-limited, about -120 dB error), whole or as a stream."""

from __future__ import annotations

import numpy as np
import soxr

from polsess.audio.samples import AnySamples, Samples, as_samples, in_kind


def resampled_length(num_samples: int, from_rate: int, to_rate: int) -> int:
    """Number of samples after a conversion, rounded up so that a sound never vanishes."""
    return -(-num_samples * to_rate // from_rate)


def resample(samples: AnySamples, from_rate: int, to_rate: int) -> AnySamples:
    """Convert the sample rate.

    Args:
        samples: ``[..., T]`` in float32.
        from_rate: Rate of ``samples`` in Hz.
        to_rate: Wanted rate in Hz.

    Returns:
        ``[..., T']`` with T' = ``resampled_length(T, from_rate, to_rate)``, without delay.
    """
    if from_rate == to_rate:
        return samples
    rows = as_samples(samples)
    flat = rows.reshape(-1, rows.shape[-1])
    stream = StreamResampler(from_rate, to_rate, len(flat))
    return in_kind(stream.push(flat, last=True).reshape(*rows.shape[:-1], -1), samples)


class StreamResampler:
    """Converts a sound block by block; together the blocks equal the conversion of the whole.

    Args:
        from_rate: Rate of the input in Hz.
        to_rate: Wanted rate in Hz.
        num_channels: Rows of every block.
    """

    def __init__(self, from_rate: int, to_rate: int, num_channels: int) -> None:
        self._rates = from_rate, to_rate
        self._stream = (
            soxr.ResampleStream(from_rate, to_rate, num_channels, dtype="float32")
            if from_rate != to_rate
            else None
        )
        self._taken = self._given = 0

    def push(self, block: Samples, last: bool = False) -> Samples:
        """Take a block ``[channels, n]`` and give what is ready, ``[channels, m]``.

        Args:
            block: The next samples.
            last: Whether the sound ends here; then everything left comes out.
        """
        self._taken += block.shape[-1]
        if self._stream is None:
            return block
        samples = block.T
        if last:  # soxr rounds the length; zeros behind the end make it enough for rounding up
            extra = 2 * -(-self._rates[0] // self._rates[1]) + 2
            samples = np.concatenate([samples, np.zeros((extra, len(block)), samples.dtype)])
        out = self._stream.resample_chunk(np.ascontiguousarray(samples), last=last)
        if last:
            out = out[: resampled_length(self._taken, *self._rates) - self._given]
        self._given += len(out)
        return np.ascontiguousarray(out.T)
