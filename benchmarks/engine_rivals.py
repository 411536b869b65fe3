"""The two ways that the engine is measured against: plain loops over transformers and PEFT.

Both compute the log-softmax of every position over the whole vocabulary, as training loops commonly do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from metaclaw.training.commands import Datum


def run_naive(model: torch.nn.Module, data: Sequence[Datum], *, max_tokens: int = 0) -> list[np.ndarray]:
    """One datum at a time."""
    logprobs: list[np.ndarray] = []
    for datum in data:
        tokens = torch.tensor(datum.tokens.astype(np.int64), device=model.device)
        targets = torch.tensor(datum.inputs["target_tokens"], device=model.device)
        weights = torch.tensor(datum.inputs["weights"], device=model.device)
        logits = model(input_ids=tokens[None], use_cache=False).logits[0].float()
        chosen = torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None])[:, 0]
        (-(chosen * weights).sum()).backward()
        logprobs.append(chosen.detach().cpu().numpy())
    return logprobs


def run_padded(model: torch.nn.Module, data: Sequence[Datum], *, max_tokens: int = 4096) -> list[np.ndarray]:
    """Batches in the order of the data, padded to their longest, of up to ``max_tokens`` tokens with the padding."""
    logprobs: list[np.ndarray] = []
    first = 0
    while first < len(data):
        last, longest = first, 0
        while last < len(data):
            wider = max(longest, len(data[last].tokens))
            if last > first and wider * (last - first + 1) > max_tokens:
                break
            last, longest = last + 1, wider
        logprobs += _padded_batch(model, data[first:last], longest)
        first = last
    return logprobs


def _padded_batch(model: torch.nn.Module, data: Sequence[Datum], longest: int) -> list[np.ndarray]:
    lengths = [len(datum.tokens) for datum in data]

    def stacked(arrays: list[np.ndarray]) -> torch.Tensor:
        return torch.stack([pad(torch.tensor(a), (0, longest - len(a))) for a in arrays]).to(model.device)

    tokens = stacked([datum.tokens.astype(np.int64) for datum in data])
    targets = stacked([datum.inputs["target_tokens"] for datum in data])
    weights = stacked([datum.inputs["weights"] for datum in data])
    mask = stacked([np.ones(length, np.int64) for length in lengths])
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits.float()
    chosen = torch.log_softmax(logits, dim=-1).gather(-1, targets[..., None])[..., 0]
    (-(chosen * weights).sum()).backward()
    return [row[:length].detach().cpu().numpy() for row, length in zip(chosen, lengths, strict=True)]
