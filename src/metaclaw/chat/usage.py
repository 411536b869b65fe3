"""How many tokens an answer took, in one form.

Owns reading a usage in chat form, with what providers add to it; refuses to know prices. Invariant: it never raises on
what a provider sends, and what is not a number of tokens counts as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """``cached`` and ``cache_written`` are among ``prompt``, ``reasoning`` among ``completion``."""

    prompt: int
    completion: int
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion


def token_counts(usage: Mapping[str, Any] | None) -> TokenCounts | None:
    """The counts in ``usage``; ``None`` when it has neither of the two main ones: nothing takes no tokens at all."""
    if usage is None:
        return None
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if not prompt + completion:
        return None
    of_prompt, of_completion = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    # DeepSeek and Moonshot say it beside the details, or instead of them.
    beside = _count(usage, "prompt_cache_hit_tokens") or _count(usage, "cached_tokens")
    cached = _count(of_prompt, "cached_tokens") or beside
    return TokenCounts(
        prompt=prompt,
        completion=completion,
        cached=min(cached, prompt),
        cache_written=min(_count(of_prompt, "cache_creation_tokens"), prompt),
        reasoning=min(_count(of_completion, "reasoning_tokens"), completion),
    )


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value: object = usage.get(name)
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _count(values: Mapping[str, Any], name: str) -> int:
    value: object = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):  # a few servers say 10.0
        return 0
    return int(value) if 0 <= value < 2**53 else 0
