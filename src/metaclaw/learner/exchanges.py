"""Exchanges as judges and evolvers see them.

Owns putting one together from what was recorded, and finding what the human said next; refuses to know who looks at it.
Invariant: nothing that was recalled is in it, and what follows an exchange is what the human said in the same session
about something else than the same prompt again. While an exchange waits for a tool, only what has its call in the
history follows it: an agent that the call started, in the same session, does not.
"""

from __future__ import annotations

from collections.abc import Iterator

from metaclaw.chat.messages import answer_identity
from metaclaw.journal.turns import RecordedExchange, RecordedTurn, TurnReader, exchange_key
from metaclaw.learner.judges.judge import Exchange

_PAGE = 100
_CALLING = ("tool_calls", "tool_use", "function_call")


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


def is_calling(turn: RecordedTurn) -> bool:
    """Whether a turn ended with calls of tools, so that there is more to come."""
    return turn.state == "done" and turn.finish_reason in _CALLING


def followup(reader: TurnReader, recorded: RecordedExchange) -> str | None:
    """What the human said next; ``None`` when nothing came, or the prompt again."""
    for turn in beginnings_after(reader, recorded):
        if (key := exchange_key(recorded.id)) and key == exchange_key(turn.exchange):
            return None  # the prompt again in the same place: whoever sent it, and what follows, answers another one
        if follows(reader, turn, recorded):
            following = reader.exchange(turn.exchange)
            return None if following is None else following.human
    return None


def beginnings_after(reader: TurnReader, recorded: RecordedExchange, *, after_seq: int = 0) -> Iterator[RecordedTurn]:
    """The first turn of each exchange of the session that began after ``recorded`` and after a turn's number."""
    after = max(after_seq, recorded.turns[-1].seq)
    while page := reader.beginnings(recorded.agent, recorded.session, after_seq=after, limit=_PAGE):
        yield from page
        after = page[-1].seq


def follows(reader: TurnReader, turn: RecordedTurn, recorded: RecordedExchange) -> bool:
    """Whether ``turn``, which began later in the session, goes on from ``recorded``."""
    last = recorded.turns[-1]
    if not is_calling(last) or last.answer is None:
        return True
    called = answer_identity(last.answer)
    answers = (message for message in reader.messages(turn) if message.get("role") == "assistant")
    return any(answer_identity(message) == called for message in answers)
