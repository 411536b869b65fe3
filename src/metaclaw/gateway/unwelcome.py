"""What of a translated request a model refuses though nothing that is said depends on it.

Owns which models refuse which of it, as far as they have said so; refuses to know how else they are asked. Invariant: a
model is told all of it until it has refused that, and what a client says in the model's own dialect is never left out.

Claude Code and Codex send an effort with each request, whatever the model: Ollama's and Groq's that do not think answer
each with a 400, others know fewer efforts (Gemini's no ``xhigh``). And thinking in a history, which most models of chat
take or want, is an unknown key to Groq's and Mistral's, so that each session ended at its second turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from metaclaw.chat.dialects import CHAT
from metaclaw.chat.fitting import without_others_thinking
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import without
from metaclaw.errors import UpstreamError
from metaclaw.upstreams.pool import Outbound

_MAX_REFUSED = 1024
_OF_A_PARAMETER = (400, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unwelcome:
    """What may be left out: how it is seen in a request, how a refusal names it, and a request without it."""

    marks: tuple[bytes, ...]
    named: re.Pattern[str]
    left_out: Callable[[JsonObject], JsonObject]


_EFFORT = _Unwelcome(
    marks=(b'"reasoning_effort":', b'"reasoning":{'),
    # OpenAI's and Groq's, xAI's, Ollama's.
    named=re.compile(r"reasoning[_. ]?effort|not support thinking|(?:reasoning|think) value", re.IGNORECASE),
    left_out=lambda body: without(body, "reasoning_effort", "reasoning"),
)
_THINKING = _Unwelcome(
    marks=(b'"reasoning_content":',),
    # Groq's and Mistral's; DeepSeek's says that it must be passed back.
    named=re.compile(r"reasoning_content.{0,80}(?:unsupported|not (?:supported|permitted))", re.IGNORECASE | re.DOTALL),
    left_out=without_others_thinking,
)
_ALL = (_EFFORT, _THINKING)
NUM_KINDS = len(_ALL)


class Unwelcome:
    """Used on the event loop alone. Models go by the name of their upstream and their own."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], set[int]] = {}  # by model, places in ``_ALL``

    def fitted(self, body: JsonObject, upstream: str, model: str) -> JsonObject:
        """A translated request without what the model refuses."""
        for place in self._refused.get((upstream, model), ()):
            body = _ALL[place].left_out(body)
        return body

    def is_refused(self, error: UpstreamError, asked: Outbound, upstream: str, model: str, *, dialect: str) -> bool:
        """Whether a client's request that was refused may be sent again without a part of it; that is remembered."""
        if dialect in (asked.dialect, CHAT.name) or error.status not in _OF_A_PARAMETER:
            return False
        named = f"{error.detail.get('param')} {error.said}"
        for place, one in enumerate(_ALL):
            if one.named.search(named) and any(mark in asked.body for mark in one.marks):
                if len(self._refused) >= _MAX_REFUSED:
                    self._refused.clear()
                self._refused.setdefault((upstream, model), set()).add(place)
                return True
        return False
