"""How many tokens an answer took, in one form.

Owns reading a usage in chat form, with what providers add to it; refuses to know prices. Invariant: it never raises on
what a provider sends, and what is not a number of tokens counts as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from metaclaw.fixed import fixed

_MAX_USD = 1e6  # more is no price of an answer
# Anthropic's as we translate it, OpenRouter's, and that of DashScope and of proxies that repeat Anthropic's name.
_CACHE_WRITTEN = ("cache_creation_tokens", "cache_write_tokens", "cache_creation_input_tokens")


@fixed
class TokenCounts:
    """``cached`` and ``cache_written`` are among ``prompt``, ``reasoning`` among ``completion``.

    Of what was written to the cache, ``cache_written_1h`` is kept there for an hour, which is dearer. ``usd`` is what
    the provider itself says that it costs, if it does.
    """

    prompt: int
    completion: int
    cached: int = 0
    cache_written: int = 0
    cache_written_1h: int = 0
    reasoning: int = 0
    usd: float | None = None

    @property
    def total(self) -> int:
        return self.prompt + self.completion


def token_counts(usage: Mapping[str, Any] | None) -> TokenCounts | None:
    """The counts in ``usage``; ``None`` when it has neither of the two main ones: nothing takes no tokens at all."""
    if usage is None:
        return None
    prompt = _count(usage, "prompt_tokens")
    if not prompt + _count(usage, "completion_tokens"):
        return None
    of_prompt, of_completion = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    cached, written = cache_read(usage) or 0, cache_written(of_prompt) or 0
    completion = completion_tokens(usage)
    return TokenCounts(
        prompt=prompt,
        completion=completion,
        cached=min(cached, prompt),
        cache_written=min(written, prompt),
        cache_written_1h=min(_count(of_prompt, "cache_creation_1h_tokens"), written, prompt),
        reasoning=min(_count(of_completion, "reasoning_tokens"), completion),
        usd=_said_usd(usage),
    )


def completion_tokens(usage: Mapping[str, Any]) -> int:
    """How many tokens of a usage were drawn, what was thought among them.

    xAI and Gemini count that in the total alone, and charge for it.
    """
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    unsaid = _count(usage, "total_tokens") - prompt - completion
    cached, written = cache_read(usage) or 0, cache_written(_details(usage, "prompt_tokens_details")) or 0
    # Where the rest of a total is what the cache had, a server counts that beside the prompt.
    is_of_the_prompt = unsaid in (cached, written, cached + written)
    return completion if unsaid <= 0 or is_of_the_prompt else completion + unsaid


def cache_read(usage: Mapping[str, Any]) -> int | None:
    """Of a usage in chat form, how many tokens came from the cache; ``None`` where nothing is said."""
    # DeepSeek and Moonshot say it beside the details, or instead of them.
    details = _details(usage, "prompt_tokens_details")
    places = ((details, "cached_tokens"), (usage, "prompt_cache_hit_tokens"), (usage, "cached_tokens"))
    said = [_count(place, name) for place, name in places if place.get(name) is not None]
    return next(filter(None, said), 0) if said else None


def cache_written(of_prompt: Mapping[str, Any]) -> int | None:
    """Of the details of a prompt in chat form, how many tokens went into the cache; ``None`` where nothing is said."""
    said = [_count(of_prompt, name) for name in _CACHE_WRITTEN if of_prompt.get(name) is not None]
    return max(said, default=None)


def _said_usd(usage: Mapping[str, Any]) -> float | None:
    # OpenRouter's, and what the user's own key was charged with elsewhere. Nothing is said by many who mean no price.
    usd = _amount(usage, "cost")
    if usage.get("is_byok") is True:
        usd += _amount(_details(usage, "cost_details"), "upstream_inference_cost")
    return usd or None


def _amount(values: Mapping[str, Any], name: str) -> float:
    value: object = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 <= value < _MAX_USD else 0.0


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value: object = usage.get(name)
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _count(values: Mapping[str, Any], name: str) -> int:
    value: object = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):  # a few servers say 10.0
        return 0
    return int(value) if 0 <= value < 2**53 else 0
