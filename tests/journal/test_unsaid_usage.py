"""What budgets are charged where a model did not say what it took."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from metaclaw.chat.messages import freeze
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.turn_records import NewTurn
from metaclaw.journal.turn_rows import insert_turn
from metaclaw.journal.unsaid_usage import estimated_usage

WORDS = "word " * 300  # 300 tokens
FILE = "data:image/png;base64," + "A" * 300_000


def _opened(path: Path, *messages: dict[str, object]) -> sqlite3.Connection:
    connection = open_writer(path, "turns")
    turn = NewTurn(
        id="t1", agent="main", session="s", exchange="e", kind="main", dialect="openai.chat", model="m", upstream="u",
        request="{}", messages=tuple(map(freeze, messages)), opened_at=1.0,
    )  # fmt: skip
    with transaction(connection):
        insert_turn(connection, turn)
    return connection


def test_all_that_was_asked_and_answered_counts_and_a_picture_not_by_its_file(tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": FILE}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": WORDS}}
    connection = _opened(
        tmp_path / "turns.db",
        {"role": "system", "content": WORDS},
        {"role": "user", "content": [{"type": "text", "text": WORDS}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": WORDS},
    )
    said = {"role": "assistant", "content": WORDS, "reasoning_content": WORDS}
    other = {"message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}
    answer = ChatAnswer(message=said, finish_reason="stop", usage=None, others=(other,))
    counts = estimated_usage(connection, "t1", answer)
    connection.close()
    assert 4 * 300 + 1000 <= counts.prompt <= 4 * 600 + 1000
    assert 3 * 300 <= counts.completion <= 3 * 600
