"""Sound files and sample rates; no other place imports soundfile or soxr.

Samples are float32 tensors ``[channels, T]`` with full scale at 1.
"""

import numpy as np
from numpy.typing import NDArray

from polsess.audio.channels import channel_weights, to_mono
from polsess.audio.containers import AudioError, save_stream
from polsess.audio.ffmpeg import find_ffmpeg
from polsess.audio.folders import FoundSounds, audio_suffixes, is_hidden, list_sounds
from polsess.audio.loudness import integrated_loudness
from polsess.audio.plain_wav import (
    PlainWav,
    encode_plain_pcm,
    read_plain_header,
    read_plain_mono,
    read_plain_pcm,
    write_plain_pcm,
)
from polsess.audio.reading import AudioInfo, AudioReader, read_audio, read_audio_info
from polsess.audio.resampling import StreamResampler, resample, resampled_length
from polsess.audio.writing import AudioFormat, AudioWriter, Bits, ClipMode, Container, peak_gain, write_audio

Samples = NDArray[np.float32]
"""Sound as an array, full scale at 1; a docstring gives its shape."""

__all__ = [
    "AudioError",
    "AudioFormat",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Bits",
    "ClipMode",
    "Container",
    "FoundSounds",
    "PlainWav",
    "Samples",
    "StreamResampler",
    "audio_suffixes",
    "channel_weights",
    "encode_plain_pcm",
    "find_ffmpeg",
    "integrated_loudness",
    "is_hidden",
    "list_sounds",
    "peak_gain",
    "read_audio",
    "read_audio_info",
    "read_plain_header",
    "read_plain_mono",
    "read_plain_pcm",
    "resample",
    "resampled_length",
    "save_stream",
    "to_mono",
    "write_audio",
    "write_plain_pcm",
]
