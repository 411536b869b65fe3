"""A plain text completion and the chunks that bring the same.

Owns putting the chunks together, and log-probs of chat's, which come in pieces too; refuses to know dialects and
transport. Invariant: nothing is lost, keys that are not known here included; and nothing raises.
"""

from __future__ import annotations

from collections.abc import Iterable

from metaclaw.chat.chat_stream import ChatSource
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_count, as_object, as_text, is_list, objects_in, without
from metaclaw.chat.sse import SseEvent

_SAID = ("text", "reasoning_content")  # comes in pieces; of all else what was said last counts


def answer_of(events: Iterable[SseEvent]) -> JsonObject | None:
    """The completion that ``events`` bring; ``None`` when they bring none."""
    source, frame, choices = ChatSource(), JsonObject(), dict[int, JsonObject]()
    for event in events:
        for chunk in source.add_event(event):
            frame |= _told(without(chunk, "choices"))
            for choice in objects_in(chunk.get("choices")):
                index = as_count(choice.get("index"))
                _add(choices.setdefault(index, {"index": index, "text": "", "logprobs": None}), choice)
    if not choices:
        return None
    ended = [{"finish_reason": "stop", **choices[index]} for index in sorted(choices)]
    return {**frame, "choices": ended}


def joined_logprobs(so_far: JsonObject | None, more: object) -> JsonObject | None:
    """Log-probs of a text and of what follows it: lists by their names, in chat as in text completions."""
    joined = dict(so_far or {})
    for name, value in as_object(more).items():
        known = joined.get(name)
        if is_list(known) and is_list(value):
            joined[name] = [*known, *value]
        elif value is not None or name not in joined:
            joined[name] = value
    return joined or so_far


def _add(so_far: JsonObject, choice: JsonObject) -> None:
    for name in _SAID:
        if piece := as_text(choice.get(name)):
            so_far[name] = as_text(so_far.get(name)) + piece
    so_far["logprobs"] = joined_logprobs(so_far["logprobs"], choice.get("logprobs"))
    so_far |= _told(without(choice, "index", "logprobs", *_SAID))


def _told(body: JsonObject) -> JsonObject:
    return {name: value for name, value in body.items() if value is not None}
