"""Attention of many sequences in one pass, each over its own keys and values.

Owns the attention function that the model's layers call, and the writing of new keys and values; refuses to know
what the tokens are for. Invariant: a token attends to its own sequence, to itself and what is before it (within the
layer's sliding window), and never to anything that depends on its neighbours in the pass.

The tokens of a pass lie in one line, sequence after sequence, without padding: those of a prompt's chunk and single
ones of running answers share every matrix product of the model, so that the weights are read once.

Shapes: T tokens of the pass, N tokens of one sequence, L its length so far, H query heads, K key/value heads, G
query heads per key/value head, D head size.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

from metaclaw.errors import ModelSourceError
from metaclaw.training.samplers.fixed_attention import FixedRows
from metaclaw.training.samplers.kv_rows import KvRow

_FULL, _SLIDING = "full_attention", "sliding_attention"

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The next tokens of one sequence, and the slot of its adapter."""

    row: KvRow
    tokens: Sequence[int]
    slot: int


class RowAttention(Cache):
    """What the layers of one model write to and attend with. One pass at a time."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(layers=[])
        config = model.config.get_text_config()
        self._windows = sliding_windows(config)
        # Where no layer says of what kind it is, the window comes with each call.
        self.has_windows = bool(self._windows) or (
            not getattr(config, "layer_types", None) and getattr(config, "sliding_window", None) is not None
        )
        self._segments: tuple[Segment, ...] = ()
        self._sizes: list[int] = []
        self._masks: dict[tuple[int, int, int], Tensor] = {}
        self._fixed: FixedRows | None = None
        name = f"metaclaw_rows_{next(_numbers)}"
        AttentionInterface.register(name, self._attend)
        model.set_attn_implementation(name)

    @contextmanager
    def fixed_on(self, rows: FixedRows) -> Iterator[None]:
        """Passes within are of one new token for each of ``rows``, and commit nothing."""
        self._fixed = rows
        try:
            yield
        finally:
            self._fixed = None

    def begin(self, segments: Sequence[Segment]) -> None:
        """The next pass runs over the tokens of ``segments``, in that order."""
        self._segments = tuple(segments)
        self._sizes = [len(segment.tokens) for segment in segments]
        self._masks.clear()

    def end(self) -> None:
        """The pass wrote every layer: its tokens are part of their sequences."""
        for segment in self._segments:
            segment.row.commit(segment.tokens)
        self.forget()

    def forget(self) -> None:
        """Hold nothing of the last pass. Recorded ones begin none, so its rows and masks would keep their memory."""
        self._segments = ()
        self._masks.clear()

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each attention layer with what it computed: (1, K, T, D)."""
        keys_TKD, values_TKD = key_states[0].transpose(0, 1), value_states[0].transpose(0, 1)
        if self._fixed is not None:
            self._fixed.write(layer_idx, keys_TKD, values_TKD)
            return key_states, value_states
        for segment, keys, values in zip(
            self._segments, keys_TKD.split(self._sizes), values_TKD.split(self._sizes), strict=True
        ):
            segment.row.write(layer_idx, keys, values)
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Models that build their own positions would ask; ours are always given."""
        return max((segment.row.length for segment in self._segments), default=0)

    def _attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
        scaling: float | None = None, sliding_window: int | None = None, **options: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        """The attention function of transformers: ``query`` (1, H, T, D) to (1, T, H, D)."""
        for name in ("softcap", "s_aux", "position_bias"):
            if options.get(name) is not None:
                raise ModelSourceError(f"this model's attention uses {name}, which this sampler does not serve")
        layer: int = module.layer_idx  # pyright: ignore[reportAssignmentType]
        if self._fixed is not None:
            queries_TKGD = query[0].transpose(0, 1).unflatten(1, (key.shape[1], -1))
            return self._fixed.attend(layer, queries_TKGD, scaling).flatten(1, 2)[None], None
        window = self._windows.get(layer, 0) or sliding_window or 0
        outputs = []
        for index, (segment, queries) in enumerate(
            zip(self._segments, query[0].split(self._sizes, dim=1), strict=True)
        ):
            if queries.shape[1] == 1:
                outputs.append(_attend_one(queries, segment.row, layer, window, scaling))
            else:
                outputs.append(self._attend_chunk(index, queries, segment.row, layer, window, scaling))
        return (torch.cat(outputs) if len(outputs) > 1 else outputs[0])[None], None

    def _attend_chunk(
        self, index: int, queries_HND: Tensor, row: KvRow, layer: int, window: int, scaling: float | None
    ) -> Tensor:
        num_new = queries_HND.shape[1]
        first = max(0, row.length + 1 - window) if window else 0
        keys_LKD = row.keys[layer][first : row.length + num_new]
        values_LKD = row.values[layer][first : row.length + num_new]
        heads = keys_LKD.shape[1]
        groups = queries_HND.shape[0] // heads
        # Query heads that share keys are a dimension of their own, over which the keys are repeated without a copy.
        attended = scaled_dot_product_attention(
            queries_HND.unflatten(0, (heads, groups)),
            keys_LKD.transpose(0, 1)[:, None].expand(-1, groups, -1, -1),
            values_LKD.transpose(0, 1)[:, None].expand(-1, groups, -1, -1),
            attn_mask=self._mask(index, row.length - first, num_new, window, queries_HND),
            scale=scaling,
        )
        return attended.flatten(0, 1).transpose(0, 1)

    def _mask(self, index: int, before: int, num_new: int, window: int, like: Tensor) -> Tensor:
        """Additive (N, L): made once a pass, for all layers with this window."""
        key = (index, before, window)
        mask = self._masks.get(key)
        if mask is None:
            places = torch.arange(before + num_new, device=like.device)
            own = places[before:, None]
            hidden = places > own
            if window:
                hidden |= places <= own - window
            mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
            self._masks[key] = mask.masked_fill_(hidden, torch.finfo(like.dtype).min)
        return self._masks[key]


def _attend_one(query_H1D: Tensor, row: KvRow, layer: int, window: int, scaling: float | None) -> Tensor:
    """One new token: it sees everything that is looked at, so no mask; query heads that share keys are one block."""
    end = row.length + 1
    first = max(0, end - window) if window else 0
    keys_LKD = row.keys[layer].narrow(0, first, end - first)
    values_LKD = row.values[layer].narrow(0, first, end - first)
    query_1KGD = query_H1D.view(1, keys_LKD.shape[1], -1, query_H1D.shape[-1])
    attended = scaled_dot_product_attention(
        query_1KGD, keys_LKD.transpose(0, 1)[None], values_LKD.transpose(0, 1)[None], scale=scaling
    )
    return attended.flatten(1, 2)


def sliding_windows(config: PreTrainedConfig) -> dict[int, int]:
    """The sliding window of each layer that has one by the configuration; raises for layers that are not attention."""
    kinds: list[str] = list(getattr(config, "layer_types", None) or ())
    unknown = set(kinds) - {_FULL, _SLIDING}
    if unknown:
        raise ModelSourceError(
            f"{config.model_type} has layers of kind {sorted(unknown)}; this sampler serves attention layers only"
        )
    window = getattr(config, "sliding_window", None)
    return {layer: window for layer, kind in enumerate(kinds) if kind == _SLIDING and window}
