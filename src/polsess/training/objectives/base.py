"""What a run trains for: the loss of a batch, the scores of an example, and their summary.

Shapes: B batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from polsess.data import Batch
from polsess.models import Network

NetworkT = TypeVar("NetworkT", bound=Network)


class Objective(nn.Module, ABC, Generic[NetworkT]):
    """The objective of a task; parameters that it has are trained with the network, but not saved with it."""

    substitute: ClassVar[str | None] = None
    """The column that decides where no example has a value in the one that is monitored."""

    @abstractmethod
    def loss(self, model: NetworkT, batch: Batch, step: int) -> Tensor:
        """The loss of a batch, computed in float32.

        Args:
            model: The network, in training mode.
            batch: Examples of the training split.
            step: Steps that the run has taken.

        Returns:
            A scalar, the mean over the examples.
        """

    @abstractmethod
    def scores(self, model: NetworkT, batch: Batch) -> list[Any]:
        """What ``summarise`` needs of each example.

        Args:
            model: The network, in evaluation mode.
            batch: Examples of the validation split, ``[B]``.

        Returns:
            B values that can be pickled.
        """

    @abstractmethod
    def summarise(self, scores: Sequence[Any]) -> Mapping[str, float]:
        """The columns of ``metrics.csv`` from the scores of all examples, in the order of their indices.

        Those for which no example has a value are left out.
        """
