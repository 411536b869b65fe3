"""Real agent programs through a real gateway: a turn with a tool, and a second one in the same session.

What is marked slow is left out of ``.ci/run``: OpenClaw takes a minute for its two turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from metaclaw.journal.turns import exchange_key
from tests.agents.conversations import FACT, RECALLED, SKILL, Conversation, converse, without_what_moves
from tests.agents.programs import (
    OPENCLAW_SESSION,
    Gateway,
    Program,
    aider,
    claude_code,
    codex,
    hermes,
    nanobot,
    openclaw,
    opencode,
)

pytestmark = [pytest.mark.agents, pytest.mark.timeout(1200), pytest.mark.usefixtures("openclaw_leaves_nothing")]
_PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
}


@pytest.mark.parametrize(
    ("program", "dialect", "speaks"),
    [
        pytest.param(partial(openclaw, api="openai-completions"), "openai.chat", "openai.chat", id="openclaw-chat"),
        pytest.param(
            partial(openclaw, api="anthropic-messages"),
            "anthropic.messages",
            "openai.chat",
            id="openclaw-anthropic",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            partial(openclaw, api="openai-responses"),
            "openai.responses",
            "anthropic.messages",
            id="openclaw-responses",
            marks=pytest.mark.slow,
        ),
        pytest.param(claude_code, "anthropic.messages", "anthropic.messages", id="claude-code"),
        pytest.param(claude_code, "anthropic.messages", "openai.chat", id="claude-code-before-chat"),
        pytest.param(
            claude_code,
            "anthropic.messages",
            "openai.responses",
            id="claude-code-before-responses",
            marks=pytest.mark.slow,
        ),
        pytest.param(opencode, "openai.chat", "anthropic.messages", id="opencode-before-anthropic"),
        pytest.param(codex, "openai.responses", "openai.responses", id="codex"),
        pytest.param(codex, "openai.responses", "openai.chat", id="codex-before-chat"),
        pytest.param(
            codex, "openai.responses", "anthropic.messages", id="codex-before-anthropic", marks=pytest.mark.slow
        ),
        pytest.param(nanobot, "openai.chat", "openai.chat", id="nanobot", marks=pytest.mark.slow),
        pytest.param(hermes, "openai.chat", "openai.chat", id="hermes", marks=pytest.mark.slow),
    ],
)
def test_an_agent_calls_its_tool_and_goes_on_in_the_same_session(
    program: Callable[[Path, Gateway], Program], dialect: str, speaks: str, tmp_path: Path
) -> None:
    talk = converse(tmp_path, program, speaks)
    assert_it_answered(talk)
    assert {seen.path for seen in talk.seen} == {_PATHS[speaks]}
    assert_two_exchanges_of_one_session(talk, dialect)
    assert_the_programs_own_session(program, talk)
    assert_recall_and_history_stay(talk, leaves_out={"name"} if program is hermes else set())


@pytest.mark.slow
def test_aider_which_has_no_tools_edits_a_file_and_each_of_its_runs_is_a_session(tmp_path: Path) -> None:
    edit = "Done.\n\nfacts.txt\n```\nThe first fact: the kettle is red.\n```\n"
    talk = converse(tmp_path, aider, "openai.chat", otherwise=edit)
    assert [said.code for said in talk.said] == [0, 0], talk.said
    assert (tmp_path / "program" / "work" / "facts.txt").read_text() == "The first fact: the kettle is red.\n"
    assert {(turn.agent, turn.kind, turn.dialect, turn.state) for turn in talk.turns} == {
        ("main", "main", "openai.chat", "done")
    }
    assert len({turn.session for turn in talk.turns}) == 2
    assert [turn.recalled for turn in talk.turns] == [(SKILL,), (SKILL,)]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(claude_code, id="claude-code"),
        pytest.param(partial(openclaw, api="anthropic-messages"), id="openclaw", marks=pytest.mark.slow),
    ],
)
def test_an_agent_asks_again_when_the_model_is_busy_or_its_answer_breaks_off(
    program: Callable[[Path, Gateway], Program], tmp_path: Path
) -> None:
    talk = converse(tmp_path, program, "openai.chat", faults=[503, "break"])
    assert_it_answered(talk)
    *before, calling, answering, going_on = talk.main
    assert [turn.state for turn in (calling, answering, going_on)] == ["done"] * 3
    assert [(turn.state, turn.status) for turn in before] == [("failed", 529), ("failed", 200)]
    assert len({turn.session for turn in talk.main}) == 1
    assert calling.exchange == answering.exchange
    # What was recalled for the message stays with it, whatever the program writes around it when it sends it again.
    assert {turn.recalled for turn in talk.main[:-1]} == {(SKILL,)}


def assert_it_answered(talk: Conversation) -> None:
    for said in talk.said:
        assert said.code == 0, said
        assert FACT in said.out.replace("\\t", " "), said


def assert_two_exchanges_of_one_session(talk: Conversation, dialect: str) -> None:
    calling, answering, going_on = talk.main
    assert {turn.state for turn in talk.main} == {"done"}
    assert {(turn.agent, turn.dialect, turn.model) for turn in talk.main} == {("main", dialect, "metaclaw")}
    assert len({turn.session for turn in talk.main}) == 1
    assert calling.exchange == answering.exchange
    assert exchange_key(going_on.exchange) != exchange_key(calling.exchange)
    assert (calling.finish_reason, answering.finish_reason, going_on.finish_reason) == ("tool_calls", "stop", "stop")
    assert all(turn.prompt_tokens and turn.completion_tokens for turn in talk.main)


def assert_the_programs_own_session(program: object, talk: Conversation) -> None:
    session = talk.main[0].session
    if program is claude_code:
        assert session == json.loads(talk.said[0].out)["session_id"]
    elif program is opencode:
        assert session.startswith("ses_")
        # It has a title made of the first message meanwhile, which is nothing to learn from.
        assert {turn.session for turn in talk.turns if turn.kind == "side"} <= {session}
    elif program is codex:
        assert f"session id: {session}" in talk.said[0].errors
    elif program in (nanobot, hermes):
        assert session.startswith("auto-")  # they name none: it is known by what was said
    else:
        assert session == OPENCLAW_SESSION


def assert_recall_and_history_stay(talk: Conversation, leaves_out: set[str]) -> None:
    """``leaves_out``: what of a tool's result the program itself does not send again in a later turn."""
    assert [turn.recalled for turn in talk.main] == [(SKILL,), (SKILL,), ()]  # the second finds it in the history
    requests = [without_what_moves(body, leaves_out) for body in talk.of_the_agent]
    assert len(requests) == 3
    for (head, before), (later_head, after) in pairwise(requests):
        assert head == later_head
        assert after[: len(before)] == before
    for body in talk.of_the_agent:
        assert json.dumps(body).count(RECALLED) == 1
