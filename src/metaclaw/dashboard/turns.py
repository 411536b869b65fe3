"""The turns: a list of them, and one with all that is known of it.

Owns what of a turn is shown; refuses to know HTTP. Invariant: an answer to the page has a bound, however long a
history or a message is, and says what was left out of it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from metaclaw.chat.messages import text_of
from metaclaw.config import Settings
from metaclaw.journal.turn_explanation import Explanation, explain
from metaclaw.journal.turn_reader import TurnReader
from metaclaw.journal.turn_records import RecordedTurn
from metaclaw.learner.gate.held_out import is_kept_back

MOST_TURNS = 50
MOST_MESSAGES = 40
MOST_CALLS = 20
MOST_CHARACTERS = 20_000
_PREVIEW = 200


def newest(
    settings: Settings, *, agent: str | None = None, session: str | None = None, before: int | None = None
) -> dict[str, Any]:
    """Up to ``MOST_TURNS`` turns, the newest first; ``next`` is ``before`` of the page after it, if there is one.

    Raises ``JournalError``.
    """
    if not settings.turns_db.exists():
        return {"turns": [], "next": None}
    with TurnReader.open(settings.turns_db) as reader, reader.snapshot():
        turns = reader.newest_turns(agent=agent, session=session, before_seq=before, limit=MOST_TURNS + 1)
        known: dict[bytes, str] = {}  # a page may be one loop of tool calls about one picture
        shown = [_line(turn, reader.human(turn, known)) for turn in turns[:MOST_TURNS]]
    return {"turns": shown, "next": turns[MOST_TURNS - 1].seq if len(turns) > MOST_TURNS else None}


def one(settings: Settings, turn_id: str) -> dict[str, Any]:
    """A turn: what was said, what was recalled, who answered, how that was judged.

    Raises ``JournalError``, and ``NotFoundError`` for a turn that is not there.
    """
    found = explain(settings.turns_db, settings.learning_db, turn_id)
    with TurnReader.open(settings.turns_db) as reader, reader.snapshot():
        messages = reader.messages(found.turn)
        human = reader.human(found.turn)
    return {
        **_line(found.turn, human),
        **_course(found.turn),
        "num_messages": len(messages),
        "messages": [_said(message) for message in messages[-MOST_MESSAGES:]],
        "answers": [_said(answer) for answer in (found.turn.answer, *found.turn.other_answers) if answer],
        **_learned(found),
        "held_out": is_kept_back(found, settings.rl.gate.held_out_share),
    }


def _line(turn: RecordedTurn, human: str) -> dict[str, Any]:
    """What the list shows. ``took_s`` is from the request to the end of the answer, where it has ended."""
    began_at = turn.received_at or turn.opened_at
    shown = ("seq", "id", "agent", "session", "exchange", "kind", "state", "model", "upstream", "status", "error")
    numbers = ("opened_at", "finish_reason", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
    return {
        **{name: getattr(turn, name) for name in (*shown, *numbers)},
        "took_s": None if turn.closed_at is None else turn.closed_at - began_at,
        "num_recalled": len(turn.recalled),
        "human": human[:_PREVIEW],
    }


def _course(turn: RecordedTurn) -> dict[str, Any]:
    began_at = turn.received_at or turn.opened_at
    return {
        "dialect": turn.dialect,
        "access_key": turn.access_key,
        "user": turn.user,
        "workspace": turn.workspace,
        "recall_s": turn.recall_s,
        "queue_s": turn.queue_s,
        "first_byte_s": None if turn.first_byte_at is None else turn.first_byte_at - began_at,
        "attempts": turn.attempts,
        "num_dropped": turn.num_dropped,
    }


def _learned(found: Explanation) -> dict[str, Any]:
    told = asdict(found)
    names = ("recalled", "weighed", "weighed_in", "policy", "verdict", "lessons", "feedback", "generation")
    return {name: told[name] for name in names}


def _said(message: dict[str, Any]) -> dict[str, Any]:
    thought = message.get("reasoning_content")
    calls = list(message.get("tool_calls") or ())
    left_out = [f"… and {len(calls) - MOST_CALLS:,} calls more"] if len(calls) > MOST_CALLS else []
    return {
        "role": str(message.get("role", "")),
        "text": _bounded(text_of(message.get("content"))),
        "thought": _bounded(thought) if isinstance(thought, str) else "",
        "calls": [*(_bounded(json.dumps(call, ensure_ascii=False)) for call in calls[:MOST_CALLS]), *left_out],
    }


def _bounded(text: str) -> str:
    left_out = len(text) - MOST_CHARACTERS
    return text if left_out <= 0 else f"{text[:MOST_CHARACTERS]}\n… and {left_out:,} characters more"
