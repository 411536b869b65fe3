"""Efforts of other dialects where Claude would not think, or not so: models before 4.6, and a choice of tools.

Owns which models know only budgets of tokens, or do not think; refuses to know who asks. Invariant: what a client of
another dialect wished is not a reason for such a model to refuse the request.

From 4.6 on Claude decides how much to think (``adaptive``, with an effort); models before that answer it with a 400,
and take a budget, which must be less than ``max_tokens``. A tool loop that began without thinking goes on without it:
with a budget, the last answer would have to begin with a thinking block. And none of them thinks where it must call a
tool, which OpenAI's models do (https://platform.claude.com/docs/en/build-with-claude/extended-thinking).
"""

from __future__ import annotations

import re

from metaclaw.chat.anthropic.fields import count_in, object_in, text_in
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import objects_in, without

_ADAPTIVE_SINCE, _THINKS_SINCE = (4, 6), (3, 7)
# claude-sonnet-4-5-20250929, anthropic/claude-opus-4.1, claude-opus-4-20250514; claude-3-7-sonnet-20250219
_NAME = re.compile(
    r"claude-(?:(?:opus|sonnet|haiku)-(\d)(?:[-.](\d{1,2}))?(?!\d)|(\d)(?:[-.](\d))?-(?:opus|sonnet|haiku))"
)
_BUDGETS = {"low": 2048, "medium": 8192}  # tokens; of the same efforts when they are read from a budget
_MOST = 24_576
_LEAST = 1024  # that Anthropic takes
_FORCED = ("any", "tool")
_THOUGHTS = ("thinking", "redacted_thinking")


def fitted_for_claude(body: JsonObject, model: str) -> JsonObject:
    """A request that was made of another dialect's, with its effort as ``model`` knows it."""
    fitted = _with_its_effort(body, model)
    must_call = object_in(fitted.get("tool_choice")).get("type") in _FORCED
    thinks = object_in(fitted.get("thinking")).get("type") != "disabled"
    return without(fitted, "thinking") if must_call and thinks else fitted


def _with_its_effort(body: JsonObject, model: str) -> JsonObject:
    generation = _generation(model)
    if generation is None or generation >= _ADAPTIVE_SINCE or object_in(body.get("thinking")).get("type") != "adaptive":
        return body
    config = object_in(body.get("output_config"))
    fitted = without(body, "thinking", "output_config")
    if rest := without(config, "effort"):
        fitted["output_config"] = rest
    budget = min(_BUDGETS.get(text_in(config.get("effort")) or "", _MOST), count_in(body["max_tokens"]) // 2)
    if generation >= _THINKS_SINCE and budget >= _LEAST and not _goes_on_without(body["messages"]):
        fitted["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return fitted


def _generation(model: str) -> tuple[int, int] | None:
    found = _NAME.search(model)
    if found is None:
        return None  # newer ones have other names
    major, minor = (found[1], found[2]) if found[1] else (found[3], found[4])
    return int(major), int(minor or 0)


def _goes_on_without(messages: list[JsonObject]) -> bool:
    """Whether the last answer called tools without having thought."""
    if not any(part.get("type") == "tool_result" for part in objects_in(messages[-1]["content"])):
        return False
    answered = [message for message in messages if message["role"] == "assistant"]
    parts = objects_in(answered[-1]["content"]) if answered else []
    return not parts or parts[0].get("type") not in _THOUGHTS
