"""The journal as lines of JSON.

Owns what a line holds; refuses to know where lines go. Invariant: it reads a page at a time, so a large journal needs
no large memory.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from metaclaw.chat.messages import JsonObject
from metaclaw.journal.turn_reader import TurnReader
from metaclaw.journal.turn_records import RecordedTurn

_ARRAYS = ("prompt_tokens", "tokens", "logprobs", "logprobs_full")
_PAGE = 200


def export_turns(
    reader: TurnReader,
    *,
    agent: str | None = None,
    session: str | None = None,
    since: float | None = None,
    until: float | None = None,
    with_tokens: bool = False,
    generation: Callable[[str, float], int],
) -> Iterator[JsonObject]:
    """Each turn with its messages, its answer and what was thought of it, in the order of opening.

    What was thought of a session is with the turn that was its last one then. A turn that is given up meanwhile is left
    out. Raises ``JournalError`` where the file is damaged.
    ``generation`` gives that of an agent's skills at a time.
    With ``with_tokens`` also what the policy drew: little-endian int32 and float32 arrays in base64.
    """
    after = 0
    with reader.snapshot():
        thoughts = _thoughts(reader)
    while page := _page(reader, after, agent):
        after = page[-1].seq
        for turn in page:
            is_wanted = (since is None or turn.opened_at >= since) and (until is None or turn.opened_at < until)
            if is_wanted and session in (None, turn.session):
                with reader.snapshot():
                    line = _line(reader, now, with_tokens=with_tokens) if (now := reader.turn(turn.id)) else None
                if line is not None:
                    line["feedback"] = thoughts.get(turn.id, [])
                    yield {**line, "generation": generation(turn.agent, turn.opened_at)}


def _page(reader: TurnReader, after: int, agent: str | None) -> list[RecordedTurn]:
    with reader.snapshot():
        return reader.turns(after_seq=after, agent=agent, limit=_PAGE)


def _thoughts(reader: TurnReader) -> Mapping[str, list[JsonObject]]:
    """All feedback, by the turn."""
    thoughts: dict[str, list[JsonObject]] = {}
    after = 0
    while page := reader.feedback_after(after):
        after = page[-1].id
        for given in page:
            turn = given.turn or reader.last_turn_at(given.agent, given.session, given.created_at)
            if turn is not None:
                thoughts.setdefault(turn, []).append(asdict(given))
    return thoughts


def _line(reader: TurnReader, turn: RecordedTurn, *, with_tokens: bool) -> JsonObject:
    fields = asdict(turn)
    del fields["head"]
    line = {**fields, "messages": reader.messages(turn)}
    if with_tokens and (sample := reader.sample(turn.id)) is not None:
        drawn = asdict(sample)
        line["sample"] = {**drawn, **{name: base64.b64encode(drawn[name]).decode() for name in _ARRAYS}}
    return line
