"""Causal networks of a service, loaded when it starts and shared by all streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polsess.inference import StreamingSeparator


class StreamingModels:
    """The networks by the names that clients use; where there are none, torch is not imported.

    Args:
        sources: Their weights.
        device: Where they run.

    Raises:
        CheckpointError: If one cannot be loaded.
        ValueError: If one cannot stream.
    """

    def __init__(self, sources: Mapping[str, str], device: str) -> None:
        self._device, self._models = device, {}
        if sources:
            from polsess.checkpoints import load_model
            from polsess.inference import StreamingSeparator

            for name, source in sources.items():
                self._models[name] = StreamingSeparator(load_model(source), device=device).model
        self.num_open = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The first is taken where none is named."""
        return tuple(self._models)

    def open(self, name: str, sample_rate: int | None) -> StreamingSeparator:
        """A new stream through a network.

        Raises:
            ValueError: If the rate cannot be converted.
        """
        from polsess.inference import StreamingSeparator

        return StreamingSeparator(self._models[name], sample_rate, device=self._device)
