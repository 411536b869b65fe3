"""Sessions of clients that name none, by what was said in them.

Owns the recent turns of such sessions in memory and the rules that say which session a request belongs to; refuses to
know headers and how turns are recorded. Invariant: two people who use one model are never mixed: of two turns in one
session the one continues the other, or what the one had said, answer included, the other had said word for word.

A request that is sent again after nothing came of it belongs where it did. Else one without an answer in it begins a
session, and one with answers continues the turn that asked what comes before its last answer, and was given that
answer. If there are several such turns, the one that nobody has gone on from yet is taken, the newest first. If all
have been gone on from, it is an edit or another try, if they are of one session and the end of the history is long
enough to be somebody's own (``MIN_EVIDENCE`` characters in the last answer and the three messages before it); otherwise
nobody can know, and a new session begins. Of several answers to one request (``n``) each was given. What a request ends
with in the model's name, unless it was given, is the beginning of the answer to come. Of an answer that broke off, or
was stopped, the client may have had a part, if that is as long by itself. A history that was cut at its beginning, or
lost its tool calls, is recognised by its end under the same condition, if only one session ends so.

A client of responses that leaves its history to the provider (``previous_response_id``) says which answer it goes on
from: it is in the session of the turn that was given that answer, as long as that is remembered.

Limits: ``MAX_TURNS`` turns and ``MAX_BYTES`` of answers are remembered, and of turns that asked the same the newest
``MAX_ALIKE``. Others, and those of before a restart, are looked up in the journal, which knows a history only as long
as the client repeats every byte of it, system prompt included. A client that rewrites the answers that it was given has
a session per request, and two people whose words and answers are the same from the beginning can be taken for one
another until they differ. Whoever can should send ``X-Session-Id``.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from metaclaw.chat.messages import JsonObject, answer_identity, text_of
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.errors import JournalError
from metaclaw.gateway.history import History, read_history
from metaclaw.journal.past_turns import PastTurn

MAX_TURNS = 4096
MAX_BYTES = 16 * 1024 * 1024
MAX_ALIKE = 64
MIN_EVIDENCE = 64

_PART = 4096  # characters of an answer that broke off

ReadAnswer = Callable[[], ChatAnswer | None]


class PastTurns(Protocol):
    """What the journal knows."""

    async def that_asked(
        self, messages: Sequence[JsonObject], *, agent: str, prefix: str, limit: int
    ) -> list[PastTurn]: ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Turn:
    id: str
    session: str
    request: bytes
    window: bytes
    context: bytes
    previous: str | None
    begun: str = ""  # of its answer, by the client
    is_open: bool = True
    answers: frozenset[bytes] = frozenset()
    part: str = ""  # of an answer that broke off, of which its client may have had less
    read: ReadAnswer | None = None  # an answer that nobody has looked at yet
    num_bytes: int = 0


class Conversations:
    """Used on the event loop alone."""

    def __init__(self, past: PastTurns | None = None) -> None:
        self._past = past
        self._turns: OrderedDict[str, _Turn] = OrderedDict()
        # Lists, for nearly all have one turn: an empty deque alone takes 624 bytes.
        self._by_request: dict[bytes, list[_Turn]] = {}
        self._by_window: dict[bytes, list[_Turn]] = {}
        self._newest: dict[str, str] = {}  # of each session its newest turn
        self._linked: dict[str, str] = {}  # of running turns that go on from a response, their sessions
        self._responses: OrderedDict[str, str] = OrderedDict()  # the sessions of kept responses, by their ids
        self._num_bytes = 0

    def begin(
        self,
        turn_id: str,
        messages: Sequence[JsonObject],
        *,
        agent: str,
        who: str,
        is_side: bool = False,
        after: str | None = None,
    ) -> str | Coroutine[Any, Any, str]:
        """The session of a turn that begins; where the journal has to be asked, what asks it, to be awaited.

        ``who`` has the token; a side turn leaves no trace; ``after`` is the id of the response that it goes on from.
        """
        prefix = _prefix(who, agent)
        if after is not None and (session := self._responses.get(after, "")).startswith(prefix):
            if not is_side:
                self._linked[turn_id] = session
            return session
        scope = prefix.encode()
        history = read_history(scope, messages, is_begun=True)
        session = self._remembered(read_history(scope, messages)) if history.begun else None
        if session is None:
            session = self._remembered(history)
        if session is None and history.answer is not None and self._past is not None:
            return self._begin_after_asking(self._past, turn_id, messages, history, prefix, agent, is_side)
        return self._begun(turn_id, session, history, prefix, is_side)

    def end(self, turn_id: str, read: ReadAnswer | None, *, num_bytes: int = 0, response_id: str | None = None) -> None:
        """A turn is over; ``read`` gives its answer (called at most once), ``None`` when nothing came of it.

        ``response_id`` is what the provider calls the answer, if it may keep it.
        """
        turn = self._turns.get(turn_id)
        session = self._linked.pop(turn_id, None) or (turn and turn.session)
        if response_id is not None and session:
            self._responses[response_id] = session
            if len(self._responses) > MAX_TURNS:
                self._responses.popitem(last=False)
        if turn is None or not turn.is_open:
            return
        turn.is_open = False
        turn.read, turn.num_bytes = read, num_bytes
        self._num_bytes += num_bytes
        while self._num_bytes > MAX_BYTES:
            self._forget(next(iter(self._turns)))

    async def _begin_after_asking(
        self,
        past: PastTurns,
        turn_id: str,
        messages: Sequence[JsonObject],
        history: History,
        prefix: str,
        agent: str,
        is_side: bool,
    ) -> str:
        session = await self._looked_up(past, history, messages, agent, prefix)
        return self._begun(turn_id, session, history, prefix, is_side)

    def _begun(self, turn_id: str, session: str | None, history: History, prefix: str, is_side: bool) -> str:
        session = session or prefix + turn_id.removeprefix("turn-")[:24]
        if not is_side:
            self._add(turn_id, session, history)
        return session

    def _remembered(self, history: History) -> str | None:
        tried = self._tried_before(history)
        if tried is not None or history.before is None:
            return tried
        given = self._given(self._by_request.get(history.before, ()), history)
        if given:
            return self._chosen(given, history)
        if history.window_before is None or history.evidence < MIN_EVIDENCE:
            return None
        ends = self._given(self._by_window.get(history.window_before, ()), history)
        sessions = {turn.session for turn in ends if self._newest.get(turn.session) == turn.id}
        return sessions.pop() if len(sessions) == 1 else None

    def _tried_before(self, history: History) -> str | None:
        for turn in reversed(self._by_request.get(history.request, ())):
            came_to_nothing = not turn.is_open and turn.read is None and not turn.answers
            if came_to_nothing and turn.context == history.context and self._newest.get(turn.session) == turn.id:
                return turn.session
        return None

    def _given(self, turns: Sequence[_Turn], history: History) -> list[_Turn]:
        given = [turn for turn in turns if self._was_given(turn, history)]
        # Who was given all of it goes before who may have read as much of another answer that begins so.
        given = [turn for turn in given if history.answer in turn.answers] or given
        return [turn for turn in given if turn.context == history.context] or given

    def _chosen(self, given: Sequence[_Turn], history: History) -> str:
        # Empty when nobody can know: then it is a session of its own, whatever the journal says.
        waiting = [turn for turn in given if self._newest.get(turn.session) == turn.id]
        if waiting:
            return waiting[-1].session
        if history.evidence < MIN_EVIDENCE:
            return ""
        sessions = {turn.session for turn in given}
        if len(sessions) > 1:
            sessions &= {turn.session for turn in self._by_request.get(history.request, ())}
        return sessions.pop() if len(sessions) == 1 else ""

    async def _looked_up(
        self, past: PastTurns, history: History, messages: Sequence[JsonObject], agent: str, prefix: str
    ) -> str | None:
        asked = messages[: history.answer_index]
        try:
            found = await past.that_asked(asked, agent=agent, prefix=prefix, limit=MAX_ALIKE)
        except JournalError:
            return None  # a session more is less harm than an answer less
        given = [turn for turn in found if any(answer_identity(one) == history.answer for one in turn.answers)]
        given = given or [turn for turn in found if turn.is_cut and _has_read(_part(turn.answers), history)]
        waiting = [turn for turn in given if turn.is_newest and turn.session not in self._newest]
        if waiting:
            return waiting[0].session
        sessions = {turn.session for turn in given}
        return sessions.pop() if len(sessions) == 1 and history.evidence >= MIN_EVIDENCE else None

    def _was_given(self, turn: _Turn, history: History) -> bool:
        if turn.read is not None:
            answer = turn.read()
            self._num_bytes -= turn.num_bytes
            turn.read, turn.num_bytes = None, 0
            if answer is not None:
                _keep(turn, answer)
        if history.answer in turn.answers:
            return True
        return _has_read(turn.part, history)

    def _add(self, turn_id: str, session: str, history: History) -> None:
        turn = _Turn(
            id=turn_id,
            session=session,
            request=history.request,
            window=history.window,
            context=history.context,
            begun=history.begun,
            previous=self._newest.get(session),
        )
        self._turns[turn_id] = turn
        self._newest[session] = turn_id
        ends = self._by_window.setdefault(turn.window, [])
        ends.append(turn)
        if len(ends) > MAX_ALIKE:
            del ends[0]
        alike = self._by_request.setdefault(turn.request, [])
        alike.append(turn)
        if len(alike) > MAX_ALIKE:
            self._forget(alike[0].id)
        elif len(self._turns) > MAX_TURNS:
            self._forget(next(iter(self._turns)))

    def _forget(self, turn_id: str) -> None:
        turn = self._turns.pop(turn_id)
        self._num_bytes -= turn.num_bytes
        for index, key in ((self._by_request, turn.request), (self._by_window, turn.window)):
            alike = index.get(key)
            if alike is None:
                continue
            if turn in alike:
                alike.remove(turn)
            if not alike:
                del index[key]
        if self._newest.get(turn.session) == turn_id:
            if turn.previous in self._turns:
                self._newest[turn.session] = turn.previous
            else:
                del self._newest[turn.session]


def _keep(turn: _Turn, answer: ChatAnswer) -> None:
    messages: list[Mapping[str, Any]] = [*answer.messages]
    if turn.begun:  # some models repeat what they went on from, others do not
        messages += [{**one, "content": turn.begun + text_of(one.get("content"))} for one in messages]
    turn.answers = frozenset(map(answer_identity, messages))
    if answer.finish_reason is None and messages:
        turn.part = _part(messages)


def _part(answers: Sequence[Mapping[str, Any]]) -> str:
    """Of an answer that broke off, by what its client may know it."""
    return text_of(answers[-1].get("content")).strip()[:_PART]


def _has_read(part: str, history: History) -> bool:
    # What was asked may be anybody's: applications ask all their users' models the same.
    return len(history.said) >= MIN_EVIDENCE and part.startswith(history.said[:_PART])


@lru_cache(maxsize=1024)
def _prefix(who: str, agent: str) -> str:
    scope = hashlib.blake2b(f"{who}\n{agent}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"auto-{scope}-"
