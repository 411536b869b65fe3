"""What of a request a model refuses though nothing that is said depends on it.

Owns which models refuse which of it, as far as they have said so; refuses to know how else they are asked. Invariant:
each is told to a model until it has refused that one, and what a client says in the model's own dialect is never left
out: at most it is said under another name that means the same.

Claude Code and Codex send an effort with each request, whatever the model: Ollama's and Groq's that do not think answer
each with a 400, others know fewer efforts (Gemini's no ``xhigh``). And thinking in a history, which most models of chat
take or want, is an unknown key to Groq's and Mistral's, so that each session ended at its second turn.

OpenClaw, Codex and others give their instructions the role ``developer``, which is OpenAI's: DeepSeek, Moonshot,
DashScope, Mistral, DeepInfra and most chat templates of models that people run themselves refuse each such request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from metaclaw.chat.dialects import CHAT
from metaclaw.chat.fitting import without_others_thinking
from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.chat.reading import as_object, as_text, objects_in, without
from metaclaw.errors import UpstreamError
from metaclaw.upstreams.pool import Outbound

_MAX_REFUSED = 1024  # models
_OF_A_PARAMETER = (400, 422)
_DEVELOPERS = "developer"
_SAID_IN = ("messages", "input")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unwelcome:
    """What may be left out: which of it a request has (``None`` where none), how a refusal names it, and a request
    without it. ``is_renamed``: nothing is lost by that, so it is done to what clients say in the model's own dialect
    as well."""

    told: Callable[[JsonObject], str | None]
    named: re.Pattern[str]
    left_out: Callable[[JsonObject], JsonObject]
    is_renamed: bool = False


def _effort(body: JsonObject) -> str | None:
    if not ("reasoning_effort" in body or "reasoning" in body):
        return None
    return as_text(body.get("reasoning_effort")) or as_text(as_object(body.get("reasoning")).get("effort"))


def _thinking(body: JsonObject) -> str | None:
    return "" if any("reasoning_content" in message for message in objects_in(body.get("messages"))) else None


def _developer(body: JsonObject) -> str | None:
    said = (one for place in _SAID_IN for one in objects_in(body.get(place)))
    return "" if any(one.get("role") == _DEVELOPERS for one in said) else None


def _by_the_system(body: JsonObject) -> JsonObject:
    said = {place: cast("list[object]", body[place]) for place in _SAID_IN if isinstance(body.get(place), list)}
    return {**body, **{place: [_renamed(one) for one in messages] for place, messages in said.items()}}


def _renamed(message: object) -> object:
    said = object_or_none(message)
    return message if said is None or said.get("role") != _DEVELOPERS else {**said, "role": "system"}


_EFFORT = _Unwelcome(
    told=_effort,
    # OpenAI's and Groq's, xAI's, Ollama's.
    named=re.compile(r"reasoning[_. ]?effort|not support thinking|(?:reasoning|think) value", re.IGNORECASE),
    left_out=lambda body: without(body, "reasoning_effort", "reasoning"),
)
_THINKING = _Unwelcome(
    told=_thinking,
    # Groq's and Mistral's; DeepSeek's says that it must be passed back.
    named=re.compile(r"reasoning_content.{0,80}(?:unsupported|not (?:supported|permitted))", re.IGNORECASE | re.DOTALL),
    left_out=without_others_thinking,
)
_ROLE = _Unwelcome(
    told=_developer,
    # They name it, or the roles that there are, or only that one is unknown (Moonshot's, templates'); or say nothing.
    named=re.compile(r"developer|\brole\b|ROLE_|'system'|^None $", re.IGNORECASE),
    left_out=_by_the_system,
    is_renamed=True,
)
_ALL = (_EFFORT, _THINKING, _ROLE)


class Unwelcome:
    """Used on the event loop alone. Models go by the name of their upstream and their own."""

    def __init__(self) -> None:
        # By model, places in ``_ALL`` with what was told: who knows no ``xhigh`` may well know a ``high``.
        self._refused: dict[tuple[str, str], set[tuple[int, str]]] = {}

    def fitted(self, body: JsonObject, upstream: str, model: str, *, is_own: bool = False) -> JsonObject:
        """A request without what the model refuses, itself if there is none; ``is_own``: in the model's own dialect."""
        for place, told in self._refused.get((upstream, model), ()):
            one = _ALL[place]
            if (one.is_renamed or not is_own) and one.told(body) == told:
                body = one.left_out(body)
        return body

    def is_refused(self, error: UpstreamError, asked: Outbound, upstream: str, model: str, *, dialect: str) -> bool:
        """Whether a client's request that was refused may be sent again without a part of it; that is remembered."""
        if error.status not in _OF_A_PARAMETER:
            return False
        is_own = dialect in (asked.dialect, CHAT.name)
        named = f"{error.detail.get('param')} {error.said}"
        for place, one in enumerate(_ALL):
            if is_own and not one.is_renamed:
                continue
            if one.named.search(named) and (told := one.told(json.loads(asked.body))) is not None:
                if len(self._refused) >= _MAX_REFUSED:
                    self._refused.clear()
                self._refused.setdefault((upstream, model), set()).add((place, told))
                return True
        return False
