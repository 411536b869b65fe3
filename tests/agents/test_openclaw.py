"""A day with the real OpenClaw and its gateway: connected while it runs, two agents, a model that fails, disconnected.

One long test, because OpenClaw takes a quarter of a minute to start and half that for a turn.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from metaclaw.journal.turns import RecordedTurn, TurnReader
from tests.agents.conversations import FACT, FIRST, RECALLED, SECOND, SKILL, without_what_moves, write_skill
from tests.agents.openclaw_gateway import OpenClawGateway, openclaw_gateway
from tests.agents.programs import LIMIT_S, Said
from tests.cli.programs import metaclaw, started, until
from tests.fakes.agent_model import MODEL, AgentModel, Seen, agent_model

pytestmark = [pytest.mark.agents, pytest.mark.timeout(1200), pytest.mark.usefixtures("openclaw_leaves_nothing")]
_OURS = ("x-agent-id", "x-session-id", "x-session-key", "x-run-id", "x-turn-type")


def test_a_running_openclaw_is_connected_and_disconnected_and_each_turn_is_known_for_what_it_is(tmp_path: Path):
    home, place = tmp_path / "home", tmp_path / "program"
    with agent_model(place / "work" / "facts.txt") as model:
        _set_up(home, model)
        with started(home), openclaw_gateway(place, model.url) as openclaw:
            model.facts.write_text(f"{FACT}\n")
            as_it_was = openclaw.config.read_text()
            with openclaw.reloading():
                _do(home, openclaw, "connect")
            assert_it_answered(openclaw.say("main", FIRST))
            assert_it_answered(openclaw.say("ops", FIRST))
            model.fails_when = SECOND
            model.faults.append(503)
            assert_it_answered(openclaw.say("main", SECOND))
            beat = openclaw.run("system", "event", "--mode", "now", "--text", "Look at the facts.")
            assert beat.code == 0, beat
            until(lambda: [turn for turn in _turns(home) if turn.kind == "side"], timeout_s=LIMIT_S)
            with openclaw.reloading():
                _do(home, openclaw, "disconnect")
            assert openclaw.config.read_text() == as_it_was
            before = _main(home)
            assert_it_answered(openclaw.say("main", SECOND))
            assert len(_main(home)) == len(before)
    assert_turns(before)
    assert_what_the_model_saw([seen for seen in model.seen if seen.body["model"] == MODEL])
    assert_nothing_of_ours([seen for seen in model.seen if seen.body["model"] == "own-1"])


def assert_it_answered(said: Said) -> None:
    assert said.code == 0, said
    assert FACT in said.out, said


def assert_turns(turns: list[RecordedTurn]) -> None:
    calling, answering, ops_calling, ops_answering, failing, *again, going_on = turns
    assert [turn.agent for turn in turns] == ["main", "main", "ops", "ops", *["main"] * (len(turns) - 4)]
    assert {turn.session for turn in turns if turn.agent == "main"} == {calling.session}
    assert ops_calling.session == ops_answering.session != calling.session
    assert (calling.finish_reason, answering.finish_reason) == ("tool_calls", "stop")
    assert (failing.state, failing.status, going_on.state) == ("failed", 503, "done")
    # The run is named, so that a message that OpenClaw sent again is one exchange.
    assert {turn.exchange for turn in (failing, *again)} == {going_on.exchange}
    assert calling.exchange == answering.exchange != going_on.exchange
    assert ops_calling.exchange == ops_answering.exchange != calling.exchange
    # Recalled once in each conversation, at the message that it fits; the second finds it in the history.
    assert [turn.recalled for turn in (calling, ops_calling, going_on)] == [(SKILL,), (SKILL,), ()]
    assert ops_answering.recalled == (SKILL,)


def assert_what_the_model_saw(seen: list[Seen]) -> None:
    """What was recalled reached it, once; and each request of a conversation began with the one before."""
    assert all(each.body["stream"] for each in seen)
    for agent, at_least in (("main", 4), ("ops", 2)):
        mine = [each.body for each in seen if f"session=agent:{agent}:talk" in each.raw.decode()]
        assert len(mine) >= at_least
        assert [json.dumps(body).count(RECALLED) for body in mine] == [1] * len(mine)
        # The third of main fails, and OpenClaw puts other words around its message when it asks again.
        requests = [without_what_moves(body) for body in mine[:3]]
        for (head, before), (later_head, after) in pairwise(requests):
            assert head == later_head
            assert after[: len(before)] == before


def assert_nothing_of_ours(past_us: list[Seen]) -> None:
    """PITFALLS S8: the plugin there put its headers on every request of the process, whoever it went to."""
    assert past_us
    assert [name for seen in past_us for name in _OURS if name in seen.headers] == []


def _set_up(home: Path, model: AgentModel) -> None:
    done = metaclaw(
        home, "setup", "--yes", "--api-base", f"{model.url}/v1", "--api-key", "sk-x", "--model-id", MODEL, "--port", "0"
    )
    assert done.returncode == 0, done.stderr
    for name, value in (("llm.max_attempts", "1"), ("skills.starter", "false")):
        assert metaclaw(home, "config", name, value).returncode == 0
    write_skill(home)


def _do(home: Path, openclaw: OpenClawGateway, what: str) -> None:
    done = metaclaw(home, what, "openclaw", "--yes", env=openclaw.environment)
    assert done.returncode == 0, done.stderr


def _main(home: Path) -> list[RecordedTurn]:
    return [turn for turn in _turns(home) if turn.kind == "main"]


def _turns(home: Path) -> list[RecordedTurn]:
    with TurnReader.open(home / "turns.db") as reader:
        return reader.turns()
