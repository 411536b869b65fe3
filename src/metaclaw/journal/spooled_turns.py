"""What the gateway says of a turn at the moment, and what it means.

Owns the two records of a turn, made on the event loop at the cost of a small header, and read on the writing thread,
where what is dear is done: messages and their hashes, the exchange, the assembling of an answer, its usage and its
price; refuses to know transactions and files. Invariant: reading is pure, so a record that is read again after a crash
says the same.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable

from metaclaw.chat.dialect import CONVERSATION_KEYS, ClientRequest
from metaclaw.chat.dialects import DIALECTS
from metaclaw.chat.exchanges import claim_exchange
from metaclaw.chat.messages import JsonObject, canonical_json, freeze
from metaclaw.chat.openai_chat import ChatAnswer, parse_answer
from metaclaw.chat.sse import SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.fixed import fixed
from metaclaw.journal.database import is_of_the_record
from metaclaw.journal.policy_records import PolicyOrigin, SampledBy, read_sample
from metaclaw.journal.spool import SpoolRecord
from metaclaw.journal.turn_records import Cost, EndState, NewTurn, RawAnswer, TurnEnd, TurnKind, Weighed
from metaclaw.journal.turn_rows import cut_open_turns, end_turn, insert_sample, insert_turn
from metaclaw.journal.unsaid_usage import answer_tokens, estimated_usage

_log = logging.getLogger(__name__)

_EVENTS = "text/event-stream"

CUT = SpoolRecord(header={"what": "cut"})  # whatever is open now is of a process that is dead

Pricer = Callable[[str, str, TokenCounts], Cost | None]
"""The cost of an answer by its upstream, its model and its usage; ``None`` when nobody knows the price."""


@fixed
class TurnOpening:
    """A turn before its upstream is called. ``body`` is what the client sent, ``request`` what it was read as."""

    id: str
    agent: str
    session: str
    kind: TurnKind
    upstream: str
    opened_at: float
    request: ClientRequest
    body: bytes
    run: str | None = None
    trace: str | None = None
    recalled: tuple[str, ...] = ()
    weighed: tuple[Weighed, ...] = ()
    user: str | None = None
    workspace: str | None = None
    memory_scope: str | None = None
    access_key: str | None = None
    received_at: float | None = None
    recall_s: float | None = None

    def record(self) -> SpoolRecord:
        """It as it is spooled."""
        header: JsonObject = {
            "what": "open",
            "dialect": self.request.dialect,
            "model": self.request.model,
            "id": self.id,
            "agent": self.agent,
            "session": self.session,
            "kind": self.kind,
            "upstream": self.upstream,
            "opened_at": self.opened_at,
            "run": self.run,
            "trace": self.trace,
            "recalled": self.recalled,
            "access_key": self.access_key,
            "received_at": self.received_at,
            "recall_s": self.recall_s,
        }
        told = {"user": self.user, "workspace": self.workspace, "memory_scope": self.memory_scope}
        header |= {name: value for name, value in told.items() if value is not None}  # few clients tell
        if self.weighed:
            header["weighed"] = [(one.kind, one.item, one.score, one.outcome) for one in self.weighed]
        return SpoolRecord(header=header, parts=(self.body,), known=self.request)


@fixed
class TurnEnding:
    """How a turn ended; its answer as it came, or read already. ``policy`` is who sampled it, if all of it is there."""

    id: str
    state: EndState
    closed_at: float
    status: int | None = None
    error: str | None = None
    upstream: str | None = None
    model: str | None = None
    first_byte_at: float | None = None
    queue_s: float | None = None
    wait_s: float | None = None
    attempts: tuple[JsonObject, ...] = ()
    num_dropped: int = 0
    answer: ChatAnswer | RawAnswer | None = None
    policy: SampledBy | None = None

    def record(self) -> SpoolRecord:
        """It as it is spooled."""
        header: JsonObject = {
            "what": "end",
            "id": self.id,
            "state": self.state,
            "closed_at": self.closed_at,
            "status": self.status,
            "error": self.error,
            "upstream": self.upstream,
            "model": self.model,
            "first_byte_at": self.first_byte_at,
            "queue_s": self.queue_s,
            "wait_s": self.wait_s,
            "attempts": self.attempts,
            "num_dropped": self.num_dropped,
        }
        if (policy := self.policy) is not None:
            header["policy"] = [policy.agent, policy.version, policy.model, policy.untrainable]
        if isinstance(self.answer, RawAnswer):
            header["raw"] = [self.answer.dialect, self.answer.content_type]
            return SpoolRecord(header=header, parts=(self.answer.body,))
        if self.answer is None:
            return SpoolRecord(header=header)
        return SpoolRecord(header=header, parts=(_answer_json(self.answer),), known=self.answer)


@fixed
class TurnSettled:
    """What is known of a turn once its end was read: what it used and what that cost.

    ``charged`` and ``charged_cost`` are the same, or an estimate where the model did not say; of a turn without an
    answer there is none.
    """

    id: str
    state: EndState
    upstream: str
    tokens: TokenCounts | None
    cost: Cost | None
    charged: TokenCounts | None = None
    charged_cost: Cost | None = None


class TurnScribe:
    """Writes spooled records into ``turns.db``."""

    def __init__(self, pricer: Pricer) -> None:
        self.num_refused_samples = 0
        self._pricer = pricer

    def write(self, connection: sqlite3.Connection, record: SpoolRecord) -> TurnSettled | None:
        """Write ``record`` within a transaction; what is settled by it."""
        what = record.header["what"]
        if what == "cut":
            cut_open_turns(connection)
        elif what == "open":
            insert_turn(connection, _new_turn(record))
        else:
            return self._end(connection, record)
        return None

    def _end(self, connection: sqlite3.Connection, record: SpoolRecord) -> TurnSettled | None:
        header = record.header
        answer = _answer(record)
        upstream, model = connection.execute(
            "SELECT upstream, model FROM turns WHERE id = ?", (header["id"],)
        ).fetchone() or ("", "")
        upstream = header["upstream"] or upstream
        tokens = token_counts(answer.usage) if answer else None
        model = header["model"] or (answer and answer.model) or model
        charged = tokens
        if charged is None and answer is not None and answer.message is not None:
            charged = estimated_usage(connection, header["id"], answer)
        charged_cost = None if charged is None else self._pricer(upstream, model, charged)
        cost = None if tokens is None else charged_cost
        if not end_turn(connection, header["id"], _turn_end(header, answer, tokens, cost)):
            return None
        if answer is not None and answer.policy_record is not None and header["state"] == "done":
            self._sample(connection, header, answer.policy_record)
        return TurnSettled(
            id=header["id"],
            state=header["state"],
            upstream=upstream,
            tokens=tokens,
            cost=cost,
            charged=charged,
            charged_cost=charged_cost,
        )

    def unwritten(
        self, turn_id: str, state: EndState, *, upstream: str, model: str | None, answer: ChatAnswer | RawAnswer | None
    ) -> TurnSettled:
        """What a turn took that cannot be written yet: as far as it is known without the turns before it.

        Raises ``ValueError`` where the answer cannot be read.
        """
        said = read_answer(answer) if isinstance(answer, RawAnswer) else answer
        tokens = charged = token_counts(said.usage) if said else None
        if charged is None and said is not None and said.message is not None:
            charged = TokenCounts(prompt=0, completion=answer_tokens(said))
        cost = None if charged is None else self._pricer(upstream, model or (said and said.model) or "", charged)
        return TurnSettled(
            id=turn_id,
            state=state,
            upstream=upstream,
            tokens=tokens,
            cost=None if tokens is None else cost,
            charged=charged,
            charged_cost=cost,
        )

    def _sample(self, connection: sqlite3.Connection, header: JsonObject, policy_record: JsonObject) -> None:
        if header.get("policy") is None:
            return
        agent, version, model, untrainable = header["policy"]
        origin = PolicyOrigin(agent=agent, version=version, model=model, untrainable=untrainable)
        connection.execute("SAVEPOINT sample")
        try:
            insert_sample(connection, header["id"], read_sample(policy_record, origin))
        except (ValueError, KeyError, TypeError, OverflowError, sqlite3.Error) as error:
            # A sample that cannot be kept must not take the answer with it.
            if isinstance(error, sqlite3.Error) and not is_of_the_record(error):
                raise
            self.num_refused_samples += 1
            _log.warning("the policy record of %s cannot be kept: %s", header["id"], error)
            connection.execute("ROLLBACK TO sample")
        connection.execute("RELEASE sample")


def _new_turn(record: SpoolRecord) -> NewTurn:
    header = record.header
    request = _request(record)
    messages = request.messages if request else []
    claim = claim_exchange(header["agent"], header["session"], messages, run=header["run"], trace=header["trace"])
    body = {key: value for key, value in request.body.items() if key not in CONVERSATION_KEYS} if request else {}
    return NewTurn(
        id=header["id"],
        agent=header["agent"],
        session=header["session"],
        exchange=claim.first_id(header["id"]),
        continues=claim.continues,
        kind=header["kind"],
        dialect=header["dialect"],
        model=header["model"],
        upstream=header["upstream"],
        request=canonical_json(body),
        messages=tuple(map(freeze, messages)),
        recalled=tuple(header["recalled"]),
        weighed=tuple(
            Weighed(kind=kind, item=item, score=score, outcome=outcome)
            for kind, item, score, outcome in header.get("weighed", ())
        ),
        user=header.get("user"),
        workspace=header.get("workspace"),
        memory_scope=header.get("memory_scope"),
        access_key=header["access_key"],
        received_at=header["received_at"],
        recall_s=header["recall_s"],
        opened_at=header["opened_at"],
    )


def _request(record: SpoolRecord) -> ClientRequest | None:
    if record.known is not None or not record.parts:
        return record.known
    return DIALECTS[record.header["dialect"]].parse(json.loads(record.parts[0]))


def _turn_end(header: JsonObject, answer: ChatAnswer | None, tokens: TokenCounts | None, cost: Cost | None) -> TurnEnd:
    return TurnEnd(
        state=header["state"],
        closed_at=header["closed_at"],
        answer=freeze(answer.message) if answer and answer.message else None,
        finish_reason=answer.finish_reason if answer else None,
        status=header["status"],
        error=header["error"],
        usage=answer.usage if answer else None,
        first_byte_at=header["first_byte_at"],
        upstream=header["upstream"],
        queue_s=header["queue_s"],
        wait_s=header["wait_s"],
        tokens=tokens,
        cost=cost,
        attempts=tuple(header["attempts"]),
        num_dropped=header["num_dropped"],
        other_answers=answer.others if answer else (),
    )


def _answer(record: SpoolRecord) -> ChatAnswer | None:
    if record.known is not None or not record.parts:
        return record.known
    if (raw := record.header.get("raw")) is None:
        fields: JsonObject = json.loads(record.parts[0])
        fields["others"] = tuple(fields["others"])
        return ChatAnswer(**fields)
    dialect, content_type = raw
    return read_answer(RawAnswer(dialect=dialect, content_type=content_type, body=record.parts[0]))


def read_answer(raw: RawAnswer) -> ChatAnswer:
    """What a raw answer says. Raises ``ValueError`` for a plain one that is not JSON."""
    dialect = DIALECTS[raw.dialect]
    if not raw.content_type.startswith(_EVENTS):
        return parse_answer(dialect.answer_to_chat(json.loads(raw.body)))
    source, parser, assembler = dialect.source(), SseParser(), StreamAssembler()
    for event in [*parser.feed(raw.body), *parser.finish()]:
        for chunk in source.add_event(event):
            assembler.add(chunk)
    return assembler.answer()


def _answer_json(answer: ChatAnswer) -> bytes:
    fields = {
        "message": answer.message,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "policy_record": answer.policy_record,
        "others": answer.others,
        "model": answer.model,
    }
    return json.dumps(fields, separators=(",", ":")).encode()
