"""Sound files and sample rates; no other place imports soundfile or soxr.

Samples are float32, ``[channels, T]``, with full scale at 1. ``read_audio`` gives a tensor, ``AudioReader``
arrays.
"""

from polsess.audio.channels import channel_weights, to_mono
from polsess.audio.containers import AudioError, save_stream
from polsess.audio.ffmpeg import find_ffmpeg
from polsess.audio.folders import FoundSounds, audio_suffixes, is_hidden, list_sounds, sort_sounds
from polsess.audio.loudness import integrated_loudness
from polsess.audio.pipes import PipeFormat, PipeReader, PipeWriter
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
from polsess.audio.samples import AnySamples, Samples, as_samples, as_tensor
from polsess.audio.spectra import hann_window, magnitudes
from polsess.audio.writing import AudioFormat, AudioWriter, Bits, ClipMode, Container, peak_gain, write_audio

__all__ = [
    "AnySamples",
    "AudioError",
    "AudioFormat",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Bits",
    "ClipMode",
    "Container",
    "FoundSounds",
    "PipeFormat",
    "PipeReader",
    "PipeWriter",
    "PlainWav",
    "Samples",
    "StreamResampler",
    "as_samples",
    "as_tensor",
    "audio_suffixes",
    "channel_weights",
    "encode_plain_pcm",
    "find_ffmpeg",
    "hann_window",
    "integrated_loudness",
    "is_hidden",
    "list_sounds",
    "magnitudes",
    "peak_gain",
    "read_audio",
    "read_audio_info",
    "read_plain_header",
    "read_plain_mono",
    "read_plain_pcm",
    "resample",
    "resampled_length",
    "save_stream",
    "sort_sounds",
    "to_mono",
    "write_audio",
    "write_plain_pcm",
]
