"""Attention of one new token each over rows whose lengths are numbers on the device.

Owns what a recorded step does in place of ``attention``: the same shapes whatever the lengths are. Refuses to know
recordings. Invariant: what lies beyond a row's length never reaches a result, as long as it is finite.

A row is looked at up to a multiple of ``STRIDE`` places, what is beyond its length under a mask, in pieces of that
size that run beside each other: a single token of few heads would keep a few of a GPU's processors busy. The pieces
are joined by their normalisers (FlashDecoding; Dao et al. 2023, "Flash-Decoding for long-context inference").

Shapes: B rows of one new token each, S pieces of STRIDE places, K key/value heads, G query heads per key/value head,
D head size.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metaclaw.training.samplers.kv_rows import STRIDE, KvRow


def num_pieces(row: KvRow) -> int:
    """How many pieces hold the row with one token more."""
    return row.length // STRIDE + 1


class FixedRows:
    """Some rows, in the state in which ``num_pieces`` of each stays as it is now."""

    def __init__(self, rows: Sequence[KvRow], places_B: Tensor, dtype: torch.dtype) -> None:
        self._rows = rows
        self._places_B = places_B
        self._dtype = dtype
        self._pieces = [num_pieces(row) for row in rows]
        self.line = torch.arange(max(self._pieces) * STRIDE, device=places_B.device)
        self._masks: list[Tensor] = []

    def begin(self) -> None:
        """Once a pass, before the layers."""
        hidden = self.line > self._places_B[:, None]
        added = torch.zeros(hidden.shape, dtype=self._dtype, device=hidden.device)
        added.masked_fill_(hidden, float("-inf"))
        self._masks = [
            line[: pieces * STRIDE].view(pieces, 1, 1, STRIDE) for line, pieces in zip(added, self._pieces, strict=True)
        ]

    def write(self, layer: int, keys_BKD: Tensor, values_BKD: Tensor) -> None:
        """Put the new token's keys and values in their places."""
        for index, row in enumerate(self._rows):
            place = self._places_B[index : index + 1]
            row.keys[layer].index_copy_(0, place, keys_BKD[index : index + 1])
            row.values[layer].index_copy_(0, place, values_BKD[index : index + 1])

    def attend(self, layer: int, queries_BKGD: Tensor, scale: float | None) -> Tensor:
        """``queries_BKGD`` over their rows, the same shape."""
        factor = queries_BKGD.shape[-1] ** -0.5 if scale is None else scale
        attended = []
        for index, row in enumerate(self._rows):
            pieces, mask = self._pieces[index], self._masks[index]
            queries_SKGD = queries_BKGD[index].expand(pieces, -1, -1, -1)
            places = pieces * STRIDE
            keys, values = (
                each[layer][:places].unflatten(0, (pieces, STRIDE)).transpose(1, 2) for each in (row.keys, row.values)
            )
            outputs_SKGD, normalisers_SKG = attend_pieces(queries_SKGD, keys, values, mask, factor)
            if pieces == 1:
                attended.append(outputs_SKGD[0])
                continue
            shares_SKG1 = normalisers_SKG.softmax(0)[..., None]
            attended.append((shares_SKG1 * outputs_SKGD).sum(0).to(outputs_SKGD.dtype))
        return torch.stack(attended)


def attend_pieces(
    queries_SKGD: Tensor, keys_SKLD: Tensor, values_SKLD: Tensor, mask: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of each piece alone, and the logarithm of its normaliser (S, K, G), float32.

    ``mask`` is added to the scores; of a piece, not everything may be hidden.
    """
    if queries_SKGD.device.type == "cuda":
        mask = mask.expand(*queries_SKGD.shape[:-1], mask.shape[-1])
        outputs, normalisers, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            queries_SKGD, keys_SKLD, values_SKLD, mask, True, scale=scale
        )
        return outputs, normalisers[..., : queries_SKGD.shape[2]]
    scores = (queries_SKGD.float() @ keys_SKLD.float().transpose(-1, -2)) * scale + mask
    outputs = scores.softmax(-1) @ values_SKLD.float()
    return outputs.to(queries_SKGD.dtype), scores.logsumexp(-1)
