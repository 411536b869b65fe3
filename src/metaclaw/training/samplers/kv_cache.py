"""Keys and values of many sequences, one row each.

Owns the storage, what a row's forward pass may attend to, and the moving of rows; refuses to know requests and
tokens. Invariant: token p of a sequence lies at place p of its row whatever its neighbours do, the rows in use are
0..n-1, and everything else is zero (so that masked places never hold a NaN).

A row starts at place 0 and is written in place: joining copies one row, leaving moves the last row into the gap,
and a step copies nothing, where left padding and concatenation would copy the whole cache at each step.

Shapes: R rows, H key/value heads, C capacity, D head size, Q queries.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from metaclaw.errors import ModelSourceError

_GROWTH = 128  # places added at once when a row outgrows the storage
_FULL, _SLIDING = "full_attention", "sliding_attention"

AttentionMask = Tensor | dict[str, Tensor]


class RowCache(Cache):
    """A transformers ``Cache`` whose rows are sequences of different lengths."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(layers=[])
        self.lengths: list[int] = []  # tokens kept per row
        self._device = device
        self._keys: list[Tensor] = []  # per layer (R, H, C, D)
        self._values: list[Tensor] = []
        self._rows = torch.empty(0, dtype=torch.long)
        self._places = torch.empty(0, dtype=torch.long)  # where the next pass writes: (R, Q)
        self.end = 0  # places that the pass may look at

    def open_rows(self, count: int) -> None:
        """Append ``count`` empty rows."""
        self.lengths.extend([0] * count)

    def begin(self, num_queries: int) -> Tensor:
        """Prepare a pass that appends ``num_queries`` places to every row; returns their places (R, Q)."""
        starts = torch.tensor(self.lengths, device=self._device)
        self._rows = torch.arange(len(self.lengths), device=self._device)[:, None]
        self._places = starts[:, None] + torch.arange(num_queries, device=self._device)
        self.end = max(self.lengths) + num_queries
        return self._places

    def commit(self, num_tokens: int) -> None:
        """Keep the first ``num_tokens`` of the places that the last pass wrote."""
        self.lengths = [length + num_tokens for length in self.lengths]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each attention layer with what it computed for the places of ``begin``: (R, H, Q, D)."""
        self._fit(layer_idx, key_states, value_states, self.end)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._rows, :, self._places] = key_states.transpose(1, 2)
        values[self._rows, :, self._places] = value_states.transpose(1, 2)
        num_rows = len(self.lengths)
        return keys[:num_rows, :, : self.end], values[:num_rows, :, : self.end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The longest row; models that build their own positions would ask (ours are always given)."""
        return max(self.lengths, default=0)

    def append_from(self, source: RowCache, row: int, length: int) -> None:
        """Append a row that is a copy of the first ``length`` tokens of ``source``'s ``row``."""
        self.lengths.append(0)
        for layer, (keys, values) in enumerate(zip(source._keys, source._values, strict=True)):
            self._fit(layer, keys, values, length)
            self._keys[layer][len(self.lengths) - 1, :, :length] = keys[row, :, :length]
            self._values[layer][len(self.lengths) - 1, :, :length] = values[row, :, :length]
        self.lengths[-1] = length

    def drop(self, row: int) -> None:
        """Remove ``row``; the last row takes its place."""
        last = len(self.lengths) - 1
        kept, dropped = self.lengths[last], max(self.lengths[row], 1)
        # One place more than the length: a pass that failed may have written there without a commit.
        for store in (*self._keys, *self._values):
            if row != last:
                store[row, :, : dropped + 1] = 0
                store[row, :, :kept] = store[last, :, :kept]
            store[last, :, : kept + 1] = 0
        self.lengths[row] = kept
        self.lengths.pop()
        if not self.lengths:  # give back what a long sequence took
            self._keys.clear()
            self._values.clear()

    def _fit(self, layer: int, keys: Tensor, values: Tensor, capacity: int) -> None:
        """Make sure that ``layer`` (shaped like ``keys``, ``values``) has room for all rows and ``capacity`` places."""
        num_rows = len(self.lengths)
        if layer == len(self._keys):
            self._keys.append(_zeros(keys, 0, 0))
            self._values.append(_zeros(values, 0, 0))
        have_rows, _, have_capacity, _ = self._keys[layer].shape
        if have_rows >= num_rows and have_capacity >= capacity:
            return
        rows = have_rows if have_rows >= num_rows else max(num_rows, 2 * have_rows)
        places = have_capacity if have_capacity >= capacity else -(-capacity // _GROWTH) * _GROWTH
        self._keys[layer] = self._grown(self._keys[layer], rows, places)
        self._values[layer] = self._grown(self._values[layer], rows, places)

    def _grown(self, store: Tensor, rows: int, capacity: int) -> Tensor:
        grown = _zeros(store, rows, capacity)
        for row, length in enumerate(self.lengths[: store.shape[0]]):
            grown[row, :, :length] = store[row, :, :length]  # not the whole rectangle: see _zeros
        return grown


class MaskBuilder:
    """Builds the additive attention mask that a model's layers ask for."""

    def __init__(self, config: PreTrainedConfig, dtype: torch.dtype) -> None:
        kinds = set(getattr(config, "layer_types", None) or ())
        unknown = kinds - {_FULL, _SLIDING}
        if unknown:
            raise ModelSourceError(
                f"{config.model_type} has layers of kind {sorted(unknown)}; this sampler serves attention layers only"
            )
        self._window: int | None = getattr(config, "sliding_window", None)
        if not kinds and getattr(config, "use_sliding_window", True) is False:
            self._window = None
        self._by_kind = kinds == {_FULL, _SLIDING} or kinds == {_SLIDING}
        self._is_sliding = not kinds and self._window is not None
        self._dtype = dtype

    def build(self, places: Tensor, end: int) -> AttentionMask:
        """For queries at ``places`` (R, Q) over places 0..end-1: each sees itself and what is before it."""
        keys = torch.arange(end, device=places.device)
        visible = keys <= places[:, :, None]
        if not (self._by_kind or self._is_sliding):
            return self._additive(visible)
        assert self._window is not None
        near = visible & (keys > places[:, :, None] - self._window)
        if self._is_sliding:
            return self._additive(near)
        return {_FULL: self._additive(visible), _SLIDING: self._additive(near)}

    def _additive(self, visible: Tensor) -> Tensor:
        # Additive and made once a step: sdpa would convert a boolean mask anew in every layer.
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=visible.device)
        return mask.masked_fill_(~visible, torch.finfo(self._dtype).min)[:, None]


def _zeros(like: Tensor, rows: int, capacity: int) -> Tensor:
    # On a CPU fresh zeros are pages that the system hands out on first touch: unused capacity costs nothing.
    return torch.zeros(rows, like.shape[1], capacity, like.shape[3], dtype=like.dtype, device=like.device)
