"""When a generation ends: stop tokens, and stop strings in the decoded text.

Owns the watching of one sample's tokens; refuses to know batches and models. Invariant: a stop string is seen with
the very token that completes it, also where it spans tokens or the text ends inside a character; the cost per
token does not grow with the length of the answer.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

Decode = Callable[[Sequence[int]], str]

_UNFINISHED = "\ufffd"  # what a decoder shows for bytes that are not a whole character yet
_LONGEST_CHARACTER = 8  # tokens after which unfinished bytes are taken as they are: no character has more bytes


class StopWatch:
    """Watches the tokens of one sample. ``decode`` is needed only with stop strings."""

    def __init__(self, tokens: Collection[int], strings: Sequence[str] = (), decode: Decode | None = None) -> None:
        if strings and decode is None:
            raise ValueError("stop strings need a decoder")
        self._tokens = frozenset(tokens)
        self._strings = tuple(strings)
        self._decode = decode
        self._context: list[int] = []  # decoded before, kept because some decoders treat a first token differently
        self._pending: list[int] = []  # not yet whole characters
        self._tail = ""  # the end of the text so far that may begin a stop string
        self._tail_length = max((len(text) for text in strings), default=1) - 1

    def is_last(self, token: int) -> bool:
        """Take the next token; true when the answer ends with it."""
        if token in self._tokens:
            return True
        return bool(self._strings) and self._completes_a_string(token)

    def _completes_a_string(self, token: int) -> bool:
        assert self._decode is not None
        self._pending.append(token)
        known = self._decode(self._context)
        fresh = self._decode(self._context + self._pending)[len(known) :]
        whole = fresh.rstrip(_UNFINISHED)
        text = self._tail + whole
        if any(stop in text for stop in self._strings):
            return True
        if whole == fresh or len(self._pending) >= _LONGEST_CHARACTER:
            self._tail = (self._tail + fresh)[-self._tail_length :] if self._tail_length else ""
            self._context, self._pending = self._pending, []
        return False
