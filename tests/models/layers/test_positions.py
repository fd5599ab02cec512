from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from polsess.models.layers.positions import RotaryRates, rotary_tables, rotate
from tests.conftest import GOLDEN


@pytest.mark.parametrize("case", ["case1", "case2"])  # 32 of 48 features, and all of 8
def test_golden(case: str) -> None:
    tensors = load_file(GOLDEN / "rotary" / f"{case}.safetensors")
    features = tensors["x"].requires_grad_()
    tables = rotary_tables(tensors["freqs"], features.shape[1], features)
    rotated = rotate(features, *tables)
    torch.testing.assert_close(rotated, tensors["y"], rtol=1e-5, atol=2e-6)
    (gradient,) = torch.autograd.grad(rotated, features, tensors["probe"])
    torch.testing.assert_close(gradient, tensors["grad_x"], rtol=1e-5, atol=2e-6)


def test_a_product_sees_only_the_distance() -> None:
    query, key = torch.randn(2, 1, 6, dtype=torch.float64).expand(2, 50, 6)
    cosines, sines = RotaryRates(4)(50, query)
    rotated_query, rotated_key = rotate(query, cosines, sines), rotate(key, cosines, sines)
    products = rotated_query @ rotated_key.T
    assert math.isclose(products[7, 3], products[44, 40], rel_tol=1e-5)
    assert not math.isclose(products[7, 3], products[7, 4], rel_tol=1e-5)
