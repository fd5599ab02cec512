"""Settings of a generated corpus."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from polsess.data.polsess.layers import MAX_SPEAKERS
from polsess.schema import Schema


class GenerationConfig(Schema):
    """Length, levels and rules; the defaults are those of the original generator without its traps."""

    name: str = Field(pattern=r"^[\w .-]{1,100}$")
    """Name of the corpus, part of the CSV's name."""
    seed: int = Field(default=0, ge=0)
    """The same seed, sources and settings give the same bytes."""
    sample_rate: int = Field(default=8000, ge=1000, le=192_000)
    """Rate in Hz."""
    seconds: float = Field(default=4.0, ge=0.5, le=600.0)
    """Length of every mixture."""
    speakers: int = Field(default=2, ge=1, le=MAX_SPEAKERS)
    """Number of speakers per mixture; PolSESS has two, one and three have the same layers and columns."""
    ssr_range_db: tuple[int, int] = (-5, 5)
    """Level of speaker 1 over each other speaker, in whole dB with both ends."""
    scene_range_db: tuple[float, float] = (-14.0, 0.0)
    """Level of the scene over all speakers."""
    overlap: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of time in which two speakers overlap: 1 is all the time, 0 is one after the other."""
    compat: Literal["none", "matlab"] = "none"
    """``matlab`` keeps the rules of the original generator: pairs of one speaker, nearly silent crops, events
    chosen by a part of their label, sources of one split in another, layers that a limiter made differ from
    what was mixed."""

    @model_validator(mode="after")
    def _check_ranges(self) -> GenerationConfig:
        for name in ("ssr_range_db", "scene_range_db"):
            low, high = getattr(self, name)
            if not -60 <= low <= high <= 60:
                raise ValueError(f"{name}: expected two rising numbers from -60 to 60, got {low} and {high}.")
        if self.speakers == 1 and self.overlap != 1.0:
            raise ValueError("overlap: one speaker cannot overlap with anybody; leave it out.")
        if self.speakers != 2 and self.matlab:
            raise ValueError(f"compat: the original generator mixes two speakers, not {self.speakers}.")
        return self

    @property
    def num_samples(self) -> int:
        """T."""
        return round(self.seconds * self.sample_rate)

    @property
    def matlab(self) -> bool:
        """Whether the original rules hold."""
        return self.compat == "matlab"
