"""Thinking that a model left in its text, taken out of a chat answer.

Owns turning a leading ``<think>`` block of the content, or its thinking parts, into ``reasoning_content``, in a plain
answer and in a stream of chunks; refuses to know dialects and transport. Invariant: however the text is cut into
chunks, the same thinking and the same text come out, each choice for itself; and an answer without any is not changed.
"""

from __future__ import annotations

from metaclaw.chat.chat_stream import choices_of
from metaclaw.chat.messages import JsonObject, object_or_none, text_parts
from metaclaw.chat.reading import objects_in
from metaclaw.chat.thinking import OPENS, Split, ThinkSplitter


class ThinkFilter:
    """Chunks in, chunks out. What may still become a tag is held back, nothing else."""

    def __init__(self) -> None:
        self._splitters: dict[int, ThinkSplitter] = {}

    def add(self, chunk: JsonObject) -> list[JsonObject]:
        """The chunks to pass on for ``chunk``."""
        choices = [_with_open_delta(choice) for choice in choices_of(chunk)]
        if not any(_carries_text(choice) or choice.get("finish_reason") for choice in choices):
            return [chunk]
        thinking: list[JsonObject] = []
        others: list[JsonObject] = []
        for choice in choices:
            split = self._split(choice)
            if split.thinking:
                thinking.append(
                    {
                        "index": choice.get("index", 0),
                        "delta": {"reasoning_content": split.thinking},
                        "finish_reason": None,
                    }
                )
            others.append(_with_text(choice, split.text))
        rest = {**chunk, "choices": others}
        # Thinking goes first, in a chunk of its own: clients that know it show it before the text.
        return [{**_without_usage(chunk), "choices": thinking}, rest] if thinking else [rest]

    def _split(self, choice: JsonObject) -> Split:
        index: object = choice.get("index", 0)
        splitter = self._splitters.setdefault(index if isinstance(index, int) else 0, ThinkSplitter())
        delta = object_or_none(choice.get("delta")) or {}
        content: object = delta.get("content")
        split = splitter.push(content) if isinstance(content, str) else Split()
        if not choice.get("finish_reason"):
            return split
        last = splitter.finish()
        return Split(thinking=split.thinking + last.thinking, text=split.text + last.text)


def without_think_block(answer: JsonObject) -> JsonObject:
    """A plain ``chat.completion`` whose messages have their leading think block as ``reasoning_content``.

    Returns ``answer`` itself when there is none.
    """
    choices = choices_of(answer)
    split = [_split_choice(choice) for choice in choices]
    if all(new is old for new, old in zip(split, choices, strict=True)):
        return answer
    return {**answer, "choices": split}


def may_open_thinking(text: str) -> bool:
    """Whether an answer that begins with ``text`` may begin with a think block."""
    begun = text.lstrip()
    return begun.startswith(OPENS) or OPENS.startswith(begun)


def opens_thinking(text: str) -> bool:
    """Whether an answer that begins with ``text`` certainly begins with a think block."""
    return text.lstrip().startswith(OPENS)


def _with_open_delta(choice: JsonObject) -> JsonObject:
    delta = object_or_none(choice.get("delta"))
    if delta is None or not isinstance(delta.get("content"), list):
        return choice
    return {**choice, "delta": _in_the_open(delta)}


def _in_the_open(said: JsonObject) -> JsonObject:
    """A message or delta whose content is parts, thinking among them (Mistral's), as a text and what was thought."""
    parts = objects_in(said.get("content"))
    thoughts = [text for part in parts if part.get("type") == "thinking" for text in text_parts(part.get("thinking"))]
    opened: JsonObject = {**said, "content": "".join(text_parts(said.get("content")))}
    return {**opened, "reasoning_content": "".join(thoughts)} if thoughts else opened


def _split_choice(choice: JsonObject) -> JsonObject:
    message = object_or_none(choice.get("message")) or {}
    content: object = message.get("content")
    if any(part.get("type") == "thinking" for part in objects_in(content)):
        return {**choice, "message": _in_the_open(message)}
    if not isinstance(content, str) or not opens_thinking(content):
        return choice
    splitter = ThinkSplitter()
    first, last = splitter.push(content), splitter.finish()
    thinking, text = first.thinking + last.thinking, first.text + last.text
    return {**choice, "message": {**message, "content": text, "reasoning_content": thinking}}


def _carries_text(choice: JsonObject) -> bool:
    return isinstance((object_or_none(choice.get("delta")) or {}).get("content"), str)


def _with_text(choice: JsonObject, text: str) -> JsonObject:
    delta = object_or_none(choice.get("delta")) or {}
    if not text and "content" not in delta:
        return choice
    return {**choice, "delta": {**delta, "content": text}}


def _without_usage(chunk: JsonObject) -> JsonObject:
    return {key: value for key, value in chunk.items() if key not in ("usage", "choices")}
