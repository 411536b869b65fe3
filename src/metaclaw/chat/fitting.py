"""A chat request, made to fit models that are particular about what they take.

Owns what our translations and other models' answers say beyond OpenAI's own chat API, and what Gemini and Claude want
beside it; refuses to know where a model is. Invariant: nothing that the conversation says is lost but thinking, which
OpenAI's models neither take back nor need.
"""

from __future__ import annotations

import re
from typing import cast

from metaclaw.chat.anthropic.caching import with_cache_marks_in_chat
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text, objects_in, without

_NOT_OPENAIS = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
_SAMPLED_BY = ("temperature", "top_p")
_NOT_OF_ITS_CALLS = "extra_content"
_MARKS = (b'"reasoning', b'"thinking_blocks"', b'"extra_content"')


def without_others_thinking(body: JsonObject, raw: bytes | None = None) -> JsonObject:
    """``body`` without what other models added to their answers; itself if there is none. ``raw`` is its text.

    OpenAI refuses a history with it (400), which a client has that was answered by another model before.
    """
    if raw is not None and not any(mark in raw for mark in _MARKS):
        return body
    messages = objects_in(body.get("messages"))
    plain = [_openais(message) for message in messages]
    return body if plain == messages else {**body, "messages": plain}


def without_defaults(body: JsonObject) -> JsonObject:
    """``body`` without what OpenAI samples by anyhow: models of its that reason refuse to be told."""
    return {name: value for name, value in body.items() if name not in _SAMPLED_BY or value != 1}


def strictly_openai(body: JsonObject) -> JsonObject:
    """``body`` without thinking in the history, and with the length limit under its name of today.

    OpenAI's models that reason refuse ``max_tokens`` (its API reference, chat completions).
    """
    body = without_defaults(body)
    messages = cast("list[JsonObject]", body.get("messages") or [])
    changed = {**body, "messages": [_openais(message) for message in messages]}
    if "max_tokens" in changed:
        limit = changed.pop("max_tokens")
        changed.setdefault("max_completion_tokens", limit)
    return changed


def _openais(message: JsonObject) -> JsonObject:
    kept = without(message, *_NOT_OPENAIS)
    if calls := objects_in(kept.get("tool_calls")):
        kept["tool_calls"] = [without(call, _NOT_OF_ITS_CALLS) for call in calls]
    return kept


# What only OpenAI knows, and what changes no word of an answer. Gemini, Groq and Cerebras refuse a request with it
# (400); Codex sends a key of its cache each time.
_HINTS_FOR_OPENAI = ("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier")
_CLAUDE_BY_A_ROUTER = "anthropic/"  # so OpenRouter and its kin name them
_GEMINI = re.compile(r"(?:^|/)gemini-")
# From the third generation on a call in the history must be signed (https://ai.google.dev/gemini-api/docs/
# thought-signatures), which what another model called is not, nor what was called before the gateway was started. For
# those Google has a word to put there.
_SIGNS_CALLS = re.compile(r"(?:^|/)gemini-(?![12][.-])")
_NOT_SIGNED: JsonObject = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def fitted_for_others(body: JsonObject, model: str) -> JsonObject:
    """A translated ``body`` for a ``model`` that is none of OpenAI's."""
    plain = without(body, *_HINTS_FOR_OPENAI)
    if model.startswith(_CLAUDE_BY_A_ROUTER):
        return with_cache_marks_in_chat(plain)
    if not _GEMINI.search(model):
        return plain
    messages = _with_names_of_tools(objects_in(plain.get("messages")))
    return {**plain, "messages": [_signed(message) for message in messages] if _SIGNS_CALLS.search(model) else messages}


def _with_names_of_tools(messages: list[JsonObject]) -> list[JsonObject]:
    """Gemini wants to read at a result which tool gave it ("Name cannot be empty")."""
    names: JsonObject = {}
    named: list[JsonObject] = []
    for message in messages:
        for call in objects_in(message.get("tool_calls")):
            names[as_text(call.get("id"))] = as_object(call.get("function")).get("name")
        name = names.get(as_text(message.get("tool_call_id"))) if message.get("role") == "tool" else None
        named.append({"name": name, **message} if name else message)
    return named


def _signed(message: JsonObject) -> JsonObject:
    calls = objects_in(message.get("tool_calls"))
    if not calls or any("google" in as_object(call.get("extra_content")) for call in calls):
        return message
    return {**message, "tool_calls": [{**calls[0], "extra_content": _NOT_SIGNED}, *calls[1:]]}
