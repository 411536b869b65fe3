"""Recorded tokens in the place of the text that they stand for.

Owns where in a rendered conversation recorded answers go; refuses to know how answers are read and text is encoded.
Invariant: all of the prompt that is not a spliced answer is what the template wrote, and where the template leaves
something out (the thinking of earlier turns), its tokens are left out too.

The template gets a sentinel, a private-use character that occurs nowhere else, for the answer's body and another one
for its thinking. What it makes of them shows what it would have made of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metaclaw.chat.messages import JsonObject
from metaclaw.rendering.answer_format import ThinkTags
from metaclaw.rendering.recorded import RecordedAnswer

Piece = str | tuple[int, ...]  # text to be encoded, or tokens as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinels:
    """What stands for one answer while the template runs; ``thinking`` is ``None`` where it has none."""

    body: str
    thinking: str | None


def place_sentinels(
    messages: list[JsonObject], recorded: Mapping[int, RecordedAnswer], unused: Iterator[str]
) -> tuple[list[JsonObject], dict[int, Sentinels]]:
    """``messages`` with sentinels for the answers at the positions in ``recorded``."""
    sentinels = {
        index: Sentinels(body=next(unused), thinking=None if answer.num_think == 0 else next(unused))
        for index, answer in recorded.items()
    }
    return [
        _replaced(message, sentinels[index]) if index in recorded else message for index, message in enumerate(messages)
    ], sentinels


def cut_at_sentinels(
    text: str,
    recorded: Mapping[int, RecordedAnswer],
    sentinels: Mapping[int, Sentinels],
    think: ThinkTags | None,
) -> tuple[list[Piece], set[int]]:
    """``text`` with recorded tokens in it, and the positions for which the template left no clear place."""
    pieces: list[Piece] = []
    unclear: set[int] = set()
    done = 0
    for index in sorted(recorded):
        answer = recorded[index]
        place = _place(text, answer, sentinels[index], think)
        if place is None or place[0] < done:
            unclear.add(index)
            continue
        start, end, num_dropped = place
        pieces += [text[done:start], answer.tokens[num_dropped:]]
        done = end
    pieces.append(text[done:])
    return pieces, unclear


def _replaced(message: JsonObject, sentinels: Sentinels) -> JsonObject:
    kept = {key: value for key, value in message.items() if key not in ("tool_calls", "reasoning_content")}
    kept["content"] = sentinels.body
    if sentinels.thinking is not None:
        kept["reasoning_content"] = sentinels.thinking
    return kept


def _place(
    text: str, answer: RecordedAnswer, sentinels: Sentinels, think: ThinkTags | None
) -> tuple[int, int, int] | None:
    """Where the answer goes in ``text``, and how many of its tokens the template drops."""
    if text.count(sentinels.body) != 1 or (sentinels.thinking and text.count(sentinels.thinking) > 1):
        return None
    body = text.index(sentinels.body)
    thinking = text.find(sentinels.thinking) if sentinels.thinking else -1
    if thinking < 0:
        return None if answer.num_think is None else (body, body + 1, answer.num_think)
    if not answer.opens_itself:
        return (thinking, body + 1, 0) if thinking < body else None
    start = text.rfind(think.text, 0, thinking) if think else -1
    if not 0 <= start < thinking < body or text[start + len(think.text if think else "") : thinking].strip():
        return None
    return start, body + 1, 0
