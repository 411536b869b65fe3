"""One forward pass of the base model over a row cache.

Owns how tokens, positions, mask, slots and cache are handed to transformers; refuses to know what the tokens are
for. Invariant: every pass states the slot of each of its rows.

Shapes: R rows, Q queries, K kept positions, V vocabulary.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from metaclaw.training.samplers.kv_cache import MaskBuilder, RowCache
from metaclaw.training.samplers.slots import LoraSlots


class ForwardPass:
    """Runs the model; the one place that calls it."""

    def __init__(self, model: PreTrainedModel, slots: LoraSlots, device: torch.device) -> None:
        self.device = device
        self._model = model
        self._selection = slots.selection
        self._masks = MaskBuilder(model.config.get_text_config(), model.dtype)

    def run(self, tokens_RQ: Tensor, slots: Sequence[int], cache: RowCache, keep: Sequence[int]) -> Tensor:
        """Append ``tokens_RQ`` to the rows of ``cache``; returns the float32 logits (R, K, V) of columns ``keep``."""
        num_queries = tokens_RQ.shape[1]
        places_RQ = cache.begin(num_queries)
        self._selection.choose(slots)
        output = self._model(
            input_ids=tokens_RQ.to(self.device),
            attention_mask=self._masks.build(places_RQ, cache.end),
            position_ids=places_RQ,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(keep, dtype=torch.long, device=self.device),
        )
        cache.commit(num_queries)
        return output.logits.float()
