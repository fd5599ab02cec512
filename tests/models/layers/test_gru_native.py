"""The compiled gated recurrent units against PyTorch's, and when the layer takes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from polsess.models.layers.kernels import gru_native, load_kernel
from polsess.models.layers.recurrent import GRU

pytestmark = pytest.mark.skipif(load_kernel("gru") is None, reason="no C++ compiler")


def create_both(*sizes: int, **options: Any) -> tuple[GRU, nn.GRU]:
    torch.manual_seed(0)
    ours, theirs = GRU(*sizes, **options), nn.GRU(*sizes, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("hidden", "num_layers"), [(1, 1), (4, 2), (8, 1), (13, 3), (40, 2)])
@pytest.mark.parametrize(("length", "rows"), [(1, 1), (2, 3), (11, 4), (5, 10)])
def test_it_gives_the_numbers_of_pytorch(
    length: int, rows: int, hidden: int, num_layers: int, bidirectional: bool, batch_first: bool
) -> None:
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first}
    ours, theirs = create_both(5, hidden, **options)
    steps = torch.randn((rows, length) if batch_first else (length, rows)).unsqueeze(-1) + torch.randn(12)
    steps = steps[..., 3:8]  # of wider rows
    first = torch.randn(num_layers * (1 + bidirectional), rows, hidden)
    kept = first.clone()
    with torch.no_grad():
        for states in (None, first):
            output, last = ours(steps, states)
            expected = theirs(steps, states)
            torch.testing.assert_close(output, expected[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(last, expected[1], rtol=1e-4, atol=1e-5)
    assert torch.equal(first, kept)


def test_first_states_may_lie_anywhere_in_memory() -> None:
    ours, theirs = create_both(5, 6, num_layers=2)
    steps, first = torch.randn(4, 3, 5), torch.randn(3, 2, 6).transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(ours(steps, first), theirs(steps, first), rtol=1e-5, atol=1e-5)


def test_long_sequences_stay_where_they_are() -> None:
    ours, theirs = create_both(6, 20, bidirectional=True)
    steps = 3 * torch.randn(2000, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(ours(steps)[0], theirs(steps)[0], rtol=1e-4, atol=1e-5)
        large = 1e4 * steps
        torch.testing.assert_close(ours(large)[0], theirs(large)[0], rtol=1e-4, atol=1e-5)
        large[7, 2, 3] = torch.nan
        assert torch.equal(ours(large)[0].isnan(), theirs(large)[0].isnan())


def test_threads_share_the_sequences() -> None:
    ours, _ = create_both(6, 9, bidirectional=True)
    steps, before = torch.randn(30, 11, 6), torch.get_num_threads()
    with torch.no_grad():
        alone = ours(steps)
        torch.set_num_threads(3)
        try:
            together = ours(steps)
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=2e-6)  # the products may differ


def test_pytorch_runs_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = create_both(3, 4, num_layers=2, dropout=0.5)
    steps = torch.randn(6, 2, 3)

    def refuse(directions: object) -> None:
        raise AssertionError(f"not for the kernel: {directions}")

    monkeypatch.setattr(gru_native, "run_layer", refuse)
    ours(steps)[0].sum().backward()
    assert all(each.grad is not None for each in ours.parameters())
    with torch.no_grad():
        assert ours.train()(steps)[0].shape == (6, 2, 4)
        ours.eval()
        packed = nn.utils.rnn.pack_padded_sequence(steps, torch.tensor([6, 4]))
        assert torch.equal(ours(packed)[0].data, theirs(packed)[0].data)
        assert torch.equal(ours(steps[:, 0])[0], theirs(steps[:, 0])[0])
        assert ours(steps[:, :0])[0].shape == (6, 0, 4)
        with torch.autocast("cpu", torch.bfloat16):
            assert ours(steps)[0].dtype == theirs(steps)[0].dtype
        for wrong in (torch.randn(6, 2, 5), torch.randn(6, 2, 3).double()):
            with pytest.raises((RuntimeError, ValueError)):
                ours(wrong)
        with pytest.raises(RuntimeError, match="Expected hidden size"):
            ours(steps, torch.zeros(1, 2, 4))
        with pytest.raises((RuntimeError, ValueError)):
            ours(steps, torch.zeros(2, 2, 4).double())
        with pytest.raises(AssertionError, match="not for the kernel"):
            ours(steps)
