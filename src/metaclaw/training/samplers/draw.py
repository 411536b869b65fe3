"""Drawing the next token, and the log-probs that belong to it.

Owns temperature, top-k, top-p and the inverse-CDF draw over rows with settings of their own; refuses to know
requests, models and random generators (each row brings one uniform number, so a row's tokens never depend on its
neighbours). Invariant: ``logprobs`` are those of the very distribution that was drawn from, ``logprobs_full``
those at temperature 1 over the whole vocabulary, both float32.

Shapes: B rows, V vocabulary, K candidates.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSettings:
    """How one row is drawn: temperature, then ``top_k`` (below 1: off), then ``top_p`` (1: off), renormalised."""

    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def truncates(self) -> bool:
        return not self.is_greedy and (self.top_k > 0 or self.top_p < 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """One token per row. A ``broken`` row had no usable logits (NaN, infinite); its other values mean nothing."""

    tokens_B: Tensor
    logprobs_B: Tensor
    logprobs_full_B: Tensor
    broken_B: Tensor


def draw(logits_BV: Tensor, settings: Sequence[DrawSettings], uniforms: Sequence[float]) -> Draws:
    """Draw one token per row; ``uniforms`` are numbers in [0, 1), ignored by greedy rows."""
    logits_BV = logits_BV.float()
    normaliser_B = logits_BV.logsumexp(dim=-1)
    broken_B = ~normaliser_B.isfinite()
    if bool(broken_B.any()):
        logits_BV = logits_BV.masked_fill(broken_B[:, None], 0.0)
    tokens_B = logits_BV.argmax(dim=-1)
    logprobs_B = torch.zeros_like(normaliser_B)  # greedy: all of the mass is on the token
    random = [row for row, setting in enumerate(settings) if not setting.is_greedy]
    if random:
        rows = torch.tensor(random, device=logits_BV.device)
        drawn, drawn_logprobs = _draw_random(
            logits_BV if len(random) == len(settings) else logits_BV[rows],
            [settings[row] for row in random],
            [uniforms[row] for row in random],
        )
        tokens_B[rows] = drawn
        logprobs_B[rows] = drawn_logprobs
    logprobs_full_B = _pick(logits_BV, tokens_B) - normaliser_B
    return Draws(tokens_B=tokens_B, logprobs_B=logprobs_B, logprobs_full_B=logprobs_full_B, broken_B=broken_B)


def token_logprobs(logits_BV: Tensor, tokens_B: Tensor) -> Tensor:
    """Log-probs (B,) of given tokens at temperature 1 over the whole vocabulary."""
    logits_BV = logits_BV.float()
    return _pick(logits_BV, tokens_B) - logits_BV.logsumexp(dim=-1)


def topk_logprobs(logits_BV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` likeliest tokens (B, K) and their log-probs (B, K) at temperature 1, best first."""
    logits_BV = logits_BV.float()
    values_BK, tokens_BK = logits_BV.topk(k, dim=-1)
    return tokens_BK, values_BK - logits_BV.logsumexp(dim=-1, keepdim=True)


def _draw_random(logits_BV: Tensor, settings: list[DrawSettings], uniforms: list[float]) -> tuple[Tensor, Tensor]:
    device = logits_BV.device
    temperatures_B = torch.tensor([setting.temperature for setting in settings], device=device)
    # The largest logit is moved to 0 first: a tiny temperature then sends the others to -inf and none to inf.
    scaled_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / temperatures_B[:, None]
    truncated = [row for row, setting in enumerate(settings) if setting.truncates]
    if truncated:
        rows = torch.tensor(truncated, device=device)
        scaled_BV[rows] = _truncate(scaled_BV[rows], [settings[row] for row in truncated])
    logprobs_BV = scaled_BV.log_softmax(dim=-1)
    # float64: over 10^5 tokens a float32 running sum loses the tail.
    mass_BV = logprobs_BV.exp().double().cumsum(dim=-1)
    total_B1 = mass_BV[:, -1:]
    targets_B1 = torch.tensor(uniforms, dtype=torch.float64, device=device)[:, None] * total_B1
    targets_B1 = torch.minimum(targets_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    # right=True finds the first running sum above the target, so a token without mass is never drawn.
    tokens_B = torch.searchsorted(mass_BV, targets_B1, right=True)[:, 0]
    return tokens_B, _pick(logprobs_BV, tokens_B)


def _truncate(scaled_BV: Tensor, settings: list[DrawSettings]) -> Tensor:
    """Set what top-k and top-p cut off to -inf."""
    vocab_size = scaled_BV.shape[-1]
    keep_first = [setting.top_k if 0 < setting.top_k < vocab_size else vocab_size for setting in settings]
    top_k_B1 = torch.tensor(keep_first, device=scaled_BV.device)[:, None]
    top_p_B1 = torch.tensor([setting.top_p for setting in settings], dtype=torch.float64, device=scaled_BV.device)[
        :, None
    ]
    values_BK, tokens_BK = scaled_BV.topk(max(keep_first), dim=-1)
    rank_K = torch.arange(values_BK.shape[-1], device=scaled_BV.device)
    values_BK = values_BK.masked_fill(rank_K >= top_k_B1, float("-inf"))
    mass_BK = values_BK.double().softmax(dim=-1)
    # The smallest set whose mass reaches top_p: a token stays while the mass before it is below top_p.
    above_BK = mass_BK.cumsum(dim=-1) - mass_BK
    values_BK = values_BK.masked_fill((above_BK >= top_p_B1) & (top_p_B1 < 1.0) & (rank_K > 0), float("-inf"))
    return torch.full_like(scaled_BV, float("-inf")).scatter(-1, tokens_BK, values_BK)


def _pick(values_BV: Tensor, tokens_B: Tensor) -> Tensor:
    return values_BV.gather(-1, tokens_B[:, None])[:, 0]
