"""Tool calls told from text.

Owns where a call begins and ends in an answer's visible text; refuses to know tokens and how a call's body reads.
Invariant: however the text is cut into pieces, the same text and calls come out; a call is given out whole once it
is closed and understood, and whatever is not a call comes out as text, character by character as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metaclaw.chat.thinking import partial_end
from metaclaw.rendering.calls import CallFormat, ToolCall, Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is certain by now. Text before the calls stands before them, unless a call came out earlier."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


class CallSplitter:
    """Calls between two tags.

    ``only_at_line_start`` is for models whose tags are plain text: there a tag within a line is a quotation.
    """

    def __init__(
        self,
        calls: CallFormat,
        tools: Tools,
        *,
        only_at_line_start: bool,
        max_calls: int | None = None,
        in_letters: Callable[[str], str] = str,
    ) -> None:
        self._format = calls
        self._in_letters = in_letters
        self._tools = tools
        self._only_at_line_start = only_at_line_start
        self._max_calls = max_calls
        self._held = ""
        self._gap = ""  # white space before a call: layout if it becomes one
        self._last = "\n"  # the last character given out: what follows it may be a line's start
        self._is_inside = False
        self._num_taken = 0
        self._opened_at = 0
        self._follows_call = False
        self.ranges: list[tuple[int, int]] = []  # where calls stand, in characters
        self.num_tags = 0

    def push(self, text: str) -> Found:
        """Take more text."""
        self._held += text
        texts: list[str] = []
        calls: list[ToolCall] = []
        while self._step(texts, calls):
            pass
        return Found(text="".join(texts), calls=tuple(calls))

    def finish(self) -> Found:
        """The end: a call that was not closed is text; white space behind the last call is layout."""
        rest = self._gap + (self._format.opens if self._is_inside else "") + self._held
        is_layout = self._follows_call and not rest.strip()
        self._held, self._gap, self._is_inside = "", "", False
        return Found(text="" if is_layout else rest)

    def _step(self, texts: list[str], calls: list[ToolCall]) -> bool:
        """One tag further; ``False`` when more text is needed."""
        if self._is_inside:
            end = self._held.find(self._format.closes)
            if end < 0:
                return False
            body = self._take(end)
            self._take(len(self._format.closes))
            found = self._close(body)
            if found is None:
                texts.append(self._gap + self._format.opens + body + self._format.closes)
                self._last, self._follows_call = ">", False
            calls.extend(found or ())
            self._gap, self._is_inside = "", False
            return True
        start = self._opening()
        if start < 0:
            texts.append(self._give_out(len(self._held) - self._num_open()))
            return False
        texts.append(self._give_out(len(self._held[:start].rstrip())))
        self._gap = self._held[: len(self._held) - len(self._held.lstrip())]
        self._opened_at = self._num_taken + len(self._gap)
        self._take(len(self._gap) + len(self._format.opens))
        self._is_inside = True
        return True

    def _opening(self) -> int:
        start = self._held.find(self._format.opens)
        while start >= 0 and not self._may_open(start):
            start = self._held.find(self._format.opens, start + 1)
        return start

    def _may_open(self, start: int) -> bool:
        before = self._held[start - 1] if start else self._last
        return not self._only_at_line_start or before == "\n"

    def _num_open(self) -> int:
        """How many characters at the end may still become a tag, or be the layout before one."""
        certain = self._held[: len(self._held) - partial_end(self._held, self._format.opens)].rstrip()
        return len(self._held) - len(certain)

    def _close(self, body: str) -> tuple[ToolCall, ...] | None:
        if self._max_calls is not None and len(self.ranges) >= self._max_calls:
            return None
        found = self._format.parse(self._in_letters(body), self._tools)
        if not found:
            return None
        self.ranges.append((self._opened_at, self._num_taken))
        self.num_tags += 2
        self._follows_call, self._last = True, "\n"
        return tuple(found[: self._max_calls])

    def _give_out(self, count: int) -> str:
        text = self._take(count)
        if text:
            self._last, self._follows_call = text[-1], False
        return text

    def _take(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        self._num_taken += count
        return taken


class WholeAnswerSplitter:
    """An answer that is either nothing but calls or nothing but text: which, its first character tells."""

    def __init__(
        self,
        calls: CallFormat,
        tools: Tools,
        *,
        max_calls: int | None = None,
        in_letters: Callable[[str], str] = str,
    ) -> None:
        self._format = calls
        self._in_letters = in_letters
        self._tools = tools
        self._max_calls = max_calls
        self._held = ""
        self._is_text = False
        self.ranges: list[tuple[int, int]] = []
        self.num_tags = 0

    def push(self, text: str) -> Found:
        """Take more text."""
        if self._is_text:
            return Found(text=text)
        self._held += text
        begun = self._held.lstrip()
        if not begun or begun.startswith(("{", self._format.opens)) or self._format.opens.startswith(begun):
            return Found()
        self._is_text = True
        held, self._held = self._held, ""
        return Found(text=held)

    def finish(self) -> Found:
        """The end: all of it is calls, or none is."""
        held, self._held = self._held, ""
        body = held.strip().removeprefix(self._format.opens)
        calls = self._format.parse(self._in_letters(body), self._tools) or []
        if not calls or (self._max_calls is not None and len(calls) > self._max_calls):
            return Found(text=held)
        self.ranges.append((0, len(held)))
        self.num_tags = int(held.strip().startswith(self._format.opens))
        return Found(calls=tuple(calls))
