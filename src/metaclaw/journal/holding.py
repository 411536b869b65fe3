"""Which turns had a recalled block in their prompts.

Owns following a human message through the histories of later turns; refuses to know what was recalled. Invariant: none
is missed as long as its client kept the message: a turn too many loses a sample, one too few would keep what was
forgotten.
"""

from __future__ import annotations

import json
import sqlite3

from metaclaw.chat.humans import is_human

_LATER = """
    SELECT later.id FROM turns AS first JOIN turns AS later
        ON later.agent = first.agent AND later.session = first.session AND later.seq >= first.seq
    WHERE first.id = ?
"""
# The same message after the same answer, whatever the conversation began with: a fork into another session has it too.
_FORKS = """
    WITH RECURSIVE held (hash) AS (
        SELECT link.hash FROM links AS link JOIN links AS before ON before.hash = link.parent
        WHERE link.message = :message AND before.message = :before
        UNION
        SELECT links.hash FROM links JOIN held ON links.parent = held.hash
    )
    SELECT turns.id FROM held JOIN turns ON turns.head = held.hash WHERE turns.agent = :agent AND turns.seq >= :seq
"""
_LINK = """
    SELECT links.parent, links.message, messages.body FROM links JOIN messages ON messages.hash = links.message
    WHERE links.hash = ?
"""


def turns_that_held(connection: sqlite3.Connection, turn_id: str) -> list[str]:
    """The turns whose prompts held the block that was made in ``turn_id``: those of its session, and forks of it."""
    held = {turn for (turn,) in connection.execute(_LATER, (turn_id,)).fetchall()}
    row = connection.execute("SELECT agent, seq, head FROM turns WHERE id = ?", (turn_id,)).fetchone()
    if row is not None and (place := _place(connection, row[2])) is not None:
        message, before = place
        values = {"message": message, "before": before, "agent": row[0], "seq": row[1]}
        held |= {turn for (turn,) in connection.execute(_FORKS, values).fetchall()}
    return sorted(held)


def _place(connection: sqlite3.Connection, head: bytes | None) -> tuple[bytes, bytes] | None:
    """The newest human message of a history and the message before it; ``None`` for the first of a conversation.

    The first one's block is its session's alone.
    """
    while head is not None and (link := connection.execute(_LINK, (head,)).fetchone()) is not None:
        parent, message, body = link
        if is_human(json.loads(body)):
            before = None if parent is None else connection.execute(_LINK, (parent,)).fetchone()
            return None if before is None or not _has_answer(connection, parent) else (message, before[1])
        head = parent
    return None


def _has_answer(connection: sqlite3.Connection, head: bytes | None) -> bool:
    while head is not None and (link := connection.execute(_LINK, (head,)).fetchone()) is not None:
        if json.loads(link[2]).get("role") == "assistant":
            return True
        head = link[0]
    return False
