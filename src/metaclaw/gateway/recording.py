"""What is recorded of a turn, and when.

Owns filling the journal's records from a request and its answer; refuses to know routes and transport. Invariant: a
turn is recorded as open before anything of an answer is passed on, and closed once, before the end of the answer is;
recording costs some microseconds, waits for nothing and never raises.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from metaclaw.chat.dialect import ClientRequest
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.fixed import fixed
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.policy import PolicyChoice
from metaclaw.gateway.recording_path import RecordingPath
from metaclaw.journal.spooled_turns import TurnEnding, TurnOpening, TurnSettled
from metaclaw.journal.turns import EndState, RawAnswer, TurnJournal, Weighed

Clock = Callable[[], float]


class Recorder:
    """Opens records, and knows which of them are not closed yet. Make it in the event loop."""

    def __init__(self, journal: TurnJournal, path: RecordingPath, clock: Clock) -> None:
        self.journal = journal
        self.path = path
        self.clock = clock
        self.on_opened: list[Callable[[str, Caller], None]] = []
        self.on_closed: list[Callable[[ClosedTurn], None]] = []  # in the next round of the loop
        self.on_ended: list[Callable[[str, ChatAnswer | RawAnswer | None], None]] = []  # then too, with the answer
        self.on_settled: list[Callable[[Sequence[TurnSettled]], None]] = []  # once they are in the journal
        self.on_unwritten: list[Callable[[Sequence[TurnSettled]], None]] = []  # where that takes long, before
        self._open_turns: set[str] = set()
        self._when_idle: asyncio.Event | None = None  # somebody waits for it
        self.loop = loop = asyncio.get_running_loop()
        journal.on_settled(lambda turns: _call_soon(loop, self._tell, turns))

    def begin(self, turn_id: str, *, received_at: float | None = None) -> TurnRecord:
        """The record of a turn; whoever has it must close it, whatever becomes of ``open``."""
        self._open_turns.add(turn_id)
        return TurnRecord(self, turn_id, received_at)

    def forget(self, turn_id: str) -> None:
        """Note that a turn is closed."""
        self._open_turns.discard(turn_id)
        if self._when_idle is not None and not self._open_turns:
            self._when_idle.set()

    async def drain(self, limit_s: float) -> None:
        """Wait until every turn is closed, but not for ever."""
        if self._open_turns:
            self._when_idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._when_idle.wait(), limit_s)

    async def flush(self) -> None:
        """Wait until what was recorded can be read. Raises ``JournalError`` when the journal is behind for long."""
        await self.journal.flush()

    @property
    def num_open(self) -> int:
        return len(self._open_turns)

    @property
    def num_failures(self) -> int:
        """How often something could not be recorded at once, or not as it was."""
        return self.path.num_failures + self.journal.state.num_failures

    def health(self) -> JsonObject:
        """How recording fares, for whoever asks whether we are well; nothing that was said, no path and no name."""
        state = self.journal.state
        return {
            "recording_failures": self.num_failures,
            "journal": "ok" if state.trouble is None else "failing",
            "spool_records": state.backlog.num_records,
            "spool_bytes": state.backlog.num_bytes,
            "records_in_memory": state.backlog.num_held,
            "records_lost": state.backlog.num_lost,
        }

    def _tell(self, turns: Sequence[TurnSettled]) -> None:
        for tell in self.on_settled:
            tell(turns)


@fixed
class ClosedTurn:
    """A turn that is over: who answered, and what passed since its request."""

    state: EndState
    upstream: str
    added_s: float | None  # until a model was asked
    first_byte_s: float | None
    total_s: float


class TurnRecord:
    """The row of one turn. Nothing it does raises; only the first ``close`` counts."""

    def __init__(self, recorder: Recorder, turn_id: str, received_at: float | None) -> None:
        self.turn_id = turn_id
        self.is_closed = False
        self._is_open = False  # its opening is recorded
        self.attempts: list[JsonObject] = []  # at upstreams, one after another
        self.num_dropped = 0  # messages that were left out for the context limit
        self._recorder = recorder
        self._received_at = received_at
        self._opened_at: float | None = None
        self._queue_s: float | None = None
        self._first_byte_at: float | None = None
        self._opened_for = "none"
        self._upstream: str | None = None
        self._model: str | None = None
        self._policy: PolicyChoice | None = None

    def sending(self) -> float:
        """Note that a model is asked now; ``open`` may follow while it works."""
        self._opened_at = now = self._recorder.clock()
        return now

    def open(
        self,
        request: ClientRequest,
        body: bytes,
        caller: Caller,
        *,
        upstream: str,
        recalled: tuple[str, ...] = (),
        weighed: tuple[Weighed, ...] = (),
        recall_s: float | None = None,
    ) -> None:
        """Record that the turn begins, unless it is over. ``body`` is the client's own."""
        if self.is_closed:
            return
        recorder = self._recorder
        opened_at = self.sending() if self._opened_at is None else self._opened_at
        self._opened_for = upstream
        if self._received_at is not None:
            self._queue_s = max(0.0, opened_at - self._received_at - (recall_s or 0.0))
        opening = TurnOpening(
            id=self.turn_id,
            agent=caller.agent,
            session=caller.session,
            kind=caller.kind,
            run=caller.run,
            trace=caller.trace,
            request=request,
            body=body,
            upstream=upstream,
            recalled=recalled,
            weighed=weighed,
            user=caller.user,
            workspace=caller.workspace,
            memory_scope=caller.memory_scope,
            access_key=caller.key,
            received_at=self._received_at,
            recall_s=recall_s,
            opened_at=opened_at,
        )
        recorder.path.run("record the opening of", self.turn_id, self._spool_opening, opening, caller)

    def begin_answer(self, upstream: str, policy: PolicyChoice | None, *, model: str | None = None) -> None:
        """Note who answers, at the first byte of the answer."""
        self._first_byte_at = self._recorder.clock()
        self._upstream, self._policy, self._model = upstream, policy, model

    def close(
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
        recorder, closed_at = self._recorder, self._recorder.clock()
        ending = TurnEnding(
            id=self.turn_id,
            state=state,
            closed_at=closed_at,
            status=status,
            error=error,
            upstream=self._upstream,
            model=self._model,
            first_byte_at=self._first_byte_at,
            wait_s=self._since_opening(self._first_byte_at),
            queue_s=self._queue_s,
            attempts=tuple(self.attempts),
            num_dropped=self.num_dropped,
            answer=answer if raw is None else raw,
            policy=self._policy,
        )
        recorder.path.run("record the end of", self.turn_id, self._spool_ending, ending)
        # What is left to do is not what the client waits for: the loop first writes what is sent in this step.
        recorder.loop.call_soon(self._ended, state, closed_at, answer if raw is None else raw)

    def _spool_opening(self, opening: TurnOpening, caller: Caller) -> None:
        self._recorder.journal.append(opening.record())
        self._is_open = True
        for tell in self._recorder.on_opened:
            tell(self.turn_id, caller)

    def _spool_ending(self, ending: TurnEnding) -> None:
        if self._is_open:  # of a turn without an opening there is nothing to end
            self._recorder.journal.append(ending.record())

    def _ended(self, state: EndState, closed_at: float, answer: ChatAnswer | RawAnswer | None) -> None:
        recorder = self._recorder
        recorder.path.run("count", self.turn_id, self._tell, state, closed_at)
        for tell in recorder.on_ended:
            tell(self.turn_id, answer)
        if recorder.journal.is_failing:
            recorder.path.run("reckon", self.turn_id, self._reckon, state, answer)
        recorder.forget(self.turn_id)

    def _reckon(self, state: EndState, answer: ChatAnswer | RawAnswer | None) -> None:
        """Say what it took now: budgets hold as well while nothing can be written, for days perhaps."""
        upstream = self._upstream or self._opened_for
        taken = self._recorder.journal.unwritten(
            self.turn_id, state, upstream=upstream, model=self._model, answer=answer
        )
        for tell in self._recorder.on_unwritten:
            tell([taken])

    def _tell(self, state: EndState, closed_at: float) -> None:
        if not self._recorder.on_closed:
            return
        began_at = self._received_at or self._opened_at or closed_at
        turn = ClosedTurn(
            state=state,
            upstream=self._upstream or self._opened_for,
            added_s=_passed(began_at, self._opened_at),
            first_byte_s=_passed(began_at, self._first_byte_at),
            total_s=max(0.0, closed_at - began_at),
        )
        for tell in self._recorder.on_closed:
            tell(turn)

    def _since_opening(self, moment: float | None) -> float | None:
        return None if self._opened_at is None else _passed(self._opened_at, moment)


def _passed(since: float, moment: float | None) -> float | None:
    # A clock that was set back meanwhile knows nothing of it; less than nothing would make what is counted shrink.
    return None if moment is None else max(0.0, moment - since)


def _call_soon(
    loop: asyncio.AbstractEventLoop, tell: Callable[[Sequence[TurnSettled]], None], turns: Sequence[TurnSettled]
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: whoever would have been told is gone
        loop.call_soon_threadsafe(tell, turns)
