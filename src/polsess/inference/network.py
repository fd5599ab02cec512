"""Passes of a model over pieces of a recording, with its errors told in the user's words.

Shapes: B batch, C sources, n samples.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from polsess.models import SeparationModel
from polsess.system_errors import shortage_of_memory


class SeparationError(ValueError):
    """A recording could not be separated; the message names it and the cause."""


class Network:
    """A model that is ready for one recording.

    Args:
        model: The model; a copy is used where somebody has changed its place, mode or type since.
        device: Where it runs.
        batch_size: Rows per pass.
        recording: Name of the recording, for messages.
    """

    def __init__(self, model: SeparationModel, device: torch.device, batch_size: int, recording: str) -> None:
        self._model = ready(model, device)
        self._device, self.batch_size, self._recording = device, batch_size, recording
        self.num_sources, self.sample_rate = model.output_sources, model.sample_rate

    def estimate(self, rows: Tensor, starts: list[int]) -> Tensor:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``; digital silence needs no network.

        Args:
            rows: Any number of them; at most ``batch_size`` go through the network at once.
            starts: The sample of the recording at which each row begins, for messages.

        Raises:
            SeparationError: If the model returns NaN or infinity, or the memory does not suffice.
        """
        estimates = rows.new_zeros(len(rows), self.num_sources, rows.shape[-1])
        audible = rows.any(dim=1).nonzero().squeeze(1)
        for first in range(0, len(audible), self.batch_size):
            batch = audible[first : first + self.batch_size]
            estimates[batch] = self._run(rows[batch])
        for row, start in zip(estimates, starts, strict=True):
            if not row.isfinite().all():
                raise SeparationError(
                    f"{self._recording}: the model returned NaN or infinity in the segment at "
                    f"{start / self.sample_rate:.1f} s; nothing was written. Check the weights, or use "
                    "another model."
                )
        return estimates

    def _run(self, batch: Tensor) -> Tensor:
        parameter = next(self._model.parameters(), None)
        dtype = torch.float32 if parameter is None else parameter.dtype
        try:
            with torch.inference_mode():
                estimates = self._model(batch.to(self._device, dtype)).float().cpu()
        except (RuntimeError, MemoryError) as error:
            if (shortage := shortage_of_memory(error)) is None:
                raise
            seconds = batch.shape[-1] / self.sample_rate
            pieces = "a piece" if len(batch) == 1 else f"{len(batch)} pieces"
            raise SeparationError(
                f"{pieces} of {seconds:.1f} s does not fit in the memory of {self._device}: {shortage}; "
                f"choose shorter pieces (--segment {seconds / 2:.0f}) or a smaller model."
            ) from None
        return estimates.view(len(batch), self.num_sources, -1)


def ready(model: SeparationModel, device: torch.device) -> SeparationModel:
    """The model on the device, in evaluation mode and float32 (or float64): a copy where it is not so.

    Somebody else may have changed it since; that is neither an error nor undone.
    """
    parameters = list(model.parameters())
    places = {parameter.device.type for parameter in parameters} <= {device.type}
    types = {parameter.dtype for parameter in parameters}
    training = any(module.training for module in model.modules())
    if places and not training and (types <= {torch.float32} or types <= {torch.float64}):
        return model
    return copy.deepcopy(model).to(device, torch.float32).eval()


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Torch's own default type and device; tensors that a program creates elsewhere may have others."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    if (dtype, device.type) == (torch.float32, "cpu"):
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
