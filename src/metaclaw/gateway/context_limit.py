"""What of a long conversation is left out, so that the model can still answer.

Owns the choice of the messages; refuses to know dialects and models. Invariant: only whole exchanges go, the oldest
first; never a system message, never the exchange that is being answered, never a tool call without its results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

from metaclaw.chat.humans import human_indexes
from metaclaw.chat.messages import JsonObject, canonical_json, text_parts

_BYTES_PER_TOKEN = 3  # fewer than common tokenizers need on the average: the estimate errs upwards
_BYTES_PER_MEDIUM = 4096  # an image or a sound is that much prompt, whatever its file takes
_KEPT_ROLES = ("system", "developer")


def dropped_messages(
    messages: Sequence[JsonObject], blocks: Mapping[int, str], *, max_tokens: int, num_bytes: int
) -> frozenset[int]:
    """The indexes of the messages to leave out of a request of ``num_bytes`` so that about ``max_tokens`` remain."""
    num_recalled = sum(len(text.encode()) for text in blocks.values())
    room = max_tokens * _BYTES_PER_TOKEN
    if num_bytes + num_recalled <= room:
        return frozenset()
    written = [len(canonical_json(message).encode("utf-8", "replace")) for message in messages]
    weights = [size - _media_bytes(message) for size, message in zip(written, messages, strict=True)]
    surplus = max(0, num_bytes - sum(written)) + sum(weights) + num_recalled - room
    dropped: set[int] = set()
    humans = human_indexes(messages)
    for start, end in pairwise(humans):
        if surplus <= 0:
            break
        whole = [index for index in range(start, end) if messages[index].get("role") not in _KEPT_ROLES]
        dropped.update(whole)
        surplus -= sum(weights[index] + len(blocks.get(index, "").encode()) for index in whole)
    return frozenset(dropped)


def _media_bytes(message: JsonObject) -> int:
    """What the images and sounds of ``message`` take beyond their weight."""
    content: object = message.get("content")
    if not isinstance(content, list):
        return 0
    parts = [part for part in cast(list[object], content) if not text_parts([part])]
    return sum(max(0, len(canonical_json(part)) - _BYTES_PER_MEDIUM) for part in parts)
