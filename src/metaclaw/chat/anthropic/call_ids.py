"""Ids of tool calls as Anthropic takes them.

Owns their alphabet and that each is given once; refuses to know who made them. Invariant: a result stays with its call,
the same history gives the same ids, and ids that Anthropic takes are not changed.

Other models' ids come back to Claude in the history of a session that it takes over: Kimi's have dots and colons
(``functions.bash:0``), and some servers count them anew in each answer. Anthropic refuses both for ever.
"""

from __future__ import annotations

import re
from collections import deque

from metaclaw.chat.anthropic.fields import objects, text_in
from metaclaw.chat.messages import JsonObject

_NOT_OF_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")


def with_ids_for_claude(body: JsonObject) -> JsonObject:
    """A request with the ids that Anthropic refuses replaced; ``body`` itself where there are none."""
    messages = objects(body.get("messages"))
    answers = [message for message in messages if message.get("role") == "assistant"]
    blocks = (block for message in answers for block in objects(message.get("content")))
    ids = [text_in(block.get("id")) for block in blocks if block.get("type") == "tool_use"]
    if all(ids) and len(set(ids)) == len(ids) and not _NOT_OF_AN_ID.search("".join(ids)):
        return body
    renamer = _Renamer()
    return {**body, "messages": [renamer.renamed(message) for message in messages]}


class _Renamer:
    """Feed it messages in order."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}  # by id: how often it was wanted
        self._waiting: dict[str, deque[str]] = {}  # by their old ids: calls of the last answer without a result

    def renamed(self, message: JsonObject) -> JsonObject:
        if not isinstance(message.get("content"), list):
            return message
        if message.get("role") == "assistant":
            self._waiting = {}
        return {**message, "content": [self._block(block) for block in objects(message["content"])]}

    def _block(self, block: JsonObject) -> JsonObject:
        match block.get("type"):
            case "tool_use":
                uid = text_in(block.get("id"))
                new = self._free(uid)
                self._waiting.setdefault(uid, deque()).append(new)
                return {**block, "id": new}
            case "tool_result":
                uid = text_in(block.get("tool_use_id"))
                waiting = self._waiting.get(uid)
                return {**block, "tool_use_id": waiting.popleft() if waiting else _NOT_OF_AN_ID.sub("_", uid)}
            case _:
                return block

    def _free(self, uid: str) -> str:
        wanted = _NOT_OF_AN_ID.sub("_", uid) or "call"
        free = wanted
        while free in self._taken:
            self._taken[wanted] += 1
            free = f"{wanted}_{self._taken[wanted]}"
        self._taken[free] = 1
        return free
