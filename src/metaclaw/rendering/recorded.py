"""Recorded tokens of an answer, checked against the message that a client sends back with them.

Owns whether tokens may stand for a message; refuses to know templates. Invariant: tokens stand for a message only if
our own reading of them says what the message says and calls what it calls, and if no control token is among them
but those that delimit thinking and calls: nobody writes control tokens into a prompt by calling them recorded.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from metaclaw.chat.messages import JsonObject, answer_identity, canonical_json
from metaclaw.rendering.answer_format import AnswerFormat
from metaclaw.rendering.answer_reader import AnswerReader, Parts
from metaclaw.rendering.calls import Tools
from metaclaw.rendering.tokenizer import Tokenizer

_REMEMBERED = 2048  # a session sends its whole history with every turn


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """Tokens that may stand for a message, without the one that ended them.

    The first ``num_think`` of them are thinking; ``None`` when a token holds both thinking and text.
    """

    tokens: tuple[int, ...]
    num_think: int | None
    opens_itself: bool  # whether the thinking's opening tag is among the tokens, or was the prompt's


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    identity: bytes
    thinking: str
    answer: RecordedAnswer


class RecordedAnswers:
    """Reads and checks recorded answers of one tokenizer, and remembers what it has read."""

    def __init__(self, tokenizer: Tokenizer, answer_format: AnswerFormat, digest: str) -> None:
        self._tokenizer = tokenizer
        self._format = answer_format
        self._digest = digest
        self._vocabulary = frozenset(tokenizer.get_vocab().values())
        self._control = frozenset(number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
        self._read = lru_cache(maxsize=_REMEMBERED)(self._reading)

    def standing_for(self, message: Mapping[str, Any], shaped: JsonObject, tools: Tools) -> RecordedAnswer | None:
        """The recorded answer in ``message``, ``None`` when it has none that may stand for it.

        ``shaped`` is the message as templates see it.
        """
        tokens = recorded_tokens(message.get("token_ids"))
        if tokens is None or message.get("renderer") not in (None, self._digest):
            return None
        if not self._vocabulary.issuperset(tokens):
            return None
        called = [str(call["function"]["name"]) for call in shaped.get("tool_calls") or ()]
        schemas = canonical_json({name: tools.get(name, {}) for name in called})
        wanted, thinking = answer_identity(shaped), str(shaped.get("reasoning_content") or "").strip()
        # The prompt may have opened the thinking. Tokens that can be read without that assumption are read so.
        for is_inside in (False, True) if self._format.think else (False,):
            reading = self._read(tokens, schemas, is_inside)
            if reading is not None and reading.identity == wanted and thinking in ("", reading.thinking):
                return reading.answer
        return None

    def _reading(self, tokens: tuple[int, ...], schemas: str, is_inside: bool) -> _Reading | None:
        marks = self._format.marks
        if tokens and tokens[-1] in self._control and tokens[-1] not in marks:
            tokens = tokens[:-1]  # what ended the answer; the template writes its own
        reader = AnswerReader(self._tokenizer, self._format, tools=json.loads(schemas), starts_thinking=is_inside)
        parts = _joined(reader.push(tokens), reader.finish())
        num_control = sum(token in self._control or token in marks for token in tokens)
        if num_control != reader.num_marks:
            return None
        calls = [{"function": {"name": call.name, "arguments": call.arguments}} for call in parts.calls]
        num_think = _num_think(reader, len(tokens))
        opens_itself = not is_inside
        return _Reading(
            identity=answer_identity({"content": parts.text, "tool_calls": calls}),
            thinking=parts.thinking.strip(),
            answer=RecordedAnswer(tokens=tokens, num_think=num_think, opens_itself=opens_itself),
        )


def recorded_tokens(value: object) -> tuple[int, ...] | None:
    """Tokens as a list of whole numbers or as base64 of little-endian int32; ``None`` for anything else."""
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return None
        return tuple(np.frombuffer(data, "<i4").tolist()) if len(data) % 4 == 0 else None
    if not isinstance(value, list):
        return None
    numbers = cast(list[object], value)
    if not all(type(number) is int for number in numbers):
        return None
    return tuple(cast(list[int], numbers))


def _joined(first: Parts, last: Parts) -> Parts:
    return Parts(
        thinking=first.thinking + last.thinking, text=first.text + last.text, calls=(*first.calls, *last.calls)
    )


def _num_think(reader: AnswerReader, num_tokens: int) -> int | None:
    """How many tokens come before the visible text, ``None`` when it begins inside one."""
    start = reader.text_start
    if start == 0:
        return 0
    first = next((place for place in range(num_tokens) if reader.starts_at(place) >= start), num_tokens)
    return first if reader.starts_at(first) == start else None


def with_tokens(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """The positions of the assistant's messages that come with recorded tokens."""
    return [
        index
        for index, message in enumerate(messages)
        if message.get("role") == "assistant" and message.get("token_ids") is not None
    ]
