"""Requests with functions, for models of OpenAI's that take them by responses alone.

Owns which those are and what they are asked; refuses to know where a model is. Invariant: what responses cannot say is
not changed, so that it is said, or refused, in chat.

From gpt-5.4 on OpenAI's chat refuses functions beside reasoning, which its newer models do unasked: "use /v1/responses
or set reasoning_effort to 'none'".
"""

from __future__ import annotations

import re

from metaclaw.chat.dialects import RESPONSES
from metaclaw.chat.fitting import without_defaults
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.responses.reasoning import without_reasoning
from metaclaw.errors import InvalidRequestError

_NEWER = re.compile(r"(?:^|[/:])gpt-(?:5\.(?:[4-9]|\d\d)|[6-9]|1\d)")

_LEAST_TOKENS = 16  # that responses take as a limit


def chat_refuses(body: JsonObject, model: str) -> bool:
    """Whether OpenAI's chat refuses a chat request for ``model`` for its functions."""
    return bool(body.get("tools")) and body.get("reasoning_effort") != "none" and bool(_NEWER.search(model))


def by_responses(chat: JsonObject) -> JsonObject | None:
    """A chat request with functions as one of responses; ``None`` for one without, and for what they cannot say."""
    if not chat.get("tools"):
        return None
    try:
        request = without_defaults(without_reasoning(RESPONSES.from_chat(chat)))
    except InvalidRequestError:
        return None
    limit = request.get("max_output_tokens")
    return None if isinstance(limit, int) and limit < _LEAST_TOKENS else request
