"""The journal as lines of JSON.

Owns what a line holds; refuses to know where lines go. Invariant: it reads a page at a time, so a large journal needs
no large memory.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
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

    ``generation`` gives that of an agent's skills at a time.
    With ``with_tokens`` also what the policy drew: little-endian int32 and float32 arrays in base64.
    """
    after = 0
    while page := reader.turns(after_seq=after, agent=agent, limit=_PAGE):
        after = page[-1].seq
        for turn in page:
            is_wanted = (since is None or turn.opened_at >= since) and (until is None or turn.opened_at < until)
            if is_wanted and session in (None, turn.session):
                skills = generation(turn.agent, turn.opened_at)
                yield {**_line(reader, turn, with_tokens=with_tokens), "generation": skills}


def _line(reader: TurnReader, turn: RecordedTurn, *, with_tokens: bool) -> JsonObject:
    fields = asdict(turn)
    del fields["head"]
    line = {**fields, "messages": reader.messages(turn)}
    line["feedback"] = [asdict(given) for given in reader.feedback(turn.exchange) if given.turn == turn.id]
    if with_tokens and (sample := reader.sample(turn.id)) is not None:
        drawn = asdict(sample)
        line["sample"] = {**drawn, **{name: base64.b64encode(drawn[name]).decode() for name in _ARRAYS}}
    return line
