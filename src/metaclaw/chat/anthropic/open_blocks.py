"""Content blocks of a streamed answer, of which one at a time is open.

Owns their order, indexes, and what waits for its turn; refuses to know chat. Invariant: blocks are numbered from 0 as
they open, each is closed before the next one opens, and none opens twice.

Arguments that do not begin as a JSON object (some models write a text, or JSON within JSON) are held until they are
whole, and told as the plain answer has them: SDKs raise on a piece of anything else, and the agent would end there.

A chat model may go on with one tool call after it began another. So a call stays open until its arguments are a whole
JSON object, and what belongs to later blocks waits that long; models that call one after the other never wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from metaclaw.chat.anthropic.answers import input_of
from metaclaw.chat.anthropic.conversation import written
from metaclaw.chat.anthropic.own_thinking import SIGNATURE
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.streamed_calls import JsonEnd


@dataclass(slots=True, kw_only=True)
class _Block:
    start: JsonObject
    deltas: list[JsonObject] = field(default_factory=list[JsonObject])  # that are not written yet
    end: JsonEnd | None = None  # of a call
    held: str = ""  # arguments that do not begin as an object
    is_told: bool = False  # whether its arguments are told as they come
    is_sealed: bool = False

    @property
    def is_whole(self) -> bool:
        return self.end is None or self.end.is_reached


class OpenBlocks:
    """Say what comes; each call gives back the events that it makes."""

    def __init__(self) -> None:
        self._blocks: deque[_Block] = deque()  # those not closed; the first may be open
        self._is_first_open = False
        self._index = -1
        self._calls: dict[int, _Block] = {}

    def say(self, kind: str, text: str) -> Iterator[JsonObject]:
        """More ``text`` or ``thinking``."""
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.start["type"] != kind or last.is_sealed:
            empty = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
            last = _Block(start=empty)
            self._blocks.append(last)
        last.deltas.append({"type": f"{kind}_delta", kind: text})
        yield from self._written()

    def seal(self, block: JsonObject) -> Iterator[JsonObject]:
        """A block of thinking with its signature: the one that was said last, or one that was not said before."""
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last.start["type"] == block.get("type") == "thinking" and not last.is_sealed:
            last.deltas.append({"type": "signature_delta", "signature": block.get("signature")})
        else:
            last = _Block(start=block)
            self._blocks.append(last)
        last.is_sealed = True
        yield from self._written()

    def call(self, number: int, uid: str, name: str, arguments: str) -> Iterator[JsonObject]:
        """More of a tool call; ``uid`` and ``name`` count where it begins."""
        block = self._calls.get(number)
        if block is None:
            block = _Block(start={"type": "tool_use", "id": uid, "name": name, "input": {}}, end=JsonEnd())
            self._calls[number] = block
            self._blocks.append(block)
        elif name and not block.start["name"]:
            block.start["name"] = name
        if arguments and block.end is not None:
            block.end.feed(arguments)
            block.held += arguments
            block.is_told = block.is_told or block.held.lstrip().startswith("{")
            if block.is_told:
                block.deltas.append({"type": "input_json_delta", "partial_json": block.held})
                block.held = ""
        yield from self._written()

    def close(self) -> Iterator[JsonObject]:
        """Nothing more comes: write and close all that there is."""
        yield from self._written(closes_all=True)

    def _written(self, *, closes_all: bool = False) -> Iterator[JsonObject]:
        while self._blocks:
            first = self._blocks[0]
            if not self._is_first_open:
                if not closes_all and first.end is not None and not first.start["name"]:
                    return  # a call cannot be announced without its name
                self._index += 1
                self._is_first_open = True
                yield {"type": "content_block_start", "index": self._index, "content_block": first.start}
            for delta in first.deltas:
                yield {"type": "content_block_delta", "index": self._index, "delta": delta}
            first.deltas = []
            if not closes_all and (len(self._blocks) == 1 or not first.is_whole):
                return
            if first.held.strip():
                whole = written(input_of(first.held))
                told = {"type": "input_json_delta", "partial_json": whole}
                yield {"type": "content_block_delta", "index": self._index, "delta": told}
            if first.start["type"] == "thinking" and not first.is_sealed:
                mark = {"type": "signature_delta", "signature": SIGNATURE}
                yield {"type": "content_block_delta", "index": self._index, "delta": mark}
            yield {"type": "content_block_stop", "index": self._index}
            self._blocks.popleft()
            self._is_first_open = False
