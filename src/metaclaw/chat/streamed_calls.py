"""Tool calls as chat models stream them.

Owns which call a piece belongs to, its arguments, and when those are whole; refuses to know what calls become.
Invariant: nothing here raises, and pieces of two calls are never made one, as far as their server tells them apart.
"""

from __future__ import annotations

import json
import re

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text

_MARKS = re.compile(r'["\\{}\[\]]')


class CallNumbers:
    """Feed it the ``tool_calls`` of deltas in order; calls are numbered from 0 as they begin.

    OpenAI counts calls by ``index``. Others leave it out (Ollama), count all calls as 0 (Gemini), or make a new id for
    each piece (vLLM before 0.9): so a new id begins a call where there is no index, or with a name.
    """

    def __init__(self) -> None:
        self._known: list[tuple[object, str]] = []  # by number: index and id

    def __len__(self) -> int:
        return len(self._known)

    def of(self, delta: JsonObject) -> int:
        """Which call ``delta`` belongs to; the number of those before when it begins one."""
        index, uid = delta.get("index"), as_text(delta.get("id"))
        is_counted = isinstance(index, int)
        alike = [number for number, (known, _) in enumerate(self._known) if not is_counted or known == index]
        if uid:
            for number in reversed(alike):
                if self._known[number][1] == uid:
                    return number
        if not alike or (uid and self._begins(delta, self._known[alike[-1]][1], is_counted=is_counted)):
            self._known.append((index, uid))
            return len(self._known) - 1
        if uid and not self._known[alike[-1]][1]:
            self._known[alike[-1]] = (index, uid)
        return alike[-1]

    def in_order(self) -> list[int]:
        """The numbers in the order of their indexes, as clients put them; of one index as they began."""
        return sorted(range(len(self)), key=self._place)

    def _place(self, number: int) -> int:
        index, _ = self._known[number]
        return index if isinstance(index, int) else number

    def _begins(self, delta: JsonObject, known_id: str, *, is_counted: bool) -> bool:
        return not is_counted or bool(known_id and as_object(delta.get("function")).get("name"))


def arguments_in(function: JsonObject) -> str:
    """The arguments of a call, or a piece of them. Some servers write the object itself where its text should be."""
    given = function.get("arguments")
    return json.dumps(given, ensure_ascii=False) if isinstance(given, dict | list) else as_text(given)


class JsonEnd:
    """Feed it a JSON object in pieces; it knows when the object is whole."""

    def __init__(self) -> None:
        self.is_reached = False
        self._depth = 0
        self._in_string = False
        self._num_read = 0
        self._escaped = -1  # the place of a character behind a backslash

    def feed(self, text: str) -> None:
        for found in _MARKS.finditer(text):
            self._read(found[0], self._num_read + found.start())
        self._num_read += len(text)

    def _read(self, mark: str, place: int) -> None:
        if place == self._escaped:
            return
        if mark == '"':
            self._in_string = not self._in_string
        elif self._in_string:
            if mark == "\\":
                self._escaped = place + 1
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]":
            self._depth -= 1
            self.is_reached = self.is_reached or self._depth == 0
