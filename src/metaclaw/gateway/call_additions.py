"""What a model adds to its calls and wants back with them, kept for clients whose dialect has no place for it.

Owns remembering it and putting it back; refuses to know what it means and who is asked. Invariant: it goes back to the
upstream that it came from alone, with the very call that it came with, and never to a client.

Gemini signs its calls (``extra_content``) and refuses a history in which a signature is missing; OpenRouter has its
thinking in the message (``reasoning_details``). A client that speaks chat keeps both itself. DeepSeek and Kimi refuse
a history whose calls lack what was thought before them (``reasoning_content``), which some clients leave out: Codex
sends none back unless it knows that a model thinks. After a restart they are gone: ``chat.fitting`` has what Gemini
takes instead.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence

from metaclaw.chat.messages import JsonObject, answer_identity
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.reading import as_text, objects_in

_OF_A_CALL = frozenset(("id", "index", "type", "function"))
_OF_A_MESSAGE = ("reasoning_details", "reasoning_content")
_MAX_CALLS = 8192
_MAX_BYTES = 16 * 1024 * 1024
_NOT_KEPT = re.compile(r"[^A-Za-z0-9]")  # clients rewrite ids: of OpenClaw's ``call_1`` comes ``call1`` back

_Key = tuple[str, bytes]


class CallAdditions:
    """Used on the event loop alone."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, tuple[JsonObject, JsonObject, int]] = OrderedDict()
        self._num_bytes = 0

    def remember(self, upstream: str, answer: ChatAnswer) -> None:
        """Note what came with the calls of an answer."""
        message = answer.message or {}
        beside = {name: message[name] for name in _OF_A_MESSAGE if message.get(name)}
        for call in objects_in(message.get("tool_calls")):
            added = {name: value for name, value in call.items() if name not in _OF_A_CALL and value}
            if added or beside:
                self._add(_key(upstream, call), added, beside)

    def restored(self, upstream: str, messages: Sequence[JsonObject]) -> list[JsonObject]:
        """``messages``, a chat request's, with what came with their calls."""
        if not self._known:
            return list(messages)
        return [self._with_additions(upstream, message) for message in messages]

    def _with_additions(self, upstream: str, message: JsonObject) -> JsonObject:
        calls = objects_in(message.get("tool_calls"))
        found = [self._known.get(_key(upstream, call)) for call in calls]
        if not any(found):
            return message
        restored = [{**call, **one[0]} if one else call for call, one in zip(calls, found, strict=True)]
        beside = next(one[1] for one in found if one)
        return {**beside, **message, "tool_calls": restored}

    def _add(self, key: _Key, added: JsonObject, beside: JsonObject) -> None:
        size = len(json.dumps([added, beside]))
        _, _, before = self._known.pop(key, ({}, {}, 0))
        self._known[key] = (added, beside, size)
        self._num_bytes += size - before
        while len(self._known) > _MAX_CALLS or self._num_bytes > _MAX_BYTES:
            _, (_, _, gone) = self._known.popitem(last=False)
            self._num_bytes -= gone


def _key(upstream: str, call: JsonObject) -> _Key:
    return upstream, answer_identity({"content": _NOT_KEPT.sub("", as_text(call.get("id"))), "tool_calls": [call]})
