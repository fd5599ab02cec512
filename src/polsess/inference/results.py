"""What a separation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from polsess.audio import AudioFormat, Bits, ClipMode, Container
from polsess.inference.outputs import DEFAULT_PATTERN, output_paths, write_sources


@dataclass(frozen=True)
class Separation:
    """The speakers of one recording, in memory."""

    sources: Tensor
    """``[C, T]``, or ``[C, channels, T]`` where each channel was separated; float32 at the input's rate and
    length, at the level that each has in the mixture."""
    sample_rate: int
    """In Hz; the input's."""
    names: tuple[str, ...]
    """What each source is called: speaker1, speaker2 ..., or speech."""
    elapsed_seconds: float
    """How long it took."""

    @property
    def realtime_factor(self) -> float:
        """Seconds of computing per second of sound; below 1 is faster than real time."""
        return self.elapsed_seconds * self.sample_rate / self.sources.shape[-1]

    def save(
        self,
        folder: Path | str,
        track: str = "separated",
        *,
        pattern: str = DEFAULT_PATTERN,
        container: Container = "wav",
        bits: Bits | None = None,
        clip_mode: ClipMode = "rescale",
        overwrite: bool = False,
    ) -> list[Path]:
        """Write one file per source, all of them or none.

        Args:
            folder: Where to write; made if needed.
            track: The name that ``{track}`` in the pattern stands for.
            pattern: Names of the files.
            container: wav, flac, ogg or mp3.
            bits: 16, 24 or 32f.
            clip_mode: What to do with samples beyond full scale; ``"rescale"`` makes all sources quieter by
                one factor.
            overwrite: Whether existing files may be replaced.

        Returns:
            The paths, in the order of the sources.

        Raises:
            AudioError: If a file exists or cannot be written.
            ValueError: If an option cannot be met.
        """
        paths = output_paths(Path(folder), pattern, track, self.names, container)
        sources = self.sources if self.sources.ndim == 3 else self.sources.unsqueeze(1)
        num_samples = sources.shape[-1]
        audio_format = AudioFormat(container, bits)
        write_sources(
            paths, lambda: iter([sources]), self.sample_rate, num_samples, audio_format, clip_mode, overwrite
        )
        return paths


@dataclass(frozen=True)
class SeparatedFile:
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
    """How long it took."""

    @property
    def duration_seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def realtime_factor(self) -> float:
        """Seconds of computing per second of sound."""
        return self.elapsed_seconds / self.duration_seconds
