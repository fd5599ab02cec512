"""The compiled recurrent layers against PyTorch's, and when a network takes them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from polsess.models.layers.kernels import load_kernel, recurrent_native
from polsess.models.layers.recurrent import GRU, LSTM

pytestmark = pytest.mark.skipif(load_kernel("recurrent") is None, reason="no C++ compiler")


def create_both(cell: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    pair = {"LSTM": (LSTM, nn.LSTM), "GRU": (GRU, nn.GRU)}[cell]
    ours, theirs = (each(*sizes, **options).eval() for each in pair)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def random_states(cell: str, *sizes: int) -> Any:
    return torch.randn(sizes) if cell == "GRU" else (torch.randn(sizes), torch.randn(sizes))


cells = pytest.mark.parametrize("cell", ["LSTM", "GRU"])


@cells
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("hidden", "num_layers"), [(1, 1), (4, 2), (8, 1), (13, 3), (40, 2)])
@pytest.mark.parametrize(("length", "rows"), [(1, 1), (2, 3), (11, 4), (5, 10), (3, 101)])
def test_it_gives_the_numbers_of_pytorch(
    length: int, rows: int, hidden: int, num_layers: int, bidirectional: bool, batch_first: bool, cell: str
) -> None:
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first}
    ours, theirs = create_both(cell, 5, hidden, **options)
    steps = torch.randn((rows, length) if batch_first else (length, rows)).unsqueeze(-1) + torch.randn(12)
    steps = steps[..., 3:8]  # of wider rows
    first = random_states(cell, num_layers * (1 + bidirectional), rows, hidden)
    kept = [each.clone() for each in first]
    with torch.no_grad():
        for states in (None, first):
            torch.testing.assert_close(ours(steps, states), theirs(steps, states), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(each, other) for each, other in zip(first, kept, strict=True))


def reduced() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def test_products_of_bfloat16() -> None:
    skip_without_tiles(torch.randn(9, 7, 70))
    with torch.no_grad(), reduced():
        sizes = [(1, 1, 3), (13, 5, 70), (40, 6, 5), (16, 16, 32), (33, 17, 33), (20, 101, 64)]
        for hidden, rows, features in sizes:
            ours, theirs = create_both("LSTM", features, hidden, 2, bidirectional=True, batch_first=True)
            steps, first = torch.randn(rows, 11, features), random_states("LSTM", 4, rows, hidden)
            with torch.autocast("cpu", enabled=False):
                expected = theirs(steps, first)
            for given in (steps, steps.bfloat16(), steps.transpose(0, 1).contiguous().transpose(0, 1)):
                output, last = ours(given, first)
                assert output.dtype == torch.bfloat16
                torch.testing.assert_close(output.float(), expected[0], rtol=0, atol=0.02)
                torch.testing.assert_close(last, expected[1], rtol=0, atol=0.02)
                assert (output.float() - expected[0]).norm() <= 0.01 * expected[0].norm()


def skip_without_tiles(steps: torch.Tensor) -> None:
    with reduced():
        if not recurrent_native.is_available("lstm", steps):
            pytest.skip("the processor has no tiles")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("features", "hidden", "rows", "length", "num_layers"),
    [
        (3, 1, 1, 1, 1),
        (5, 7, 1, 6, 2),
        (70, 13, 5, 9, 2),
        (33, 40, 17, 3, 1),
        (64, 20, 101, 5, 1),
        (9, 64, 40, 2, 3),
    ],
)
def test_gradients_of_products_of_bfloat16(
    features: int,
    hidden: int,
    rows: int,
    length: int,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> None:
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first}
    ours, theirs = create_both("LSTM", features, hidden, **options)
    steps = torch.randn((rows, length, features) if batch_first else (length, rows, features))
    skip_without_tiles(steps)
    first = random_states("LSTM", num_layers * (1 + bidirectional), rows, hidden)
    weights = None
    results = []
    for each, precision in ((theirs, False), (ours, True)):
        given = [tensor.clone().requires_grad_() for tensor in (steps, *first)]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision):
            output, last = each(given[0], tuple(given[1:]))
        weights = weights or [torch.randn_like(value) for value in (output, *last)]
        sum((value * weight).sum() for value, weight in zip((output, *last), weights, strict=True)).backward()
        gradients = [tensor.grad for tensor in given] + [tensor.grad for tensor in each.parameters()]
        results.append([output, *last, *gradients])
    for found, expected in zip(results[1], results[0], strict=True):
        assert found.shape == expected.shape
        assert (found.float() - expected).norm() <= 0.02 * expected.norm() + 1e-6


def test_training_in_tiles_drops_between_layers_and_leaves_what_is_frozen() -> None:
    ours, _ = create_both("LSTM", 5, 8, num_layers=2, dropout=0.5)
    steps = torch.randn(6, 3, 5)
    skip_without_tiles(steps)
    with reduced():
        kept = ours(steps)[0]
        assert torch.equal(kept, ours(steps)[0])
        assert not torch.equal(kept, ours.train()(steps)[0])
        ours.eval().weight_hh_l0.requires_grad_(False)
        ours(steps)[0].float().sum().backward()
        assert ours.weight_hh_l0.grad is None
        assert ours.weight_ih_l0.grad is not None
        noise = steps.clone().requires_grad_()
        output, _ = ours(noise)
        (grad,) = torch.autograd.grad(output.float().square().sum(), noise, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


def test_gated_units_have_no_products_of_bfloat16() -> None:
    ours, theirs = create_both("GRU", 5, 8)
    steps = torch.randn(4, 7, 5)
    with torch.no_grad(), reduced():
        assert not recurrent_native.is_available("gru", steps)
        assert torch.equal(ours(steps)[0], theirs(steps)[0])
        with torch.autocast("cpu", torch.float16):
            assert not recurrent_native.is_available("lstm", steps)


@cells
def test_tensors_may_lie_anywhere_in_memory(cell: str) -> None:
    ours, theirs = create_both(cell, 5, 6, num_layers=2)
    for each in (ours, theirs):
        each.weight_ih_l0 = nn.Parameter(each.weight_ih_l0.detach().T.contiguous().T)
    turned = [torch.randn(7, 2, 6).transpose(0, 1) for _ in range(2)]
    first: Any = turned[0] if cell == "GRU" else tuple(turned)
    for steps in (
        torch.randn(4, 7, 5),
        torch.randn(5, 7, 4).transpose(0, 2),
        torch.randn(4, 5).unsqueeze(1).expand(4, 7, 5),
    ):
        with torch.no_grad():
            torch.testing.assert_close(ours(steps, first), theirs(steps, first), rtol=1e-5, atol=1e-5)


@cells
def test_long_sequences_stay_where_they_are(cell: str) -> None:
    ours, theirs = create_both(cell, 6, 20, bidirectional=True)
    for rows in (5, 9):
        steps = 3 * torch.randn(2000, rows, 6)
        with torch.no_grad():
            torch.testing.assert_close(ours(steps)[0], theirs(steps)[0], rtol=1e-4, atol=1e-5)
            large = 1e4 * steps
            torch.testing.assert_close(ours(large)[0], theirs(large)[0], rtol=1e-3, atol=1e-3)
            large[7, 2, 3] = torch.nan
            assert torch.equal(ours(large)[0].isnan(), theirs(large)[0].isnan())


@cells
def test_threads_share_the_sequences(cell: str) -> None:
    ours, _ = create_both(cell, 6, 9, bidirectional=True)
    steps, before = torch.randn(30, 11, 6), torch.get_num_threads()
    with torch.no_grad():
        alone = ours(steps)
        torch.set_num_threads(3)
        try:
            together = ours(steps)
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=2e-6)  # the products may differ


@cells
def test_pytorch_runs_everything_else(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = create_both(cell, 3, 4, num_layers=2, dropout=0.5)
    steps = torch.randn(6, 2, 3)

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"not for the kernel: {arguments}")

    monkeypatch.setattr(recurrent_native, "run_layer", refuse)
    ours(steps)[0].sum().backward()
    assert all(each.grad is not None for each in ours.parameters())
    with torch.no_grad():
        assert ours.train()(steps)[0].shape == (6, 2, 4)
        ours.eval()
        packed = nn.utils.rnn.pack_padded_sequence(steps, torch.tensor([6, 4]))
        assert torch.equal(ours(packed)[0].data, theirs(packed)[0].data)
        assert torch.equal(ours(steps[:, 0])[0], theirs(steps[:, 0])[0])
        assert ours(steps[:, :0])[0].shape == (6, 0, 4)
        for wrong in (torch.randn(6, 2, 5), torch.randn(6, 2, 3).double()):
            with pytest.raises((RuntimeError, ValueError)):
                ours(wrong)
        for states in (torch.zeros(1, 2, 4), torch.zeros(2, 2, 4).double()):
            with pytest.raises((RuntimeError, ValueError)):
                ours(steps, states if cell == "GRU" else (states, states))
        with pytest.raises((RuntimeError, ValueError)):
            create_both(cell, 3, 4)[0].double()(steps)
        with pytest.raises(AssertionError, match="not for the kernel"):
            ours(steps)
    others: list[dict[str, Any]] = [{"bias": False}, *([{"proj_size": 2}] if cell == "LSTM" else [])]
    warnings.simplefilter("ignore")  # PyTorch says that oneDNN has no projections
    for options in others:
        ours, theirs = create_both(cell, 3, 4, **options)
        with torch.no_grad():
            assert torch.equal(ours(steps)[0], theirs(steps)[0])
