"""The sums by day, against turns counted one by one."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.journal.database import open_writer
from metaclaw.journal.days import days_of_scores, days_of_turns
from metaclaw.journal.learning import LearningJournal

_BEGAN = 1_780_000_000.0
_INSERT = """
    INSERT INTO turns (id, agent, session, exchange, kind, dialect, model, upstream, request, state, opened_at,
        prompt_tokens, completion_tokens, cost_usd)
    VALUES (?, ?, 's', 'e', 'main', 'openai.chat', 'm', 'u', '{}', ?, ?, 10, 2, ?)
"""
_TURN = st.tuples(
    st.sampled_from(["main", "research"]),
    st.sampled_from(["done", "failed", "cut", "open"]),
    st.floats(0, 90_000),
    st.sampled_from([None, 0.25]),
)


@settings(max_examples=30)
@given(st.lists(_TURN, max_size=30), st.lists(st.integers(0, 40), max_size=5), st.floats(0, 2e6))
def test_sums_are_those_of_the_turns_since_then(
    turns: list[tuple[str, str, float, float | None]], gaps: list[int], since: float
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "turns.db"
        connection = open_writer(path, "turns")
        at = _BEGAN
        for number, (agent, state, later, cost) in enumerate(turns):
            at += later
            connection.execute(_INSERT, (str(number), agent, state, at, cost))
        for number in gaps:  # as retention leaves it
            connection.execute("DELETE FROM turns WHERE seq = ?", (number,))
        expected = Counter[tuple[str, str, str]]()
        for agent, state, at, cost in connection.execute("SELECT agent, state, opened_at, cost_usd FROM turns"):
            if at >= _BEGAN + since:
                day = datetime.fromtimestamp(at).strftime("%Y-%m-%d")  # noqa: DTZ006 - days of this machine's clock
                for name, amount in (("turns", 1), ("failed", state == "failed"), ("unpriced", cost is None)):
                    expected[day, agent, name] += amount
        connection.close()
        found = days_of_turns(path, since=_BEGAN + since)
    told = {(one.day, one.agent, name): getattr(one, name) for one in found for name in ("turns", "failed", "unpriced")}
    assert told == dict(expected)
    assert all((one.prompt_tokens, one.completion_tokens) == (10 * one.turns, 2 * one.turns) for one in found)


def test_scores_are_means_of_what_was_judged_on_a_day(tmp_path: Path) -> None:
    path = tmp_path / "learning.db"
    assert days_of_scores(path, since=0.0) == []
    now = [_BEGAN]
    with LearningJournal.open(path, clock=lambda: now[0]) as learning:
        for number, (score, later) in enumerate([(1.0, 0.0), (-0.5, 1.0), (0.25, 86_400.0)]):
            now[0] += later
            learning.record_verdict(exchange=f"e{number}", agent="main", judge="j", score=score, detail={}, samples=[])
        learning.record_failure(exchange="e9", agent="main", judge="j", detail={})
    assert [(one.judged, one.mean_score) for one in days_of_scores(path, since=0.0)] == [(2, 0.25), (1, 0.25)]
    assert [one.judged for one in days_of_scores(path, since=_BEGAN + 2)] == [1]


def test_a_file_that_is_no_journal_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "turns.db").write_bytes(b"x" * 5000)
    with pytest.raises(OSError, match=r"turns\.db"):
        days_of_turns(tmp_path / "turns.db", since=0.0)
    assert days_of_turns(tmp_path / "none.db", since=0.0) == []
