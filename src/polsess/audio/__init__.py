"""Sound files and sample rates; no other place imports soundfile or soxr.

Samples are float32 tensors ``[channels, T]`` with full scale at 1.
"""

import numpy as np
from numpy.typing import NDArray

from polsess.audio.containers import AudioError
from polsess.audio.loudness import integrated_loudness
from polsess.audio.plain_wav import (
    PlainWav,
    encode_plain_pcm,
    read_plain_header,
    read_plain_mono,
    read_plain_pcm,
    write_plain_pcm,
)
from polsess.audio.reading import AUDIO_SUFFIXES, AudioInfo, AudioReader, read_audio, read_audio_info
from polsess.audio.resampling import StreamResampler, resample, resampled_length
from polsess.audio.writing import AudioFormat, AudioWriter, Bits, ClipMode, Container, peak_gain, write_audio

Samples = NDArray[np.float32]
"""Sound as an array, full scale at 1; a docstring gives its shape."""

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioError",
    "AudioFormat",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Bits",
    "ClipMode",
    "Container",
    "PlainWav",
    "Samples",
    "StreamResampler",
    "encode_plain_pcm",
    "integrated_loudness",
    "peak_gain",
    "read_audio",
    "read_audio_info",
    "read_plain_header",
    "read_plain_mono",
    "read_plain_pcm",
    "resample",
    "resampled_length",
    "write_audio",
    "write_plain_pcm",
]
