"""Evaluation on a cluster: utterances are separated and scored by workers, in the order of the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polsess.cluster.workers import Cluster, Failed, Work
from polsess.evaluation import Row
from polsess.evaluation.runner import Elsewhere, RowMaker


def evaluate_on(cluster: Cluster) -> Elsewhere:
    """What ``polsess.evaluation.evaluate`` takes as ``elsewhere``.

    Data, and the folder of the estimates that are kept, must be there under the same paths on every machine.

    Args:
        cluster: The cluster.
    """

    def rows(maker: RowMaker, indices: Sequence[int]) -> Iterator[Row]:
        groups = [[index] for index in indices]
        for index, result in cluster.map(_Scoring(maker), groups, in_order=True):
            if isinstance(result, Failed):
                yield maker.failed(index, f"{result.reason}.")
            else:
                yield Row.from_plain(result)

    return rows


class _Scoring:
    """What is sent to every worker."""

    def __init__(self, maker: RowMaker) -> None:
        self._maker = maker

    def __call__(self, device: str) -> Work:
        maker = self._maker.on(device)
        return lambda index: next(maker.rows([index])).to_plain()
