"""An answer's tokens read as thinking, text and tool calls.

Owns the order of the steps from tokens to parts, and which token belongs to which; refuses to know templates, ids of
calls and log-probs. Invariant: however the tokens are cut into pieces, the parts joined are the same, nothing that
was sampled before a stop string is lost, and the spans cover every token once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from metaclaw.chat.thinking import Split, ThinkSplitter
from metaclaw.rendering.answer_format import AnswerFormat
from metaclaw.rendering.call_splitter import CallSplitter, Found, WholeAnswerSplitter
from metaclaw.rendering.calls import ToolCall, Tools
from metaclaw.rendering.detokenizer import Detokenizer
from metaclaw.rendering.stops import MarkedStopCutter
from metaclaw.rendering.tokenizer import Tokenizer

SpanKind = Literal["think", "text", "calls", "end"]
Span = tuple[SpanKind, int, int]  # kind and the half-open range of tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an answer, or a piece of one, says."""

    thinking: str = ""
    text: str = ""
    calls: tuple[ToolCall, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.thinking or self.text or self.calls)


class AnswerReader:
    """Reads one answer. ``tools`` are those offered: a call of anything else stays text."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        answer_format: AnswerFormat,
        *,
        tools: Tools | None = None,
        end_tokens: Collection[int] = (),
        stops: Sequence[str] = (),
        starts_thinking: bool = False,
        max_calls: int | None = None,
    ) -> None:
        self._format = answer_format
        self._end_tokens = frozenset(end_tokens)
        self._detokenizer = Detokenizer(tokenizer)
        self._cutter = MarkedStopCutter(stops, answer_format.letters)
        self._thinking = _think_splitter(answer_format, is_inside=starts_thinking)
        self._calls = _call_splitter(answer_format, tools or {}, max_calls)
        self._starts: list[int] = []  # of each token, in characters
        self._num_characters = 0
        self._last_token: int | None = None

    @property
    def has_stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._cutter.has_stopped

    @property
    def num_marks(self) -> int:
        """How many tokens of tags did the work of tags."""
        think, calls = self._format.think, self._calls
        num_think = self._thinking.num_tags if self._thinking and think and think.opens in self._format.letters else 0
        return num_think + (calls.num_tags if calls and self._format.calls_are_marked else 0)

    def push(self, tokens: Sequence[int]) -> Parts:
        """Take the next tokens; return what is certain by now."""
        pieces: list[str] = []
        for token in tokens:
            mark = self._format.marks.get(token)
            if mark is not None:
                pieces.append(self._grown(self._detokenizer.restart(token)))
            self._starts.append(self._num_characters)
            self._last_token = token
            if mark is not None:
                pieces.append(self._grown(mark))
            elif token not in self._end_tokens:
                pieces.append(self._grown(self._detokenizer.push([token])))
        return self._read(self._cutter.push("".join(pieces)))

    def finish(self) -> Parts:
        """The end: what was held back is given out, unless a stop string has ended the text."""
        rest = self._cutter.push(self._grown(self._detokenizer.finish()))
        last = self._read(rest + self._cutter.finish())
        split = self._thinking.finish() if self._thinking else Split()
        visible = self._split_calls(split.text)
        tail = self._calls.finish() if self._calls else Found()
        return Parts(
            thinking=last.thinking + self._format.in_letters(split.thinking),
            text=last.text + visible.text + self._format.in_letters(tail.text),
            calls=(*last.calls, *visible.calls, *tail.calls),
        )

    def spans(self) -> list[Span]:
        """All tokens by what they are. Right after ``finish``; a call that was not one is text."""
        text_start = self._thinking.text_start if self._thinking else 0
        ranges = [(start + text_start, end + text_start) for start, end in (self._calls.ranges if self._calls else [])]
        spans: list[Span] = []
        for place, start in enumerate(self._starts):
            while ranges and start >= ranges[0][1]:
                ranges.pop(0)
            kind: SpanKind = "text"
            if place == len(self._starts) - 1 and self._last_token in self._end_tokens:
                kind = "end"
            elif start < text_start:
                kind = "think"
            elif ranges and start >= ranges[0][0]:
                kind = "calls"
            if spans and spans[-1][0] == kind:
                spans[-1] = (kind, spans[-1][1], place + 1)
            else:
                spans.append((kind, place, place + 1))
        return spans

    def starts_at(self, place: int) -> int:
        """Where the token at ``place`` begins, in characters."""
        return self._starts[place] if place < len(self._starts) else self._num_characters

    @property
    def text_start(self) -> int:
        """Where the visible text begins, in characters."""
        return self._thinking.text_start if self._thinking else 0

    def _grown(self, text: str) -> str:
        self._num_characters += len(text)
        return text

    def _read(self, text: str) -> Parts:
        split = self._thinking.push(text) if self._thinking else Split(text=text)
        visible = self._split_calls(split.text)
        return Parts(thinking=self._format.in_letters(split.thinking), text=visible.text, calls=visible.calls)

    def _split_calls(self, text: str) -> Parts:
        found = self._calls.push(text) if self._calls else Found(text=text)
        return Parts(text=self._format.in_letters(found.text), calls=found.calls)


def tools_by_name(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The parameters' schema of each function in a request's ``tools``."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function")
        if isinstance(function, dict):
            named = cast(dict[str, Any], function)
            schema = named.get("parameters")
            found[str(named.get("name"))] = cast(dict[str, Any], schema) if isinstance(schema, dict) else {}
    return found


def _think_splitter(answer_format: AnswerFormat, *, is_inside: bool) -> ThinkSplitter | None:
    think = answer_format.think
    return think and ThinkSplitter(opens=think.opens, closes=think.closes, is_inside=is_inside)


def _call_splitter(
    answer_format: AnswerFormat, tools: Tools, max_calls: int | None
) -> CallSplitter | WholeAnswerSplitter | None:
    calls = answer_format.calls
    if calls is None or not tools:
        return None
    written = answer_format.in_letters
    if not calls.closes:
        return WholeAnswerSplitter(calls, tools, max_calls=max_calls, in_letters=written)
    is_text = not answer_format.calls_are_marked
    return CallSplitter(calls, tools, only_at_line_start=is_text, max_calls=max_calls, in_letters=written)
