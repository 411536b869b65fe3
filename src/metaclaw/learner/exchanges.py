"""Exchanges as judges and evolvers see them.

Owns putting one together from what was recorded, and finding what the human said next; refuses to know who looks at it.
Invariant: nothing that was recalled is in it, and what follows an exchange is what the human said in the same session
about something else than the same prompt again.
"""

from __future__ import annotations

from collections.abc import Iterator

from metaclaw.journal.turns import RecordedExchange, RecordedTurn, TurnReader, exchange_key
from metaclaw.learner.judges.judge import Exchange

_PAGE = 100


def whole_exchange(reader: TurnReader, recorded: RecordedExchange, *, with_followup: bool) -> Exchange:
    """The exchange with its whole history. At least one of its turns must be done."""
    last = [turn for turn in recorded.turns if turn.state == "done"][-1]
    thoughts = reader.feedback(recorded.id)
    scores = [thought.score for thought in thoughts if thought.score is not None]
    remarks = [thought.text for thought in thoughts if thought.score is None]
    return Exchange(
        id=recorded.id,
        agent=recorded.agent,
        session=recorded.session,
        turn_ids=tuple(turn.id for turn in recorded.turns),
        prompt=recorded.human,
        answer=recorded.answer,
        messages=tuple(reader.messages(last)),
        finish_reason=last.finish_reason,
        followup=followup(reader, recorded) if with_followup and recorded.has_later else None,
        feedback=scores[-1] if scores else None,
        remark="\n".join(remarks) or None,
    )


def followup(reader: TurnReader, recorded: RecordedExchange) -> str | None:
    """What the human said next; ``None`` when nothing came, or the prompt again."""
    for turn in _later_turns(reader, recorded.turns[-1]):
        if turn.session == recorded.session and turn.kind == "main" and turn.exchange != recorded.id:
            if (key := exchange_key(recorded.id)) and key == exchange_key(turn.exchange):
                return (
                    None  # the prompt again in the same place: whoever sent it, and what follows, answers another one
                )
            following = reader.exchange(turn.exchange)
            return None if following is None else following.human
    return None


def _later_turns(reader: TurnReader, last: RecordedTurn) -> Iterator[RecordedTurn]:
    after = last.seq
    while page := reader.turns(after_seq=after, agent=last.agent, limit=_PAGE):
        yield from page
        after = page[-1].seq
