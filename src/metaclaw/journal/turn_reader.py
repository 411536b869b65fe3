"""Reading ``turns.db``, for the learner and the command line.

Owns the queries; refuses to write. Invariant: every method fetches all it needs and returns, so that no read
transaction outlives a call and the writer's log can always be checkpointed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from metaclaw.chat.humans import human_text, is_human
from metaclaw.chat.messages import JsonObject, text_of
from metaclaw.errors import JournalError
from metaclaw.journal.database import open_reader
from metaclaw.journal.recall_blocks import memories_in_blocks, select_weighed
from metaclaw.journal.turn_records import (
    Activity,
    Feedback,
    PolicySample,
    RecordedExchange,
    RecordedTurn,
    TurnRecalls,
    Weighed,
    exchange_key,
)

_SCHEMA = 3  # the oldest whose columns are read here
_MOST_AT_ONCE = 64  # turns that run beside each other
_TURN = """
    SELECT t.seq, t.id, t.agent, t.session, t.exchange, t.kind, t.dialect, t.model, t.upstream, t.request, t.head,
        t.recalled, t.state, a.body AS answer, t.finish_reason, t.status, t.error, t.usage, t.opened_at,
        t.first_byte_at, t.closed_at, t.received_at, t.recall_s, t.queue_s, t.wait_s, t.prompt_tokens,
        t.completion_tokens, t.cached_tokens, t.reasoning_tokens, t.cost_usd, t.price, t.attempts, t.num_dropped,
        t.other_answers, t.access_key, t.user, t.workspace, t.memory_scope
    FROM turns AS t LEFT JOIN messages AS a ON a.hash = t.answer
"""
# A turn with which its exchange begins. Of loops that run at once in a session none goes on from another.
_BEGINS = """NOT EXISTS (
    SELECT 1 FROM turns AS earlier WHERE earlier.exchange = {0}.exchange AND earlier.seq < {0}.seq
        AND earlier.kind = 'main'
)"""
_CHAIN = """
    WITH RECURSIVE history (depth, parent, message) AS (
        SELECT 0, parent, message FROM links WHERE hash = :head
        UNION ALL
        SELECT depth + 1, links.parent, links.message FROM links JOIN history ON links.hash = history.parent
    )
    SELECT messages.body FROM history JOIN messages ON messages.hash = history.message ORDER BY depth DESC
