"""The frames that tell of one step's tokens.

Owns the shape of ``tokens`` events; refuses to know schedules. Invariant: what is told of a token was computed from
the logits that it was drawn from.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from metaclaw.training.samplers.draw import Draws, topk_logprobs
from metaclaw.training.samplers.requests import Sample


class TokenEvents:
    """The ``tokens`` events of one step: row i belongs to ``samples[i]``."""

    def __init__(self, draws: Draws, logits_BV: Tensor, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._tokens = draws.tokens_B.cpu().numpy().astype(np.int32)
        self._logprobs = draws.logprobs_B.cpu().numpy()
        self._logprobs_full = draws.logprobs_full_B.cpu().numpy()
        self._broken = draws.broken_B.tolist()
        k = max(sample.request.topk_sample for sample in samples)
        self._topk = [part.cpu().numpy() for part in topk_logprobs(logits_BV, k)] if k else []

    def token(self, row: int) -> int:
        """The token of a row."""
        return int(self._tokens[row])

    def is_broken(self, row: int) -> bool:
        """Whether the row's logits were no numbers."""
        return self._broken[row]

    def event(self, row: int) -> dict[str, Any]:
        """The fields of the row's event."""
        sample, this = self._samples[row], slice(row, row + 1)
        fields: dict[str, Any] = {
            "event": "tokens", "sample": sample.index, "tokens": self._tokens[this],
            "logprobs": self._logprobs[this], "logprobs_full": self._logprobs_full[this],
        }  # fmt: skip
        k = sample.request.topk_sample
        if k:
            fields["topk_tokens"] = self._topk[0][this, :k].astype(np.int32)
            fields["topk_logprobs"] = self._topk[1][this, :k]
        return fields
