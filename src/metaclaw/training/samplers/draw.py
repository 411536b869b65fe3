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

_NUCLEUS = 1024  # tokens that hold nearly every top_p; finding them takes a fifth of a full sort

_LEAST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSettings:
    """How one row is drawn: temperature, then ``top_k`` (below 1: off), then ``top_p`` (1: off), renormalised."""

    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0

    @property
    def is_greedy(self) -> bool:
        # Below that, float32 has it as 0, or as a number that a GPU may take for 0: 0 / 0 is no distribution.
        return self.temperature < _LEAST

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
    largest_B = logits_BV.amax(dim=-1)
    temperatures_B = torch.tensor([setting.temperature for setting in settings], device=device)
    # The largest logit is moved to 0 first: a tiny temperature then sends the others to -inf and none to inf.
    scaled_BV = (logits_BV - largest_B[:, None]).div_(temperatures_B[:, None])
    truncated = [row for row, setting in enumerate(settings) if setting.truncates]
    if truncated:
        rows = torch.tensor(truncated, device=device)
        scaled_BV[rows] = _truncate(scaled_BV[rows], [settings[row] for row in truncated])
    # float64: over 10^5 tokens a float32 running sum loses the tail. In place: of 24 x 49,152 numbers, fresh memory
    # for each operation took more time than the arithmetic.
    mass_BV = scaled_BV.exp_().double().cumsum_(dim=-1)
    total_B1 = mass_BV[:, -1:].clone()
    targets_B1 = torch.tensor(uniforms, dtype=torch.float64, device=device)[:, None] * total_B1
    targets_B1 = torch.minimum(targets_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    # right=True finds the first running sum above the target, so a token without mass is never drawn.
    tokens_B = torch.searchsorted(mass_BV, targets_B1, right=True)[:, 0]
    chosen_B = (_pick(logits_BV, tokens_B) - largest_B) / temperatures_B
    return tokens_B, (chosen_B - total_B1[:, 0].log()).float()


def _truncate(scaled_BV: Tensor, settings: list[DrawSettings]) -> Tensor:
    """Set what top-k and top-p cut off to -inf. The largest of each row of ``scaled_BV`` is 0."""
    vocab_size = scaled_BV.shape[-1]
    top_k = [setting.top_k if 0 < setting.top_k < vocab_size else vocab_size for setting in settings]
    top_p = [setting.top_p for setting in settings]
    width = max(min(_NUCLEUS, vocab_size) if k == vocab_size else k for k in top_k)
    kept_BV, is_complete = _keep_best(scaled_BV, top_k, top_p, width)
    return kept_BV if is_complete else _keep_best(scaled_BV, top_k, top_p, vocab_size)[0]


def _keep_best(scaled_BV: Tensor, top_k: list[int], top_p: list[float], width: int) -> tuple[Tensor, bool]:
    """``_truncate`` among the best ``width`` tokens of each row; false if a row's top_p needs more of them."""
    device, vocab_size = scaled_BV.device, scaled_BV.shape[-1]
    top_k_B1 = torch.tensor(top_k, device=device)[:, None]
    top_p_B1 = torch.tensor(top_p, dtype=torch.float64, device=device)[:, None]
    values_BK, tokens_BK = scaled_BV.topk(width, dim=-1)
    rank_K = torch.arange(width, device=device)
    weights_BK = values_BK.double().exp().masked_fill_(rank_K >= top_k_B1, 0.0)
    everything_B1 = scaled_BV.exp().sum(dim=-1, keepdim=True, dtype=torch.float64)
    mass_BK = weights_BK / torch.where(top_k_B1 == vocab_size, everything_B1, weights_BK.sum(dim=-1, keepdim=True))
    above_BK = mass_BK.cumsum(dim=-1) - mass_BK
    # The smallest set whose mass reaches top_p: a token stays while the mass before it is below top_p.
    is_kept_BK = (rank_K < top_k_B1) & ((above_BK < top_p_B1) | (top_p_B1 >= 1.0) | (rank_K == 0))
    has_all_B1 = (top_k_B1 < vocab_size) | (mass_BK.sum(dim=-1, keepdim=True) >= top_p_B1)
    kept_BK = values_BK.masked_fill(~is_kept_BK, float("-inf"))
    kept_BV = torch.full_like(scaled_BV, float("-inf")).scatter_(-1, tokens_BK, kept_BK)
    return kept_BV, width == vocab_size or bool(has_all_B1.all())


def _pick(values_BV: Tensor, tokens_B: Tensor) -> Tensor:
    return values_BV.gather(-1, tokens_B[:, None])[:, 0]
