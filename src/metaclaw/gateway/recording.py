"""What is recorded of a turn, and when.

Owns filling the journal's records from a request and its answer; refuses to know routes and transport. Invariant: a
turn is recorded as open before any upstream is called, and closed once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace

from metaclaw.chat.dialect import ClientRequest
from metaclaw.chat.dialects import DIALECTS
from metaclaw.chat.exchanges import claim_exchange
from metaclaw.chat.messages import canonical_json, freeze
from metaclaw.chat.openai_chat import ChatAnswer, parse_answer
from metaclaw.chat.sse import SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.policy import PolicyChoice, read_sample
from metaclaw.gateway.recording_path import RecordingPath
from metaclaw.journal.turns import EndState, NewTurn, PolicySample, RawAnswer, TurnEnd, TurnJournal

Clock = Callable[[], float]


class Recorder:
    """Opens records, and knows which of them are not closed yet."""

    def __init__(self, journal: TurnJournal, path: RecordingPath, clock: Clock) -> None:
        self.journal = journal
        self.path = path
        self.clock = clock
        self._open_turns: set[str] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def begin(self, turn_id: str) -> TurnRecord:
        """The record of a turn; whoever has it must close it, whatever becomes of ``open``."""
        self._open_turns.add(turn_id)
        self._is_idle.clear()
        return TurnRecord(self, turn_id)

    def forget(self, turn_id: str) -> None:
        """Note that a turn is closed."""
        self._open_turns.discard(turn_id)
        if not self._open_turns:
            self._is_idle.set()

    async def drain(self, limit_s: float) -> None:
        """Wait until every turn is closed, but not for ever."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_idle.wait(), limit_s)


class TurnRecord:
    """The row of one turn. Nothing it does raises; only the first ``close`` counts."""

    def __init__(self, recorder: Recorder, turn_id: str) -> None:
        self.turn_id = turn_id
        self._recorder = recorder
        self._first_byte_at: float | None = None
        self._upstream: str | None = None
        self._policy: PolicyChoice | None = None
        self.is_closed = False

    async def open(self, request: ClientRequest, caller: Caller, *, upstream: str, recalled: tuple[str, ...]) -> None:
        """Record that the turn begins."""
        recorder, turn_id = self._recorder, self.turn_id

        async def work() -> None:
            claim = claim_exchange(caller.agent, caller.session, request.messages, run=caller.run, trace=caller.trace)
            await recorder.journal.open_turn(
                NewTurn(
                    id=turn_id,
                    agent=caller.agent,
                    session=caller.session,
                    exchange=claim.first_id(turn_id),
                    continues=claim.continues,
                    kind=caller.kind,
                    dialect=request.dialect,
                    model=request.model,
                    upstream=upstream,
                    request=canonical_json(_without_messages(request)),
                    messages=tuple(freeze(message) for message in request.messages),
                    recalled=recalled,
                    opened_at=recorder.clock(),
                )
            )

        await recorder.path.attempt(f"record the opening of {turn_id}", work, None)

    def begin_answer(self, upstream: str, policy: PolicyChoice | None) -> None:
        """Note who answers, at the first byte of the answer."""
        self._first_byte_at = self._recorder.clock()
        self._upstream, self._policy = upstream, policy

    async def close(
        self,
        state: EndState,
        answer: ChatAnswer | None = None,
        *,
        raw: RawAnswer | None = None,
        status: int | None = None,
        error: str | None = None,
    ) -> None:
        """Record how the turn ended, with what was sampled if the policy answered all of it.

        ``raw`` is an answer that nobody has read yet.
        """
        if self.is_closed:
            return
        self.is_closed = True
        answer = _read_answer(raw) if raw is not None else answer
        recorder = self._recorder
        sample = None if answer is None or state != "done" else await self._sample(answer)

        def end() -> TurnEnd:
            return TurnEnd(
                state=state,
                closed_at=recorder.clock(),
                answer=freeze(answer.message) if answer and answer.message else None,
                finish_reason=answer.finish_reason if answer else None,
                status=status,
                error=error,
                usage=answer.usage if answer else None,
                first_byte_at=self._first_byte_at,
                upstream=self._upstream,
                sample=sample,
            )

        try:
            if not await self._end(end) and sample is not None:
                # A sample that the journal refuses must not take the answer with it.
                await self._end(lambda: replace(end(), sample=None))
        finally:
            recorder.forget(self.turn_id)

    async def _end(self, end: Callable[[], TurnEnd]) -> bool:
        async def work() -> bool:
            await self._recorder.journal.close_turn(self.turn_id, end())
            return True

        return await self._recorder.path.attempt(f"record the end of {self.turn_id}", work, False)

    async def _sample(self, answer: ChatAnswer) -> PolicySample | None:
        record, policy = answer.policy_record, self._policy
        if record is None or policy is None:
            return None

        async def work() -> PolicySample:
            return read_sample(record, policy)

        # Apart from the turn: a policy record that cannot be read must not take the answer with it.
        return await self._recorder.path.attempt(f"read the policy record of {self.turn_id}", work, None)


def _without_messages(request: ClientRequest) -> dict[str, object]:
    return {key: value for key, value in request.body.items() if key not in ("messages", "input", "system")}


def _read_answer(raw: RawAnswer) -> ChatAnswer:
    dialect = DIALECTS[raw.dialect]
    if not raw.content_type.startswith("text/event-stream"):
        return parse_answer(dialect.answer_to_chat(json.loads(raw.body)))
    source, parser, assembler = dialect.source(), SseParser(), StreamAssembler()
    for event in [*parser.feed(raw.body), *parser.finish()]:
        for chunk in source.add_event(event):
            assembler.add(chunk)
    return assembler.answer()
