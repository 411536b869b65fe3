"""What has to be told when a turn is over.

Owns the admissions of turns that run or are not charged yet; refuses to know how a turn was answered. Invariant: every
admission is released when its turn ends, however it ends, and charged once, when what it used is known.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

from metaclaw.chat.dialects import RESPONSES
from metaclaw.chat.messages import JsonObject, text_of
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.gateway.access import Admission
from metaclaw.gateway.conversations import Conversations
from metaclaw.journal.spooled_turns import TurnSettled, read_answer
from metaclaw.journal.turns import RawAnswer

# Of a stream's first event and of a plain answer alike; in what somebody said its quotes would be escaped.
_RESPONSE_ID = re.compile(rb'"id"\s*:\s*"(resp[\w-]{1,200})"')
_ID_WITHIN = 64 * 1024
_MAX_UNCHARGED = 10_000  # turns whose record is late, for example because the disk is full


class OpenTurns:
    """Used on the event loop alone."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._running: dict[str, Admission] = {}
        self._uncharged: OrderedDict[str, Admission] = OrderedDict()

    def begin(self, turn_id: str, admission: Admission) -> None:
        """A turn was admitted."""
        self._running[turn_id] = admission

    def admit_again(self, turn_id: str, admission: Admission) -> None:
        """A turn that was admitted for its token is so for its agent as well."""
        self._running[turn_id] = self._running[turn_id].with_another(admission)

    def refuse(self, turn_id: str) -> None:
        """It was admitted and is none after all: nothing is recorded of it that it could be charged for."""
        admission = self._running.pop(turn_id, None)
        if admission is not None:
            admission.release()
            self._conversations.end(turn_id, None)

    def end(self, turn_id: str, answer: ChatAnswer | RawAnswer | None) -> None:
        """It is over, with this answer. Only the first call counts."""
        admission = self._running.pop(turn_id, None)
        if admission is None:
            return
        admission.release()
        self._uncharged[turn_id] = admission
        if len(self._uncharged) > _MAX_UNCHARGED:
            self._uncharged.popitem(last=False)
        if isinstance(answer, RawAnswer):
            response_id = _response_id(answer) if answer.dialect == RESPONSES.name else None
            self._conversations.end(turn_id, lambda: _read(answer), num_bytes=len(answer.body), response_id=response_id)
        elif answer is None or answer.message is None:
            self._conversations.end(turn_id, None)
        else:
            said = ChatAnswer(
                message=answer.message, finish_reason=answer.finish_reason, usage=None, others=answer.others
            )  # without the policy's record, which has the tokens of all that was asked
            self._conversations.end(turn_id, lambda: said, num_bytes=sum(map(_size, answer.messages)))

    def charge(self, turns: Sequence[TurnSettled]) -> None:
        """What they used is known."""
        for turn in turns:
            if (admission := self._uncharged.pop(turn.id, None)) is not None:
                tokens, cost = turn.charged, turn.charged_cost
                admission.charge(tokens=tokens.total if tokens else 0, usd=cost.usd if cost else None)


def _size(message: JsonObject) -> int:
    calls = message.get("tool_calls")
    return len(text_of(message.get("content"))) + (len(str(calls)) if calls else 0)


def _response_id(raw: RawAnswer) -> str | None:
    found = _RESPONSE_ID.search(raw.body, 0, _ID_WITHIN)
    return None if found is None else found[1].decode()


def _read(raw: RawAnswer) -> ChatAnswer | None:
    try:
        return read_answer(raw)
    except ValueError:
        return None
