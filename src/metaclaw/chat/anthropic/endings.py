"""How an answer ended and what it took, both ways.

Owns stop reasons and usage; refuses to know content. Invariant: both are lenient, an unknown reason is the ordinary
one, and the sums of tokens agree: OpenAI counts cached input within the input, Anthropic beside it.
"""

from __future__ import annotations

from metaclaw.chat.anthropic.fields import count_in, listed, object_in, text_in
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.usage import cache_read, cache_written, completion_tokens

_TO_CHAT = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_FROM_CHAT = {"length": "max_tokens", "content_filter": "refusal"}


def finish_reason(stop_reason: object) -> str:
    """Anthropic's reason as chat's."""
    return _TO_CHAT.get(text_in(stop_reason), "stop")


def stop_keys(choice: JsonObject, request: JsonObject, *, has_calls: bool, is_refusal: bool) -> JsonObject:
    """``stop_reason`` and ``stop_sequence`` for a chat choice that has ended.

    Chat does not say which sequence ended an answer, but vLLM and its kin do, in ``stop_reason``.
    """
    sequence = choice.get("stop_reason")
    if has_calls and text_in(choice.get("finish_reason")) not in _FROM_CHAT:
        reason = "tool_use"  # some servers say "stop"
    elif is_refusal:
        reason = "refusal"
    else:
        reason = _FROM_CHAT.get(text_in(choice.get("finish_reason")), "end_turn")
    if reason == "end_turn" and isinstance(sequence, str) and sequence in listed(request.get("stop_sequences")):
        return {"stop_reason": "stop_sequence", "stop_sequence": sequence}
    return {"stop_reason": reason, "stop_sequence": None}


def usage_to_chat(usage: JsonObject) -> JsonObject:
    """Anthropic's usage as chat's."""
    cached, created = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    prompt = count_in(usage.get("input_tokens")) + count_in(cached) + count_in(created)
    completion = count_in(usage.get("output_tokens"))
    result: JsonObject = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    for_an_hour = object_in(usage.get("cache_creation")).get("ephemeral_1h_input_tokens") or None
    details = {
        "cached_tokens": cached,
        "cache_creation_tokens": created,
        "cache_creation_1h_tokens": for_an_hour,
    }
    if known := {name: count_in(value) for name, value in details.items() if value is not None}:
        result["prompt_tokens_details"] = known
    thinking = object_in(usage.get("output_tokens_details")).get("thinking_tokens")
    if thinking is not None:
        result["completion_tokens_details"] = {"reasoning_tokens": count_in(thinking)}
    return result


def usage_from_chat(usage: object) -> JsonObject:
    """Chat's usage as Anthropic's; what is not known is 0, because its clients rely on numbers."""
    found = object_in(usage)
    details = object_in(found.get("prompt_tokens_details"))
    cached, created = cache_read(found), cache_written(details)
    prompt = count_in(found.get("prompt_tokens"))
    result: JsonObject = {
        "input_tokens": max(0, prompt - (cached or 0) - (created or 0)),
        "output_tokens": completion_tokens(found),
    }
    if cached is not None:
        result["cache_read_input_tokens"] = cached
    if created is not None:
        result["cache_creation_input_tokens"] = created
    thinking = object_in(found.get("completion_tokens_details")).get("reasoning_tokens")
    if thinking is not None:
        result["output_tokens_details"] = {"thinking_tokens": count_in(thinking)}
    return result
