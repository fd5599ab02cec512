"""Recordings of a corpus that cannot be used: left out and reported up to a share, refused beyond it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator

from polsess.data.base import CorpusConfig

_SHOWN = 5


class TolerantCorpusConfig(CorpusConfig):
    """Fields of a corpus that opens its files when it is opened itself."""

    max_bad: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Largest share of recordings that may be missing, damaged, or of a wrong rate or length, ``0.01`` or
    ``"1%"``. Up to it they are left out and reported; beyond it the corpus is refused."""

    @field_validator("max_bad", mode="before")
    @classmethod
    def _read_percent(cls, value: Any) -> Any:
        if isinstance(value, str) and value.endswith("%"):
            try:
                return float(value.removesuffix("%")) / 100
            except ValueError:
                return value
        return value


def check_share(refused: Sequence[str], total: int, max_bad: float, where: str) -> None:
    """Refuse the corpus, or report the recordings that are left out.

    Args:
        refused: A line for every recording that cannot be used.
        total: Number of recordings.
        max_bad: Share that may be left out.
        where: Corpus and split, for the message.

    Raises:
        ValueError: If more than that share cannot be used, or nothing is left.
    """
    if not refused:
        return
    shown = "; ".join(refused[:_SHOWN]) + ("; …" if len(refused) > _SHOWN else "")
    count = f"{where}: {len(refused)} of {total} recordings cannot be used"
    if len(refused) > max_bad * total:
        raise ValueError(f"{count}, max_bad={max_bad:g} allows {int(max_bad * total)}: {shown}")
    warnings.warn(f"{count} and are left out: {shown}", stacklevel=3)
