"""Twenty agents at one gateway: each is told what is its own, and no other's word is anywhere."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from metaclaw.journal.export import export_turns
from metaclaw.journal.turns import TurnReader
from metaclaw.memory.portable import export
from metaclaw.memory.store import MemoryStore
from tests.gateway.running import make_settings, running_gateway
from tests.isolation.canaries import AGENTS, whose_are_in
from tests.isolation.world import DIALECTS, KINDS, QUESTIONS, WAYS, Action, Told, World, actions, running_world

MODES = ("skills_only", "rl")
SPOILED = {"forget", "command"}  # what takes away what would be found, or adds to it


@pytest.fixture(scope="module", params=MODES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp(request.param), request.param) as world:
        yield world


def action(**more: object) -> Action:
    usual = {
        "kind": "turn",
        "key": None,
        "claims": 0,
        "way": "header",
        "also": None,
        "which": 0,
        "is_stream": False,
        "model": "metaclaw",
    }
    return Action(**{**usual, "trick": None, **more})  # pyright: ignore


def all_of_them(kind: str, way: str, which: int, *, is_stream: bool = False) -> list[Action]:
    """Every agent with its own key at the same moment, and one that says to be the next."""
    own = [action(kind=kind, key=n, claims=n, way=way, which=which, is_stream=is_stream) for n in range(len(AGENTS))]
    return [*own, action(kind=kind, key=3, claims=4, way=way, which=which, is_stream=is_stream)]


def check(world: World, told: list[Told]) -> None:
    for one in told:
        assert whose_are_in(one.said) <= ({one.agent} if one.agent else set()), one
        if one.is_refusal_due and one.action.kind not in ("command", "question", "turn of another"):
            assert one.status in (400, 403, 404), one
            assert whose_are_in(one.said) == set(), one
        elif one.is_turn and one.agent is not None and whose_are_in(one.said):
            world.reached.add(one.agent)
        if one.action.kind == "turn of another" and one.action.key not in (None, one.action.claims):
            assert one.status in ((400, 403, 404) if one.is_refusal_due else (404,)), one  # whom it names is read first
    for sent in world.sent():
        assert len(whose_are_in(sent)) <= 1
    assert whose_are_in("\n".join(world.log)) == set()


@pytest.mark.parametrize("way", WAYS[:3])
@pytest.mark.parametrize("which", range(len(DIALECTS) - 1))
def test_all_at_once_each_is_answered_with_its_own(world: World, which: int, way: str) -> None:
    for is_stream in (False, True):
        told = world.run(world.play(all_of_them("turn", way, which, is_stream=is_stream)))
        check(world, told)
        assert [one.status for one in told] == [200] * len(AGENTS) + [403]


@pytest.mark.parametrize("which", range(len(QUESTIONS)))
def test_every_question_is_answered_of_the_own_agent(world: World, which: int) -> None:
    for way in ("path", "header", "none"):
        told = world.run(world.play(all_of_them("question", way, which)))
        check(world, told)
        is_about_memories = "search" in QUESTIONS[which] or "summary" in QUESTIONS[which]
        if is_about_memories:
            assert [whose_are_in(one.said) for one in told[:-1]] == [{agent} for agent in AGENTS]
            assert told[-1].status == (200 if way == "none" else 403)


def test_what_is_anothers_is_neither_shown_nor_forgotten_by_its_id(world: World) -> None:
    for kind, key in itertools.product(("unit", "forget"), (1, None)):
        theirs = [action(kind=kind, key=key, claims=1, which=n) for n in range(len(AGENTS)) if n != 1]
        told = world.run(world.play(theirs))
        check(world, told)
        assert {one.status for one in told} == {404}
    [own] = world.run(world.play([action(kind="unit", key=1, claims=1, which=1)]))
    assert whose_are_in(own.said) == {AGENTS[1]}


def test_what_is_about_all_agents_is_for_the_owner(world: World) -> None:
    commands = [action(kind="command", key=key, claims=2, way="none", which=n) for key in (2, None) for n in (1, 6)]
    told = world.run(world.play(commands))
    assert [one.status for one in told[:2]] == [403, 403]
    assert 403 not in [one.status for one in told[2:]]
    report = [action(kind="question", key=key, claims=2, way="none", which=7) for key in (2, None)]
    assert [one.status for one in world.run(world.play(report))] == [403, 200]


def test_a_key_is_its_agent_without_a_word(world: World) -> None:
    for way in ("none", "user", "runtime"):
        check(world, world.run(world.play(all_of_them("turn", way, 0))))


def test_nobody_is_given_the_policy_of_another_by_its_name(world: World) -> None:
    named = [action(key=n, claims=n, model=f"tinker://run-of-{AGENTS[n - 1]}/sampler_weights/v") for n in range(5)]
    told = world.run(world.play(named))
    assert [one.status for one in told] == [200] * len(named)
    models = [request["model"] for request in world.llm.requests[-len(named) :]]
    if world.mode == "rl":
        assert sorted(models) == sorted(f"tinker://run-of-{one}/sampler_weights/v" for one in AGENTS[:5])


@settings(
    max_examples=20,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(actions, min_size=2, max_size=16))
@example([action(key=0, claims=1, way=way) for way in WAYS])
@example([action(claims=0, way="header", also=1), action(claims=1, way="metadata", also=0)])
@example([action(kind=kind, key=5, claims=6, way="path") for kind in KINDS])
def test_whatever_anybody_tries_nobody_is_told_of_another(world: World, some: list[Action]) -> None:
    check(world, world.run(world.play(some)))


def test_what_was_written_of_an_agent_has_no_word_of_another(world: World) -> None:
    """The last of this file: of all that the tests before it did."""
    check(world, world.run(world.play(all_of_them("turn", "path", 0))))
    assert world.reached >= set(AGENTS), "each was told its own"
    world.run(world.gateway.recorder.flush())
    with TurnReader.open(world.gateway.home / "turns.db") as reader:
        for agent in AGENTS:
            lines = export_turns(reader, agent=agent, with_tokens=True, generation=lambda *_: 0)
            turns = [json.dumps(line) for line in lines]
            assert set().union(*map(whose_are_in, turns)) == {agent}
            for turn in world.turns[agent]:
                recorded = reader.turn(turn)
                assert recorded is not None
                assert recorded.agent == agent
        blocks = reader._connection.execute("SELECT agent, text FROM recall_blocks").fetchall()  # pyright: ignore
    assert {agent for agent, _ in blocks} >= set(AGENTS)
    for agent, text in blocks:
        assert whose_are_in(text) <= {agent}
    with closing(MemoryStore.open(world.gateway.home / "memory" / "units.db")) as store:
        for agent in AGENTS:
            assert whose_are_in("\n".join(export(store, agent=agent))) == {agent}


def test_no_file_beside_the_databases_has_a_word_of_anybody(world: World) -> None:
    home = world.gateway.home
    for file in home.rglob("*"):
        within = file.relative_to(home).parts
        if not file.is_file() or file.suffix.startswith(".db") or within[0] == "spool":
            continue
        owners = {within[1]} if within[0] == "skills" and len(within) > 2 else set()
        assert whose_are_in(file.read_bytes()) <= owners, file


async def _asked_as(home: Path, agent: str) -> int:
    settings = make_settings(home, agents={"allow_unknown": False, AGENTS[0]: {"mode": "skills_only"}})
    async with running_gateway(settings) as gateway:
        headers = {**gateway.headers, "X-Agent-Id": agent}
        async with gateway.http.get(f"{gateway.url}/v1/memory/stats", headers=headers) as answer:
            return answer.status


@pytest.mark.parametrize(("agent", "status"), [(AGENTS[0], 200), ("main", 200), (AGENTS[1], 403)])
def test_an_agent_that_nobody_listed_is_refused_where_that_was_asked_for(
    tmp_path: Path, agent: str, status: int
) -> None:
    assert asyncio.run(_asked_as(tmp_path, agent)) == status
