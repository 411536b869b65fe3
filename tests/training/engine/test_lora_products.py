"""Products of bfloat16 activations with float32 weights: as exact as in float32, whichever way they are made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metaclaw.training import lora_products
from metaclaw.training.lora_products import added, narrowed, weight_gradient, widened
from tests.training.device import DEVICE

ROWS, WIDE, RANK = 40, 96, 8


@pytest.fixture(params=["plain", "split"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """In float32, or in two parts as on a GPU (where this is the only way for bfloat16)."""
    if request.param == "split":
        monkeypatch.setattr(
            lora_products, "splits", lambda tensor, dtype=None: (dtype or tensor.dtype) == torch.bfloat16
        )
    return request.param


def near(result: Tensor, exact: Tensor, tolerance: float) -> None:
    assert float((result.double() - exact).norm() / exact.norm()) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_those_of_float32(way: str, dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(3)
    wide = torch.randn(ROWS, WIDE, generator=noise).to(DEVICE, dtype)
    narrow = (0.1 * torch.randn(ROWS, RANK, generator=noise)).to(DEVICE)
    weight = (0.01 * torch.randn(RANK, WIDE, generator=noise)).to(DEVICE)
    near(narrowed(wide, weight), wide.double() @ weight.double().t(), 2e-5)
    near(weight_gradient(narrow, wide), narrow.double().t() @ wide.double(), 2e-5)
    rounding = 3e-3 if dtype == torch.bfloat16 else 1e-6  # of the result itself
    exact = narrow.double() @ weight.double()
    near(widened(narrow, weight, dtype), exact, rounding)
    total = added(wide, narrow, weight)
    near(total, wide.double() + exact, rounding)
    near(added(wide.clone(), narrow, weight, in_place=True), total.double(), 1e-9)
    assert (narrowed(wide, weight).dtype, weight_gradient(narrow, wide).dtype) == (torch.float32, torch.float32)
    assert {widened(narrow, weight, dtype).dtype, total.dtype} == {dtype}


def test_a_step_of_a_small_learning_rate_is_seen(way: str) -> None:
    """One part in bfloat16 rounds weights of 0.01 to multiples of 6e-5, and a step of 1e-5 changes nothing."""
    wide = torch.ones(1, WIDE, dtype=torch.bfloat16, device=DEVICE)
    weight = torch.full((1, WIDE), 0.01, device=DEVICE)
    moved = narrowed(wide, weight + 1e-5) - narrowed(wide, weight)
    assert float(moved) == pytest.approx(WIDE * 1e-5, rel=0.02)
