"""Products of a model's activations with an adapter's float32 weights.

Owns how they are computed where the two differ in dtype; refuses to know layers and autograd. Invariant: results are
those of float32 arithmetic, to a part in ten thousand, and what is as wide as the activations exists in their dtype
alone.

Over a bfloat16 base the plain way makes float32 copies of all that it multiplies, which on a GPU take longer than the
products (measured in benchmarks/README.md). Here each float32 factor, which is narrow, becomes the sum of two in
bfloat16, high and low, and the tensor cores sum the products in float32. Two have 16 bits: one alone would round
away the steps of a learning rate of 1e-5 (weights of 0.01 then differ by 6e-5).

Shapes: N rows, W a layer's wide side (inputs or outputs), R rank.
"""

# pyright: basic

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def narrowed(wide_NW: Tensor, weight_RW: Tensor) -> Tensor:
    """``wide @ weight.T``, float32 (N, R)."""
    if not splits(wide_NW):
        return wide_NW.to(weight_RW.dtype) @ weight_RW.t()
    high_RW, low_RW = _split(weight_RW, wide_NW.dtype)
    both = _sums(wide_NW, torch.cat([high_RW, low_RW]).t())
    return both[:, : weight_RW.shape[0]] + both[:, weight_RW.shape[0] :]


def widened(narrow_NR: Tensor, weight_RW: Tensor, dtype: torch.dtype) -> Tensor:
    """``narrow @ weight``, (N, W) of ``dtype``."""
    if not splits(narrow_NR, dtype):
        return (narrow_NR @ weight_RW).to(dtype)
    return torch.mm(*_tripled(narrow_NR, weight_RW, dtype))


def added(total_NW: Tensor, narrow_NR: Tensor, weight_RW: Tensor, *, in_place: bool = False) -> Tensor:
    """``total + narrow @ weight`` in the dtype of ``total``, rounded once; ``in_place`` where that is the caller's."""
    if total_NW.dtype != weight_RW.dtype and not splits(total_NW):
        return (narrow_NR @ weight_RW + total_NW).to(total_NW.dtype)
    factors = (narrow_NR, weight_RW)
    if total_NW.dtype != weight_RW.dtype:
        factors = _tripled(narrow_NR, weight_RW, total_NW.dtype)
    return total_NW.addmm_(*factors) if in_place else torch.addmm(total_NW, *factors)


def weight_gradient(narrow_NR: Tensor, wide_NW: Tensor) -> Tensor:
    """``narrow.T @ wide``, float32 (R, W): summed over all rows."""
    if not splits(wide_NW):
        return narrow_NR.t() @ wide_NW.to(narrow_NR.dtype)
    high_NR, low_NR = _split(narrow_NR, wide_NW.dtype)
    both = _sums(torch.cat([high_NR, low_NR], dim=1).t(), wide_NW)
    return both[: narrow_NR.shape[1]] + both[narrow_NR.shape[1] :]


def splits(activations: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether products with such activations are done in two parts."""
    wanted = activations.dtype if dtype is None else dtype
    return wanted == torch.bfloat16 and activations.device.type == "cuda" and _has_float32_sums(activations.device)


@cache
def _has_float32_sums(device: torch.device) -> bool:
    """Whether products of bfloat16 come out in float32 there: by torch 2.8, and not of every GPU's library."""
    ones = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
    try:
        return bool((_sums(ones, ones) == 16).all())
    except (RuntimeError, TypeError):
        return False


def _split(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    high = weight.to(dtype)
    return high, (weight - high).to(dtype)


def _tripled(narrow_NR: Tensor, weight_RW: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Factors of ``dtype`` whose product is that of the two, but for low times low."""
    high_NR, low_NR = _split(narrow_NR, dtype)
    high_RW, low_RW = _split(weight_RW, dtype)
    return torch.cat([high_NR, low_NR, high_NR], dim=1), torch.cat([high_RW, high_RW, low_RW])


def _sums(left: Tensor, right: Tensor) -> Tensor:
    """A product of bfloat16 factors, in float32."""
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
