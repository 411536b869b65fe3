"""What of a long conversation is left out, so that the model can still answer.

Owns the choice of the messages; refuses to know dialects and models. Invariant: only whole exchanges go, the oldest
first; never a system message, never the exchange that is being answered, never a tool call without its results.

More goes at a time than must, up to an eighth of the limit: a prompt that began with another message at each turn would
be a new one for the provider's cache each time, at up to ten times the price.

What a request takes is estimated from what it says: not from how its client escapes it, and not from what only the
provider reads in it (thinking that it has sealed), which may be most of its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

from metaclaw.chat.dialect import CONVERSATION_KEYS, ClientRequest
from metaclaw.chat.humans import human_indexes
from metaclaw.chat.messages import JsonObject, canonical_json, text_parts
from metaclaw.chat.reading import objects_in

_BYTES_PER_TOKEN = 3  # fewer than common tokenizers need on the average: the estimate errs upwards
_BYTES_PER_MEDIUM = 4096  # an image or a sound is that much prompt, whatever its file takes
_STEPS = 8  # in which a conversation is shortened, of the limit
_KEPT_ROLES = ("system", "developer")


def dropped_messages(
    request: ClientRequest, blocks: Mapping[int, str], *, max_tokens: int, num_bytes: int
) -> frozenset[int]:
    """The indexes of the messages to leave out of a request of ``num_bytes`` so that about ``max_tokens`` remain."""
    num_recalled = sum(len(text.encode()) for text in blocks.values())
    room = max_tokens * _BYTES_PER_TOKEN
    if num_bytes + num_recalled <= room:
        return frozenset()
    messages = request.messages
    weights = [_num_bytes(message) - _media_bytes(message) for message in messages]
    beside = {key: value for key, value in request.body.items() if key not in CONVERSATION_KEYS}
    surplus = _num_bytes(beside) + sum(weights) + num_recalled - room
    step = max(1, room // _STEPS)
    surplus = -(-surplus // step) * step
    dropped: set[int] = set()
    for start, end in pairwise(_starts(messages)):
        if surplus <= 0:
            break
        whole = [index for index in range(start, end) if messages[index].get("role") not in _KEPT_ROLES]
        dropped.update(whole)
        surplus -= sum(weights[index] + len(blocks.get(index, "").encode()) for index in whole)
    return frozenset(dropped)


def _starts(messages: Sequence[JsonObject]) -> list[int]:
    """Where exchanges begin, but those before which a tool was called whose result comes later."""
    # Somebody may speak while a tool works: the two exchanges go together or stay together.
    called_at: dict[str, int] = {}
    answered_at: dict[int, int] = {}  # of the message with a call, the last of its results
    for index, message in enumerate(messages):
        for call in objects_in(message.get("tool_calls")):
            called_at[str(call.get("id"))] = index
        if message.get("role") == "tool" and (at := called_at.get(str(message.get("tool_call_id")))) is not None:
            answered_at[at] = index
    starts: list[int] = []
    at = pending = 0
    for human in human_indexes(messages):
        pending = max(pending, *(answered_at.get(index, 0) for index in range(at, human)), 0)
        at = human
        if pending <= human:
            starts.append(human)
    return starts


def _num_bytes(value: object) -> int:
    return len(canonical_json(value).encode("utf-8", "replace")) + 1  # and a comma


def _media_bytes(message: JsonObject) -> int:
    """What the images and sounds of ``message`` take beyond their weight."""
    content: object = message.get("content")
    if not isinstance(content, list):
        return 0
    parts = [part for part in cast(list[object], content) if not text_parts([part])]
    return sum(max(0, len(canonical_json(part)) - _BYTES_PER_MEDIUM) for part in parts)
