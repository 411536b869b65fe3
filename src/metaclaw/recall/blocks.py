"""Where recalled text goes in a request.

Owns finding the human's messages in a history, and their keys; refuses to know what is recalled and how a dialect has
text attached. Invariant: the key of a message depends on nothing that comes after it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaclaw.chat.humans import human_identity, is_human, is_scripted
from metaclaw.chat.messages import answer_identity
from metaclaw.journal.turns import BlockKey


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanMessage:
    """A human's message in a request: where it stands and how it is found again in later ones."""

    index: int
    key: BlockKey


def human_messages(messages: Sequence[Mapping[str, Any]], session: str) -> list[HumanMessage]:
    """The human's messages in order.

    A key is made of the message and the answer before it. The first message has no answer before it: its key is made
    of the session, or "good morning" would be given for ever what was recalled on the first morning.
    """
    found: list[HumanMessage] = []
    seen: Counter[bytes] = Counter()
    before = session.encode("utf-8", "surrogatepass")
    for index, message in enumerate(messages):
        if is_scripted(messages, index):
            continue
        if message.get("role") == "assistant":
            before = answer_identity(message)
        elif is_human(message):
            digest = hashlib.sha256(human_identity(message) + before).digest()
            found.append(HumanMessage(index=index, key=BlockKey(digest, seen[digest])))
            seen[digest] += 1
    return found
