"""Thinking told from what is meant to be read.

Owns the splitting of an answer's text at its think tags; refuses to know tokens and models. Invariant: however the
text is cut into pieces, the same thinking and the same visible text come out; a tag counts only before anything else.

White space next to the tags is layout and belongs to neither side. An answer that ends while it thinks is all thinking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OPENS, CLOSES = "<think>", "</think>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is certain by now."""

    thinking: str = ""
    text: str = ""


class ThinkSplitter:
    """Feed it an answer's text as it comes. ``is_inside``: the prompt has opened the thinking already."""

    def __init__(self, *, opens: str = OPENS, closes: str = CLOSES, is_inside: bool = False) -> None:
        self._opens = opens
        self._closes = closes
        self._state: Literal["before", "inside", "after"] = "inside" if is_inside else "before"
        self._skips_space = is_inside
        self._held = ""
        self.num_taken = 0  # characters that are settled, the tags included
        self.text_start = 0  # where, in all characters, the visible text begins
        self.num_tags = 0

    def push(self, text: str) -> Split:
        """Take more text."""
        self._held += text
        if self._state == "before":
            self._look_for_opening()
        thinking = self._inside() if self._state == "inside" else ""
        return Split(thinking=thinking, text=self._after() if self._state == "after" else "")

    def finish(self) -> Split:
        """The end: what might have become a tag did not."""
        held = self._take(len(self._held))
        if self._state == "before":
            return Split(text=held)
        if self._state == "after":
            return Split(text=held)
        self.text_start = self.num_taken  # all of it was thinking
        return Split(thinking=held.rstrip())

    def _look_for_opening(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(self._opens):
            self._take(len(self._held) - len(begun) + len(self._opens))
            self._state, self._skips_space = "inside", True
            self.num_tags += 1
        elif not self._opens.startswith(begun):
            self._state = "after"

    def _inside(self) -> str:
        self._skip_space()
        end = self._held.find(self._closes)
        if end >= 0:
            thinking = self._take(end).rstrip()
            self._take(len(self._closes))
            self._state, self._skips_space = "after", True
            self.num_tags += 1
            return thinking
        num_open = partial_end(self._held, self._closes)
        certain = self._held[: len(self._held) - num_open].rstrip()
        return self._take(len(certain))

    def _after(self) -> str:
        if self._skips_space:
            self._skip_space()
            self.text_start = self.num_taken
        return self._take(len(self._held))

    def _skip_space(self) -> None:
        if self._skips_space and self._held:
            self._take(len(self._held) - len(self._held.lstrip()))
            self._skips_space = not self._held

    def _take(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        self.num_taken += count
        return taken


def partial_end(text: str, tag: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``tag``, but not all of it."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if tag.startswith(text[-length:]):
            return length
    return 0
