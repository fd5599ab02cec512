from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from polsess.data import (
    Corpus,
    CorpusConfig,
    DataConfig,
    EpochSampler,
    Example,
    Split,
    collate,
    create_loader,
)
from polsess.tasks import Task


class Counting(Corpus):
    """Examples whose samples tell the epoch and the index."""

    @property
    def num_sources(self) -> int:
        return 2

    def __len__(self) -> int:
        return 10

    def example(self, epoch: int, index: int) -> Example:
        wave = torch.full((5 + index,), float(100 * epoch + index))
        return Example(wave, torch.stack([wave, -wave]), f"{epoch}-{index}")


def counting() -> Counting:
    return Counting(CorpusConfig(corpus_type="counting"), Split.TRAIN, Task.SB)


def settings(num_workers: int = 0) -> DataConfig:
    corpus = CorpusConfig(corpus_type="counting")
    return DataConfig.model_construct(corpus=corpus, batch_size=3, num_workers=num_workers)


def test_machines_share_an_epoch_without_repetition() -> None:
    shares = []
    for rank in range(3):
        sampler = EpochSampler(10, seed=1, shuffle=True, rank=rank, world_size=3)
        sampler.set_epoch(4)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == 3
    keys = [key for share in shares for key in share]
    assert len(set(keys)) == 9
    assert {epoch for epoch, _ in keys} == {4}


def test_the_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, seed, shuffle=True)
        sampler.set_epoch(epoch)
        return [index for _, index in sampler]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert sorted(order(0, 0)) == list(range(50))


def test_batches_are_padded_and_know_their_lengths() -> None:
    batch = collate([((1, 2), counting().example(1, 2)), ((1, 4), counting().example(1, 4))])
    assert batch.mixture.shape == (2, 9)
    assert batch.references.shape == (2, 2, 9)
    assert batch.lengths.tolist() == [7, 9]
    assert not batch.mixture[0, 7:].any()
    assert torch.equal(batch.references[:, 0], batch.mixture)
    assert batch.identifiers == ["1-2", "1-4"]
    assert batch.keys == [(1, 2), (1, 4)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_do_not_change_the_data(num_workers: int) -> None:
    loader = create_loader(counting(), settings(num_workers=num_workers), training=True)
    names = [name for batch in loader for name in batch.identifiers]
    assert len(names) == 9  # the incomplete last batch is left out
    plain = create_loader(counting(), settings(), training=True)
    assert names == [name for batch in plain for name in batch.identifiers]


def test_validation_reads_everything_in_order() -> None:
    loader = create_loader(counting(), settings(), training=False)
    assert [batch.identifiers[0] for batch in loader] == [f"0-{i}" for i in range(10)]


def test_an_interrupted_epoch_goes_on_after_what_is_done() -> None:
    whole = [batch.identifiers for batch in create_loader(counting(), settings(), training=True)]
    rest = create_loader(counting(), settings(), training=True, resume_at=(0, 2))
    assert [batch.identifiers for batch in rest] == whole[2:]
    rest.sampler.set_epoch(1)  # type: ignore[attr-defined]
    assert len(list(rest)) == 3


def test_importing_the_package_leaves_audit_and_generation_alone() -> None:
    code = (
        "import sys, polsess.data; print([name for name in sys.modules if name.startswith('polsess.data')])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "polsess.data.polsess.reader" in done.stdout
    assert "audit" not in done.stdout
    assert "generation" not in done.stdout
