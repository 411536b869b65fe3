"""The parameters of a request beside its conversation and tools, both ways.

Owns which have an equal, which are hints, and which can only be refused; refuses to know messages. Invariant: a
parameter that changes what the model is told or how it answers is translated or named in an ``InvalidRequestError``.
A hint, which changes only cost, speed or caching, is left out, and so is a value that says what would be without it.

Decided here: a temperature above 1, which Anthropic does not have, is refused rather than lowered. ``thinking`` of
``enabled`` and its budget become a reasoning effort; ``disabled`` and ``adaptive`` become none, because many chat
models refuse the parameter. An effort makes Anthropic's thinking ``adaptive``. ``max_tokens``, which Anthropic demands,
is ``DEFAULT_MAX_TOKENS`` for a chat client that sets none.
"""

from __future__ import annotations

import hashlib
from typing import Any

from metaclaw.chat.anthropic import blocks, sayable
from metaclaw.chat.anthropic.fields import count_in, is_object, listed, object_in, text_in, unsaid
from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError

DEFAULT_MAX_TOKENS = 8192

_ELSEWHERE = ("messages", "system", "tools", "tool_choice", "parallel_tool_calls")
_SAME = ("model", "stream", "temperature", "top_p", "top_k")

_ANTHROPIC_SAID = (*_ELSEWHERE, *_SAME, "max_tokens", "stop_sequences", "metadata", "thinking", "output_config")
_ANTHROPIC_HINTS = ("cache_control", "service_tier", "speed", "diagnostics", "context_management", "betas")

_CHAT_SAID = (
    *_ELSEWHERE, *_SAME, "max_tokens", "max_completion_tokens", "stop", "user", "reasoning_effort", "response_format",
)  # fmt: skip
_CHAT_HINTS = (
    "metadata", "store", "service_tier", "stream_options", "prediction", "safety_identifier",
    "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
)  # fmt: skip
_CHAT_NEUTRAL: dict[str, Any] = {
    "n": 1, "logprobs": False, "top_logprobs": 0, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {},
    "modalities": ["text"], "verbosity": "medium", "functions": [], "min_p": 0, "repetition_penalty": 1,
}  # fmt: skip

_SAMPLED_BY = ("temperature", "top_p")  # 1 is what there is without; newer models refuse both together, or any
_LOW_BUDGET, _MEDIUM_BUDGET = 4096, 16384  # tokens of thinking
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_THINKING = (None, "enabled", "adaptive", "between_tools", "disabled")
_MAX_USER = 64  # characters that OpenAI takes


def options_to_chat(body: JsonObject) -> JsonObject:
    """The parameters of an Anthropic request as those of a chat request."""
    for name, value in body.items():
        if value is not None and name not in _ANTHROPIC_SAID and name not in _ANTHROPIC_HINTS:
            raise unsaid(name, "this parameter", sayable.TO)
    result = {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("stream"):
        result["stream_options"] = {"include_usage": True}
    if body.get("max_tokens") is not None:
        if not count_in(body["max_tokens"]):
            raise unsaid("max_tokens", f"an answer of {body['max_tokens']!r:.80} tokens", sayable.TO)
        result["max_tokens"] = body["max_tokens"]
    if stops := body.get("stop_sequences"):
        result["stop"] = stops
    if user := text_in(object_in(body.get("metadata")).get("user_id")):
        result["user"] = user if len(user) <= _MAX_USER else hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()
    return result | _effort_to_chat(body)


def options_from_chat(body: JsonObject) -> JsonObject:
    """The parameters of a chat request as those of an Anthropic request."""
    for name, value in body.items():
        if value is None or name in _CHAT_SAID or name in _CHAT_HINTS:
            continue
        if name not in _CHAT_NEUTRAL or value != _CHAT_NEUTRAL[name]:
            raise unsaid(name, f"{value!r:.80}", blocks.TO)
    said = {name: value for name, value in body.items() if name not in _SAMPLED_BY or value != 1}
    result = {name: said[name] for name in _SAME if said.get(name) is not None}
    temperature: object = body.get("temperature")
    if isinstance(temperature, int | float) and temperature > 1:
        raise unsaid("temperature", f"{temperature} (the most is 1)", blocks.TO)
    result["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
    if stops := _stops(body.get("stop")):
        result["stop_sequences"] = stops
    if user := text_in(body.get("user")) or text_in(body.get("safety_identifier")):
        result["metadata"] = {"user_id": user}
    return result | _effort_from_chat(body)


def _effort_to_chat(body: JsonObject) -> JsonObject:
    config, thinking = object_in(body.get("output_config")), object_in(body.get("thinking"))
    for name, value in config.items():
        if name not in ("effort", "format", "task_budget") and value is not None:
            raise unsaid(f"output_config.{name}", "this parameter", sayable.TO)
    result: JsonObject = {}
    if thinking.get("type") == "disabled":
        pass  # an effort beside it is about words; a chat model would take it for the wish to think
    elif effort := text_in(config.get("effort")):
        result["reasoning_effort"] = effort
    elif thinking.get("type") not in _THINKING:
        raise unsaid("thinking", f"thinking of type {thinking.get('type')!r:.80}", sayable.TO)
    elif thinking.get("type") == "enabled" and (budget := count_in(thinking.get("budget_tokens"))):
        result["reasoning_effort"] = (
            "low" if budget <= _LOW_BUDGET else "medium" if budget <= _MEDIUM_BUDGET else "high"
        )
    if answer_format := object_in(config.get("format")):
        if answer_format.get("type") != "json_schema":
            raise unsaid("output_config.format", f"{answer_format.get('type')!r:.80}", sayable.TO)
        schema = {"name": "answer", "schema": answer_format.get("schema"), "strict": True}
        result["response_format"] = {"type": "json_schema", "json_schema": schema}
    return result


def _effort_from_chat(body: JsonObject) -> JsonObject:
    result: JsonObject = {}
    config: JsonObject = {}
    effort = body.get("reasoning_effort")
    if effort == "none":
        result["thinking"] = {"type": "disabled"}
    elif effort is not None:
        if effort not in _EFFORTS:
            raise unsaid("reasoning_effort", f"{effort!r:.80}", blocks.TO)
        result["thinking"] = {"type": "adaptive"}
        config["effort"] = _EFFORTS[effort]
    answer_format = object_in(body.get("response_format"))
    kind = answer_format.get("type", "text")
    if kind == "json_schema":
        config["format"] = {"type": kind, "schema": _described(object_in(answer_format.get("json_schema")))}
    elif kind != "text":
        raise unsaid("response_format", f"a format of type {kind!r:.80} (json_schema can)", blocks.TO)
    return {**result, "output_config": config} if config else result


def _described(form: JsonObject) -> object:
    """The schema of a form, with what is said of the form."""
    schema: object = form.get("schema")
    description = text_in(form.get("description"))
    return {"description": description, **object_in(schema)} if is_object(schema) and description else schema


def _stops(stop: object) -> list[str]:
    texts: list[str] = []
    for text in [stop] if isinstance(stop, str) else listed(stop):
        if not isinstance(text, str):
            raise InvalidRequestError(f"'stop' must be a string or a list of strings, not {stop!r:.80}", param="stop")
        if not text.strip():
            raise unsaid("stop", f"{text!r} (it must hold more than white space)", blocks.TO)
        texts.append(text)
    return texts
