"""How turns are written into ``turns.db``.

Owns the statements for turns, their messages and their samples; refuses to know transactions, threads and where a turn
comes from. Invariant: a message and a link of a history are stored once, and only the first end of a turn counts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict

from metaclaw.chat.messages import Message, chain_hashes
from metaclaw.errors import JournalError
from metaclaw.journal.recall_blocks import insert_weighed
from metaclaw.journal.turn_exchanges import exchange_of
from metaclaw.journal.turn_records import NewTurn, PolicySample, TurnEnd


def cut_open_turns(connection: sqlite3.Connection) -> None:
    """End the turns that a process which is dead left open."""
    # When it really ended nobody knows; its opening is the last moment that is certain.
    connection.execute(
        """
        UPDATE turns SET state = 'cut', error = 'the gateway ended before the answer did',
            closed_at = coalesce(first_byte_at, opened_at)
        WHERE state = 'open'
        """
    )


def insert_turn(connection: sqlite3.Connection, turn: NewTurn) -> None:
    """Write that ``turn`` begins."""
    chain = chain_hashes(turn.messages)
    _insert_history(connection, turn.messages, chain)
    connection.execute(
        """
        INSERT INTO turns (id, agent, session, exchange, kind, dialect, model, upstream, request, head, recalled,
            access_key, received_at, recall_s, user, workspace, memory_scope, state, opened_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)
        """,
        (
            turn.id, turn.agent, turn.session, exchange_of(connection, turn), turn.kind, turn.dialect,
            _text(turn.model), turn.upstream, turn.request, chain[-1] if chain else None, json.dumps(turn.recalled),
            turn.access_key, turn.received_at, turn.recall_s, _text(turn.user), _text(turn.workspace),
            _text(turn.memory_scope), turn.opened_at,
        ),
    )  # fmt: skip
    if turn.weighed:
        insert_weighed(connection, turn.id, turn.weighed)


def _insert_history(connection: sqlite3.Connection, messages: Sequence[Message], chain: Sequence[bytes]) -> None:
    known = len(chain)
    while known > 0 and not _has_link(connection, chain[known - 1]):
        known -= 1
    for index in range(known, len(chain)):
        _insert_message(connection, messages[index])
        connection.execute(
            "INSERT INTO links VALUES (?, ?, ?)",
            (chain[index], chain[index - 1] if index else None, messages[index].hash),
        )


def _has_link(connection: sqlite3.Connection, link: bytes) -> bool:
    return connection.execute("SELECT 1 FROM links WHERE hash = ?", (link,)).fetchone() is not None


def _insert_message(connection: sqlite3.Connection, message: Message) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO messages VALUES (?, ?, ?)", (message.hash, _text(message.role), message.body)
    )


def end_turn(connection: sqlite3.Connection, turn_id: str, end: TurnEnd) -> bool:
    """Write how a turn ended; ``False`` when its end was known. Raises ``JournalError`` for a turn that is not."""
    if end.answer is not None:
        _insert_message(connection, end.answer)
    usage, cost = end.tokens, end.cost
    ended = connection.execute(
        """
        UPDATE turns SET state = ?, answer = ?, finish_reason = ?, status = ?, error = ?, usage = ?,
            first_byte_at = ?, closed_at = ?, upstream = coalesce(?, upstream), queue_s = ?, wait_s = ?,
            prompt_tokens = ?, completion_tokens = ?, cached_tokens = ?, reasoning_tokens = ?, cost_usd = ?, price = ?,
            attempts = ?, num_dropped = ?, other_answers = ?
        WHERE id = ? AND state = 'open'
        """,
        (
            end.state, end.answer and end.answer.hash, _text(end.finish_reason), end.status, _text(end.error),
            None if end.usage is None else json.dumps(end.usage), end.first_byte_at, end.closed_at, end.upstream,
            end.queue_s, end.wait_s,
            usage and usage.prompt, usage and usage.completion, usage and usage.cached, usage and usage.reasoning,
            cost and cost.usd, cost and json.dumps(cost.price),
            json.dumps(end.attempts), end.num_dropped, json.dumps(end.other_answers),
            turn_id,
        ),
    ).rowcount  # fmt: skip
    if not ended:
        _require_turn(connection, turn_id)
    elif end.sample is not None:
        insert_sample(connection, turn_id, end.sample)
    return bool(ended)


def _require_turn(connection: sqlite3.Connection, turn_id: str) -> None:
    if connection.execute("SELECT 1 FROM turns WHERE id = ?", (turn_id,)).fetchone() is None:
        raise JournalError(f"the opening of {turn_id} was not recorded, so its end cannot be")


def insert_sample(connection: sqlite3.Connection, turn_id: str, sample: PolicySample) -> None:
    """Write what the policy drew in a turn."""
    values = {name: _text(value) if isinstance(value, str) else value for name, value in asdict(sample).items()}
    row = {**values, "turn": turn_id, "spans": json.dumps(sample.spans)}
    connection.execute(
        f"INSERT INTO samples ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})",
        row,
    )


def _text(value: str | None) -> str | None:
    # Lone surrogates, which JSON can carry and UTF-8 cannot, are kept as their escapes.
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
