"""Reading the prompts of a few requests, a chunk at a time.

Owns the padded batch of prompts, its cache, and the prompts' log-probs; refuses to know how often it is called.
Invariant: a request's result does not depend on who shares its batch, and padding is never attended to.

Shapes: R requests, Q columns of a chunk, K kept columns, V vocabulary, T a prompt's length.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaclaw.training.samplers.draw import token_logprobs, topk_logprobs
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.kv_cache import RowCache
from metaclaw.training.samplers.requests import Request


class Prefill:
    """A group of requests whose prompts are being read. Row i of ``cache`` belongs to ``requests[i]``."""

    def __init__(self, requests: Sequence[Request], forward: ForwardPass) -> None:
        self.requests = tuple(requests)
        self.cache = RowCache(forward.device)
        self.cache.open_rows(len(requests))
        self._forward = forward
        self._lengths = [len(request.prompt) for request in requests]
        # Padding is on the right: it comes after the prompt, so nothing that counts can see it.
        self._tokens = torch.zeros(len(requests), max(self._lengths), dtype=torch.long)
        for row, request in enumerate(requests):
            self._tokens[row, : len(request.prompt)] = torch.from_numpy(request.prompt)
        self._num_done = 0
        self._last_logits: list[Tensor | None] = [None] * len(requests)
        self._scores = [PromptScores(request) if request.wants_prompt else None for request in requests]

    @property
    def is_done(self) -> bool:
        return self._num_done == self._tokens.shape[1]

    def advance(self, max_tokens: int) -> None:
        """Read the next chunk: about ``max_tokens`` over all rows."""
        width = min(max(1, max_tokens // len(self.requests)), self._tokens.shape[1] - self._num_done)
        start, end = self._num_done, self._num_done + width
        keep = self._kept(start, end)
        slots = [request.slot for request in self.requests]
        logits_RKV = self._forward.run(self._tokens[:, start:end], slots, self.cache, [place - start for place in keep])
        for row, length in enumerate(self._lengths):
            if start < length <= end:
                self._last_logits[row] = logits_RKV[row, keep.index(length - 1)].clone()
            scores = self._scores[row]
            if scores is not None:
                scores.add(start, logits_RKV[row, : max(0, min(end, length - 1) - start)])
        self._num_done = end

    def last_logits(self, row: int) -> Tensor:
        """Logits (V,) after the whole prompt of ``row``."""
        logits = self._last_logits[row]
        assert logits is not None, "asked before the prompt was read"
        return logits

    def scores(self, row: int) -> PromptScores | None:
        """The prompt's log-probs, if they were asked for."""
        return self._scores[row]

    def _kept(self, start: int, end: int) -> list[int]:
        """The places of this chunk whose logits are needed: all where a prompt is scored, else the last of a prompt."""
        if any(scores is not None for scores in self._scores):
            return list(range(start, end))
        return sorted({length - 1 for length in self._lengths if start < length <= end})


class PromptScores:
    """Log-probs of a prompt's own tokens, collected chunk by chunk; those of the first token are NaN."""

    def __init__(self, request: Request) -> None:
        num_tokens, k = len(request.prompt), request.topk_prompt
        self._prompt = torch.from_numpy(request.prompt)
        self._wants_logprobs = request.prompt_logprobs
        self._logprobs_T = np.full(num_tokens, np.nan, dtype=np.float32)
        self._topk_tokens_TK = np.zeros((num_tokens, k), dtype=np.int32)
        self._topk_logprobs_TK = np.full((num_tokens, k), np.nan, dtype=np.float32)

    @property
    def is_broken(self) -> bool:
        return bool(np.isnan(self._logprobs_T[1:]).any())

    def add(self, start: int, logits_QV: Tensor) -> None:
        """Take the logits of the places from ``start`` on; each speaks of the token after it."""
        num_places, k = logits_QV.shape[0], self._topk_tokens_TK.shape[1]
        if not num_places:
            return
        scored = slice(start + 1, start + 1 + num_places)
        targets = self._prompt[scored].to(logits_QV.device)
        self._logprobs_T[scored] = token_logprobs(logits_QV, targets).cpu().numpy()
        if k:
            tokens, logprobs = topk_logprobs(logits_QV, k)
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