"""


class TurnReader:
    """A read-only view. One thread at a time may use it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row

    @classmethod
    def open(cls, path: Path) -> TurnReader:
        """Open ``turns.db``; raises ``JournalError`` when there is none, or none of this release yet."""
        connection = open_reader(path)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < _SCHEMA:
            connection.close()
            if version == 0:  # at the first start of all
                raise JournalError(f"{path} is being made; it is there once the gateway has started")
            raise JournalError(f"{path} is of an older release; the gateway brings it up to date when it starts")
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> TurnReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """What is read within belongs together, whatever is written or given up meanwhile. Raises ``JournalError``."""
        try:
            self._connection.execute("BEGIN")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalError(f"the journal cannot be read: {error}; `metaclaw journal verify` says more") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def turn(self, turn_id: str) -> RecordedTurn | None:
        """One turn by its id."""
        row = self._connection.execute(f"{_TURN} WHERE t.id = ?", (turn_id,)).fetchone()
        return None if row is None else _turn(row)

    def turns(self, *, after_seq: int = 0, agent: str | None = None, limit: int = 500) -> list[RecordedTurn]:
        """Turns of every kind and state, in the order of their opening."""
        rows = self._connection.execute(
            f"{_TURN} WHERE t.seq > ?1 AND (?2 IS NULL OR t.agent = ?2) ORDER BY t.seq LIMIT ?3",
            (after_seq, agent, limit),
        )
        return [_turn(row) for row in rows.fetchall()]

    def newest_turns(
        self, *, agent: str | None = None, session: str | None = None, before_seq: int | None = None, limit: int = 50
    ) -> list[RecordedTurn]:
        """Turns of every kind and state, the newest first. A ``session`` is one of ``agent``."""
        # Of an agent alone its index has no order of time: the newest of all are gone through until enough are its.
        of_agent = "t.agent = ?" if session is not None else "+t.agent = ?"
        asked = [("t.seq < ?", before_seq), (of_agent, agent), ("t.session = ?", session)]
        given = [(condition, value) for condition, value in asked if value is not None]
        where = " AND ".join(condition for condition, _ in given) or "1"
        rows = self._connection.execute(
            f"{_TURN} WHERE {where} ORDER BY t.seq DESC LIMIT ?", (*(value for _, value in given), limit)
        )
        return [_turn(row) for row in rows.fetchall()]

    def messages(self, turn: RecordedTurn) -> list[JsonObject]:
        """The history that the client sent in ``turn``."""
        if turn.head is None:
            return []
        return [json.loads(body) for (body,) in self._connection.execute(_CHAIN, {"head": turn.head}).fetchall()]

    def human(self, turn: RecordedTurn, known: dict[bytes, str] | None = None) -> str:
        """What the person last said in the history of ``turn``; empty where nobody did.

        ``known`` keeps what was found by history, for turns whose histories are parts of each other.
        """
        return self._human(turn.head, known)

    def sample(self, turn_id: str) -> PolicySample | None:
        """What the policy drew in a turn; ``None`` when another model answered it."""
        row = self._connection.execute("SELECT * FROM samples WHERE turn = ?", (turn_id,)).fetchone()
        return None if row is None else _sample(row)

    def weighed(self, turn_id: str) -> list[Weighed]:
        """What was weighed when this turn brought its human message, best first; empty for later turns about it."""
        return select_weighed(self._connection, turn_id)

    def about_the_same(self, agent: str, session: str, key: str) -> list[str]:
        """The ids of a session's turns whose exchanges begin with ``key``, in order."""
        rows = self._connection.execute(
            "SELECT id FROM turns WHERE agent = ?1 AND session = ?2 AND substr(exchange, 1, length(?3)) = ?3"
            " AND ?3 <> '' ORDER BY seq",
            (agent, session, key),
        )
        return [turn for (turn,) in rows.fetchall()]

    def recalled_memories(self) -> list[str]:
        """The ids of all memories whose text is in some recorded block."""
        return memories_in_blocks(self._connection)

    def exchanges(self, *, after_seq: int = 0, agent: str | None = None, limit: int = 500) -> list[RecordedExchange]:
        """Exchanges with a main turn opened after ``after_seq``, by their last turn; each with all its main turns."""
        rows = self._connection.execute(
            """
            SELECT exchange FROM turns WHERE kind = 'main' AND seq > ?1 AND (?2 IS NULL OR agent = ?2)
            GROUP BY exchange ORDER BY max(seq) LIMIT ?3
            """,
            (after_seq, agent, limit),
        )
        found = [self.exchange(exchange) for (exchange,) in rows.fetchall()]
        return [exchange for exchange in found if exchange is not None]

    def exchange_ids(self, *, after_seq: int = 0, limit: int = 1000) -> list[tuple[str, int]]:
        """The ids of exchanges with a main turn opened after ``after_seq``, each with its last such turn's number."""
        rows = self._connection.execute(
            """
            SELECT exchange, max(seq) FROM turns WHERE kind = 'main' AND seq > ?
            GROUP BY exchange ORDER BY max(seq) LIMIT ?
            """,
            (after_seq, limit),
        )
        return [(exchange, seq) for exchange, seq in rows.fetchall()]

    def exchange(self, exchange_id: str) -> RecordedExchange | None:
        """One exchange with its main turns; ``None`` when it has none."""
        rows = self._connection.execute(
            f"{_TURN} WHERE t.exchange = ? AND t.kind = 'main' ORDER BY t.seq", (exchange_id,)
        ).fetchall()
        return self._exchange([_turn(row) for row in rows]) if rows else None

    def feedback(self, exchange: str) -> list[Feedback]:
        """What was thought of the turns of an exchange, oldest first."""
        rows = self._connection.execute("SELECT * FROM feedback WHERE exchange = ? ORDER BY id", (exchange,))
        return [Feedback(**dict(row)) for row in rows.fetchall()]

    def feedback_after(self, last_id: int = 0, *, limit: int = 500) -> list[Feedback]:
        """All feedback in the order of its arrival, a page at a time."""
        rows = self._connection.execute("SELECT * FROM feedback WHERE id > ? ORDER BY id LIMIT ?", (last_id, limit))
        return [Feedback(**dict(row)) for row in rows.fetchall()]

    def last_turn_at(self, agent: str, session: str, at: float) -> str | None:
        """The id of the turn of a session that was the last one to open by a time, or by any."""
        row = self._connection.execute(
            "SELECT id FROM turns WHERE agent = ?1 AND session = ?2 ORDER BY opened_at <= ?3 DESC, seq DESC LIMIT 1",
            (agent, session, at),
        ).fetchone()
        return None if row is None else row[0]

    def newest_turn(self, agent: str, session: str) -> RecordedTurn | None:
        """The last turn of a session."""
        row = self._connection.execute(
            f"{_TURN} WHERE t.agent = ? AND t.session = ? ORDER BY t.seq DESC LIMIT 1", (agent, session)
        ).fetchone()
        return None if row is None else _turn(row)

    def recalled_texts(self, turn: RecordedTurn, *, limit: int = 50) -> list[str]:
        """What was put before the model in a session up to a turn, the newest first."""
        rows = self._connection.execute(
            "SELECT b.text FROM turns AS t JOIN recall_blocks AS b ON b.turn = t.id"
            " WHERE t.agent = ? AND t.session = ? AND t.seq <= ? AND b.text <> '' ORDER BY t.seq DESC LIMIT ?",
            (turn.agent, turn.session, turn.seq, limit),
        )
        return [text for (text,) in rows.fetchall()]

    def exchange_before(self, recorded: RecordedExchange) -> RecordedExchange | None:
        """The exchange about another message that came before ``recorded`` in its session."""
        first = recorded.turns[0]
        row = self._connection.execute(
            """
            SELECT exchange FROM turns WHERE agent = ?1 AND session = ?2 AND seq < ?3 AND kind = 'main'
                AND exchange <> ?4 AND (?5 = '' OR substr(exchange, 1, length(?5)) <> ?5)
            ORDER BY seq DESC LIMIT 1
            """,
            (first.agent, first.session, first.seq, recorded.id, exchange_key(recorded.id)),
        ).fetchone()
        return None if row is None else self.exchange(row[0])

    def beginnings(self, agent: str, session: str, *, after_seq: int, limit: int = 100) -> list[RecordedTurn]:
        """The first turns of exchanges that began in a session after a turn's number, in order."""
        rows = self._connection.execute(
            f"{_TURN} WHERE t.agent = ?1 AND t.session = ?2 AND t.seq > ?3 AND t.kind = 'main'"
            f" AND {_BEGINS.format('t')}"
            " ORDER BY t.seq LIMIT ?4",
            (agent, session, after_seq, limit),
        )
        return [_turn(row) for row in rows.fetchall()]

    def seq_at(self, opened_at: float) -> int:
        """The number of the newest turn that was opened before a time, 0 when there is none."""
        row = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM turns WHERE opened_at < ?", (opened_at,)
        ).fetchone()
        return row[0]

    def recalls_after(self, seq: int, *, limit: int = 500) -> list[TurnRecalls]:
        """Main turns after a number that something was recalled for, by number."""
        rows = self._connection.execute(
            """
            SELECT seq, exchange, agent, opened_at, recalled FROM turns
            WHERE seq > ? AND kind = 'main' AND recalled <> '[]' ORDER BY seq LIMIT ?
            """,
            (seq, limit),
        )
        return [
            TurnRecalls(seq=row[0], exchange=row[1], agent=row[2], opened_at=row[3], names=tuple(json.loads(row[4])))
            for row in rows.fetchall()
        ]

    def last_main_activity(self, now: float) -> Activity | None:
        """When a main turn last was in progress; ``None`` when there was never one."""
        still = self._connection.execute(
            "SELECT max(opened_at) FROM turns WHERE state = 'open' AND kind = 'main'"
        ).fetchone()
        if still[0] is not None:
            return Activity(at=still[0], is_open=True)
        ends = self._connection.execute(
            "SELECT coalesce(closed_at, opened_at) FROM turns WHERE kind = 'main' ORDER BY seq DESC LIMIT ?",
            (_MOST_AT_ONCE,),
        ).fetchall()
        if not ends:
            return None
        newest = ends[0][0]
        # A long answer may end after one that was asked for later. What ends later than now is of another clock.
        return Activity(at=max([newest, *(end for (end,) in ends if end <= now)]), is_open=False)

    def last_seq(self) -> int:
        """The number of the newest turn, 0 when there is none."""
        (seq,) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM turns").fetchone()
        return seq

    def _exchange(self, turns: Sequence[RecordedTurn]) -> RecordedExchange:
        last = turns[-1]
        answered = [turn for turn in turns if turn.state == "done" and turn.answer is not None]
        return RecordedExchange(
            id=last.exchange,
            agent=last.agent,
            session=last.session,
            turns=tuple(turns),
            human=self._human(last.head),
            answer=text_of(answered[-1].answer.get("content")) if answered and answered[-1].answer else "",
            recalled=tuple(dict.fromkeys(name for turn in turns for name in turn.recalled)),
            has_later=self._has_later(last),
            is_open=any(turn.state == "open" for turn in turns),
            closed_at=max((turn.closed_at for turn in turns if turn.closed_at is not None), default=None),
        )

    def _human(self, head: bytes | None, known: dict[bytes, str] | None = None) -> str:
        # From the end backwards: in a long history the human's message is among the last.
        passed, said, known = list[bytes](), "", {} if known is None else known
        while head is not None:
            if head in known:
                said = known[head]
                break
            passed.append(head)
            head, body = self._connection.execute(
                "SELECT l.parent, m.body FROM links AS l JOIN messages AS m ON m.hash = l.message WHERE l.hash = ?",
                (head,),
            ).fetchone()
            message: JsonObject = json.loads(body)
            if is_human(message):
                said = human_text(message)
                break
        known.update(dict.fromkeys(passed, said))
        return said

    def _has_later(self, last: RecordedTurn) -> bool:
        row = self._connection.execute(
            f"""
            SELECT 1 FROM turns WHERE agent = ?1 AND session = ?2 AND seq > ?3 AND kind = 'main' AND exchange <> ?4
                AND (?5 = '' OR substr(exchange, 1, length(?5)) <> ?5) AND {_BEGINS.format("turns")}
            LIMIT 1
            """,
            (last.agent, last.session, last.seq, last.exchange, exchange_key(last.exchange)),
        ).fetchone()
        return row is not None


def _turn(row: sqlite3.Row) -> RecordedTurn:
    fields: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
    fields["request"] = json.loads(fields["request"])
    fields["recalled"] = tuple(json.loads(fields["recalled"]))
    fields["answer"] = _optional_json(fields["answer"])
    fields["usage"] = _optional_json(fields["usage"])
    fields["price"] = _optional_json(fields["price"])
    fields["attempts"] = tuple(json.loads(fields["attempts"]))
    fields["other_answers"] = tuple(json.loads(fields["other_answers"]))
    return RecordedTurn(**fields)


def _sample(row: sqlite3.Row) -> PolicySample:
    fields: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
    del fields["turn"]
    fields["spans"] = tuple((kind, start, end) for kind, start, end in json.loads(fields["spans"]))
    return PolicySample(**fields)


def _optional_json(text: str | None) -> JsonObject | None:
    return None if text is None else json.loads(text)
