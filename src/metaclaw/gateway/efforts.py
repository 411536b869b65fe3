"""Models that refuse to be told how much to think.

Owns which those are, as far as they have said so; refuses to know how else they are asked. Invariant: a model is told
what its client wished until it has refused that, and what a client says in the model's own dialect is never left out.

Claude Code and Codex send an effort with each request, whatever the model: Ollama's and Groq's that do not think answer
each with a 400, others know fewer efforts (Gemini's no ``xhigh``). An effort changes what an answer costs, no word of
the conversation.
"""

from __future__ import annotations

import re

from metaclaw.chat.dialects import CHAT
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import without
from metaclaw.errors import UpstreamError
from metaclaw.upstreams.pool import Outbound

_WISHES = (b'"reasoning_effort":', b'"reasoning":{')
_MAX_MODELS = 1024
_OF_A_PARAMETER = (400, 422)
# OpenAI's and Groq's, xAI's, Ollama's: what they say of the parameter, and nothing of thinking in a history.
_NAMED = re.compile(r"reasoning[_. ]?effort|not support thinking|(?:reasoning|think) value", re.IGNORECASE)


class Efforts:
    """Used on the event loop alone. Models go by the name of their upstream and their own."""

    def __init__(self) -> None:
        self._refused: set[tuple[str, str]] = set()

    def fitted(self, body: JsonObject, upstream: str, model: str) -> JsonObject:
        """A translated request, without an effort where the model refuses one."""
        return without(body, "reasoning_effort", "reasoning") if (upstream, model) in self._refused else body

    def is_refused(self, error: UpstreamError, asked: Outbound, upstream: str, model: str, *, dialect: str) -> bool:
        """Whether a client's request that was refused may be sent again without the effort; it is remembered."""
        if dialect in (asked.dialect, CHAT.name) or error.status not in _OF_A_PARAMETER:
            return False
        named = f"{error.detail.get('param')} {error.said}"
        if not any(wish in asked.body for wish in _WISHES) or not _NAMED.search(named):
            return False
        if len(self._refused) >= _MAX_MODELS:
            self._refused.clear()
        self._refused.add((upstream, model))
        return True
