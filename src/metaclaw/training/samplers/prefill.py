"""Reading one request's prompt, a chunk at a time.

Owns how far a prompt has been read, and its log-probs; refuses to know passes, schedules and other requests.
Invariant: what has been read lies in ``row``, and the logits after the last token come with the last chunk.

Shapes: N places of a chunk, V vocabulary, T a prompt's length, K candidates.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaclaw.training.samplers.attention import Segment
from metaclaw.training.samplers.draw import token_logprobs, topk_logprobs
from metaclaw.training.samplers.kv_rows import KvRow
from metaclaw.training.samplers.requests import Request


class Reading:
    """A request whose prompt is being read into ``row``, which may hold the prompt's beginning already."""

    def __init__(self, request: Request, row: KvRow) -> None:
        self.request = request
        self.row = row
        self.num_cached = row.length
        self.scores = PromptScores(request) if request.wants_prompt else None

    @property
    def num_left(self) -> int:
        """Tokens still to be read."""
        return len(self.request.prompt) - self.row.length

    def segment(self, num_tokens: int) -> Segment:
        """The next ``num_tokens``."""
        start = self.row.length
        return Segment(
            row=self.row, tokens=self.request.prompt[start : start + num_tokens].tolist(), slot=self.request.slot
        )

    def kept(self, num_tokens: int) -> range:
        """The places of the next ``num_tokens`` whose logits are needed: all to be scored, or the prompt's last."""
        if self.scores is not None:
            return range(num_tokens)
        return range(num_tokens - 1, num_tokens) if num_tokens == self.num_left else range(0)


class PromptScores:
    """Log-probs of a prompt's own tokens, collected chunk by chunk; those of the first token are NaN."""

    def __init__(self, request: Request) -> None:
        num_tokens, k = len(request.prompt), request.topk_prompt
        self._prompt = torch.from_numpy(request.prompt.astype(np.int64))
        self._wants_logprobs = request.prompt_logprobs
        self._logprobs_T = np.full(num_tokens, np.nan, dtype=np.float32)
        self._topk_tokens_TK = np.zeros((num_tokens, k), dtype=np.int32)
        self._topk_logprobs_TK = np.full((num_tokens, k), np.nan, dtype=np.float32)

    @property
    def is_broken(self) -> bool:
        return bool(np.isnan(self._logprobs_T[1:]).any())

    def add(self, start: int, logits_NV: Tensor) -> None:
        """Take the logits of the places from ``start`` on; each speaks of the token after it."""
        logits_NV = logits_NV[: len(self._logprobs_T) - 1 - start]
        num_places, k = logits_NV.shape[0], self._topk_tokens_TK.shape[1]
        if not num_places:
            return
        scored = slice(start + 1, start + 1 + num_places)
        targets = self._prompt[scored].to(logits_NV.device)
        self._logprobs_T[scored] = token_logprobs(logits_NV, targets).cpu().numpy()
        if k:
            tokens, logprobs = topk_logprobs(logits_NV, k)
            self._topk_tokens_TK[scored] = tokens.cpu().numpy()
            self._topk_logprobs_TK[scored] = logprobs.cpu().numpy()

    def event(self) -> dict[str, Any]:
        """The fields of the ``prompt`` event that were asked for."""
        fields: dict[str, Any] = {"event": "prompt"}
        if self._wants_logprobs:
            fields["logprobs"] = self._logprobs_T
        if self._topk_tokens_TK.shape[1]:
            fields |= {"topk_tokens": self._topk_tokens_TK, "topk_logprobs": self._topk_logprobs_TK}
        return fields
