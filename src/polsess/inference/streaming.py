"""Separation while the sound comes in, by networks that do not look ahead without limit.

Shapes: C sources, n samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from polsess.audio import StreamResampler
from polsess.audio.samples import as_tensor
from polsess.checkpoints import load_model
from polsess.devices import pick_device
from polsess.inference.network import SeparationError
from polsess.inference.torch_networks import ready
from polsess.models import SeparationModel
from polsess.models.layers.stream import StreamState
from polsess.models.streaming import check_streams

_LONGEST_SECONDS = 2.0
"""What goes through the network at once of a long push, so that its memory is bounded."""


class StreamingSeparator:
    """Separates a sound that comes in pieces of any size.

    All pieces together give what the network makes of the whole sound, whatever their sizes. The memory does
    not grow with the length of the stream.

    Args:
        model: A network whose configuration is causal; see ``polsess.models.streaming``.
        sample_rate: Rate in Hz of what is pushed and of what comes out; None for the model's. The conversion
            of another rate adds some latency.
        device: ``"auto"`` for CUDA, else Apple's MPS, else the CPU; or a device's name.

    Raises:
        ValueError: If the network cannot stream; the message says which option or network can.

    Examples:
        >>> stream = StreamingSeparator.from_pretrained("runs/skim")  # doctest: +SKIP
        >>> pieces = [stream.push(samples) for samples in microphone] + [stream.flush()]  # doctest: +SKIP
    """

    def __init__(
        self, model: SeparationModel, sample_rate: int | None = None, *, device: str = "cpu"
    ) -> None:
        check_streams(model)
        self._device = pick_device(device)
        self.model = check_streams(ready(model, self._device))
        self._dtype = next(self.model.parameters()).dtype
        self.sample_rate = sample_rate or model.sample_rate
        longest = int(_LONGEST_SECONDS * model.sample_rate)
        self._longest = max(1, longest // self.model.stream_step) * self.model.stream_step
        self.reset()

    @classmethod
    def from_pretrained(
        cls, model: str | Path, sample_rate: int | None = None, *, device: str = "cpu"
    ) -> Self:
        """Load a model and create a separator from it.

        Args:
            model: A folder, a file or a hub id, as for ``polsess.checkpoints.load_model``.
            sample_rate: As in the class.
            device: As in the class.

        Raises:
            CheckpointError: If the model cannot be loaded.
            ValueError: If it cannot stream.
        """
        return cls(load_model(model), sample_rate, device=device)

    @property
    def num_sources(self) -> int:
        """C."""
        return self.model.output_sources

    @property
    def latency_samples(self) -> int:
        """The most samples, at the model's rate, behind a sample before its estimate comes out."""
        return self.model.stream_latency

    @property
    def state(self) -> StreamState | None:
        """All that the network remembers, as tensors by name; None before enough came to begin."""
        return self._state

    def reset(self) -> None:
        """Forget everything: the next push begins a new stream."""
        self._state: StreamState | None = None
        self._waiting = torch.zeros(0)
        self._recent = torch.zeros(0)
        self._heard = self._told = self._taken = self._given = self._steps = 0
        self._into = StreamResampler(self.sample_rate, self.model.sample_rate, 1)
        self._back = StreamResampler(self.model.sample_rate, self.sample_rate, self.num_sources)

    def push(self, samples: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Take the next samples and give what is ready.

        Args:
            samples: ``[n]`` at ``sample_rate``, any number of them, none too; floating point, full scale 1.

        Returns:
            Estimates ``[C, m]`` in float32, from the sample on that follows those already given.

        Raises:
            ValueError: If they are not of this shape and type, or not finite; the stream then is as it was.
            SeparationError: If the network returns NaN or infinity.
        """
        piece = self._checked(samples)
        if not len(piece):
            return torch.zeros(self.num_sources, 0)
        self._heard += len(piece)
        heard = _convert(self._into, piece.unsqueeze(0)).squeeze(0)
        return self._tell(_convert(self._back, self._push(heard)))

    __call__ = push

    def _push(self, piece: Tensor) -> Tensor:
        """As ``push``, at the model's rate."""
        self._taken += len(piece)
        self._recent = torch.cat([self._recent, piece])[-self.model.minimum_samples :].clone()
        self._waiting = torch.cat([self._waiting, piece])
        if self._state is None and not self._begin():
            return torch.zeros(self.num_sources, 0)
        step = self.model.stream_step
        ready_now = len(self._waiting) // step * step
        block, self._waiting = self._waiting[:ready_now], self._waiting[ready_now:].clone()
        return self._give([self._advance(part) for part in block.split(self._longest) if len(part)])

    def flush(self) -> Tensor:
        """End the stream: give what is left, so that all together are as long as what was pushed, and reset.

        Returns:
            Estimates ``[C, m]``.
        """
        estimates = torch.zeros(self.num_sources, 0)
        if self._heard:
            last = self._push(_convert(self._into, torch.zeros(1, 0), last=True).squeeze(0))
            rest = torch.cat([last, self._flush()], -1)
            estimates = _convert(self._back, rest, last=True)[:, : self._heard - self._told]
        self.reset()
        return estimates

    def _tell(self, estimates: Tensor) -> Tensor:
        self._told += estimates.shape[-1]
        return estimates

    def _flush(self) -> Tensor:
        """What is left at the model's rate."""
        total, model = self._taken, self.model
        missing = model.minimum_samples - total
        before = self._push(torch.zeros(missing)) if missing > 0 else torch.zeros(self.num_sources, 0)
        padding = model.end_padding(self._recent.unsqueeze(0)).squeeze(0)
        steps = -(-(total + model.stream_delay) // model.stream_step)
        rest = torch.cat([self._waiting, padding])
        wanted = (steps - self._steps) * model.stream_step
        rest = torch.cat([rest, torch.zeros(max(0, wanted - len(rest)))])[:wanted]
        frames = model.num_frames(max(total, model.minimum_samples))
        parts = [self._advance(part, frames) for part in rest.split(self._longest) if len(part)]
        left = total - (self._given - before.shape[-1])
        return torch.cat([before, self._give(parts)], -1)[:, :left]

    def _checked(self, samples: Tensor | np.ndarray[Any, Any]) -> Tensor:
        piece = torch.as_tensor(samples)
        if piece.ndim != 1 or not piece.is_floating_point():
            raise ValueError(
                f"push: expected samples [n] of floating point, full scale 1, got {list(piece.shape)} of "
                f"{piece.dtype}."
            )
        piece = piece.detach().to("cpu", torch.float32)
        if not piece.isfinite().all():
            place = int((~piece.isfinite()).nonzero()[0])
            seconds = (self._heard + place) / self.sample_rate
            raise ValueError(
                f"sample {place} of a push of {len(piece)} is NaN or infinite, {seconds:.3f} s into the "
                "stream; nothing of this push was taken."
            )
        return piece

    def _begin(self) -> bool:
        """Begin, if enough samples came."""
        model = self.model
        if len(self._waiting) < model.stream_head:
            return False
        head = self._waiting[: model.stream_head].to(self._device, self._dtype)
        self._state = model.begin_stream(head.unsqueeze(0))
        self._waiting = self._waiting[model.stream_lead :]
        return True

    def _advance(self, block: Tensor, num_frames: int | None = None) -> Tensor:
        """Run the network over whole steps, ``[n]`` -> ``[C, n]``, of a sound of ``num_frames`` in all."""
        model = self.model
        assert self._state is not None
        frames_per_step = model.stream_step // model.hop_length
        real = None if num_frames is None else max(0, num_frames - self._steps * frames_per_step)
        with torch.inference_mode():
            rows = block.to(self._device, self._dtype).unsqueeze(0)
            estimates, self._state = model.stream(rows, self._state, real)
        self._steps += len(block) // model.stream_step
        if not estimates.isfinite().all():
            raise SeparationError(
                f"the model returned NaN or infinity {self._heard / self.sample_rate:.1f} s into the stream; "
                "check the weights, or use another model."
            )
        return estimates[0].float().cpu()

    def _give(self, parts: list[Tensor]) -> Tensor:
        """What came out, without what is before the first sample."""
        estimates = torch.cat([torch.zeros(self.num_sources, 0), *parts], -1)
        before = self._steps * self.model.stream_step - estimates.shape[-1]
        late = min(max(0, self.model.stream_delay - before), estimates.shape[-1])
        self._given += estimates.shape[-1] - late
        return estimates[:, late:]


def _convert(resampler: StreamResampler, block: Tensor, last: bool = False) -> Tensor:
    return as_tensor(resampler.push(block.numpy(), last))
