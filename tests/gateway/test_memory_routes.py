"""What an agent remembers, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from metaclaw.learner.jobs import run_jobs
from metaclaw.learner.reading_now import ReadingNow
from metaclaw.learner.remembering import Remembering
from metaclaw.memory.extraction.rules import RuleExtractor
from metaclaw.memory.extraction.unread import UnreadExchanges, When
from metaclaw.memory.store import Extraction, MemoryStore
from metaclaw.recall.memories import MIN_TRUST
from tests.fakes.llm import fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway
from tests.gateway.test_access import make
from tests.memory.units import unit

pytestmark = pytest.mark.anyio
URL = "/v1/memory"


async def test_what_was_stored_is_found_shown_and_forgotten(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        async with gateway.post({"text": "The user's sister lives in Porto."}, f"{URL}/store") as answer:
            assert answer.status == 200
            unit = (await answer.json())["id"]
        address = gateway.url + URL
        async with gateway.http.get(f"{address}/search?q=sister+Porto", headers=gateway.headers) as answer:
            (found,) = (await answer.json())["results"]
            assert found["unit"]["id"] == unit
            assert 0 < found["score"] <= 1
        async with gateway.http.get(f"{address}/{unit}", headers=gateway.headers) as answer:
            assert (await answer.json())["text"] == "The user's sister lives in Porto."
        async with gateway.http.get(f"{address}/summary?scope=all", headers=gateway.headers) as answer:
            assert (await answer.json())["counts"]["units"] == 1
        async with gateway.http.delete(f"{address}/{unit}", headers=gateway.headers) as answer:
            assert (await answer.json())["forgotten"] == [unit]
        async with gateway.http.get(f"{address}/{unit}", headers=gateway.headers) as answer:
            assert answer.status == 404
        async with gateway.http.get(f"{address}/stats", headers=gateway.headers) as answer:
            assert await answer.json() == {"agent": "main", "forgotten": 1}


async def test_what_a_model_asked_to_keep_is_believed_less_than_what_a_person_wrote_down(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        found: list[dict[str, Any]] = []
        for body in ({"text": "The office is in Lisbon."}, {"text": "The plants need water.", "source": "tool"}):
            async with gateway.post(body, f"{URL}/store") as answer:
                unit = (await answer.json())["id"]
            async with gateway.http.get(f"{gateway.url}{URL}/{unit}", headers=gateway.headers) as answer:
                found.append(await answer.json())
        person, model = found
        assert (person["source"], model["source"]) == ("manual", "tool")
        assert MIN_TRUST < model["trust"] < person["trust"]


async def test_a_person_may_store_what_stands_and_a_model_may_not(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        for source, status in (("manual", 200), ("tool", 400)):
            wish = {"text": "Always answer in German.", "source": source, "standing": True}
            async with gateway.post(wish, f"{URL}/store") as answer:
                assert answer.status == status, await answer.text()


@asynccontextmanager
async def learner(home: Path) -> AsyncGenerator[None]:
    """What the learner runs for the memory, beside the gateway."""
    path = home / "memory" / "units.db"
    opened = await asyncio.to_thread(lambda: (MemoryStore.open(path), MemoryStore.open(path)))
    when = When(every_n=3, idle_s=1e9)
    reads, asks = opened
    rules = RuleExtractor()
    unread = UnreadExchanges(home / "turns.db", reads, when)
    remembering = Remembering(
        turns_db=home / "turns.db", store=reads, unread=unread, extractor=rules, fallback=rules, poll_s=0.05
    )
    task = asyncio.create_task(run_jobs([remembering, ReadingNow(asks, remembering, poll_s=0.05)]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        for store in opened:
            store.close()


async def posted(gateway: RunningGateway, path: str, body: object, **headers: str) -> Any:
    async with gateway.post(body, URL + path, **headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def got(gateway: RunningGateway, path: str, **headers: str) -> Any:
    async with gateway.http.get(gateway.url + URL + path, headers={**gateway.headers, **headers}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


def told(text: str, session: str = "elsewhere", response: str = "ok") -> dict[str, Any]:
    return {"session_id": session, "turn": {"prompt_text": text, "response_text": response}}


async def test_turns_that_passed_elsewhere_are_read_like_those_that_passed_here(tmp_path: Path) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        said = [
            "I live in Oslo.",
            "<system-reminder>I live in Rome.</system-reminder>My dog is called Rex.",
            "HEARTBEAT.md says: I live in Paris.",
            "I live in Oslo.",
        ]
        answers = [await posted(gateway, "/buffer_turn", told(text, response="I am Claw.")) for text in said]
        assert [one["buffered"] for one in answers] == [1, 2, 3, 3], "what is told twice is there once"
        assert [(one["added"], one["flushed"]) for one in answers] == [(0, False)] * 4
        away = await posted(gateway, "/flush_session", {"session_id": "elsewhere", "wait_s": 0})
        assert (away["is_done"], away["added"], away["buffered_turns"]) == (False, 0, 3)
        assert "learner" in away["note"]
        async with learner(tmp_path):
            done = await posted(gateway, "/flush_session", {"session_id": "elsewhere", "final": True, "wait_s": 60})
            assert (done["is_done"], done["buffered_turns"]) == (True, 0)
            assert {unit["text"] for unit in (await got(gateway, "/summary?scope=all"))["newest"]} == {
                "I live in Oslo.",
                "My dog is called Rex.",
            }
            again = await posted(gateway, "/buffer_turn", told("I live in Oslo.", response="I am Claw."))
            assert again["buffered"] == 0, "it was read"


async def test_a_session_that_passed_here_is_read_at_once_when_asked(tmp_path: Path) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        await posted(gateway, "/buffer_turn", told("My dog is called Rex.", session="b"), **{"X-User-Id": "ann"})
        message = {"messages": [{"role": "user", "content": "I live in Oslo."}]}
        async with gateway.post(message, **{"X-Session-Id": "a", "X-Turn-Type": "main"}) as answer:
            await answer.read()
        async with learner(tmp_path):
            done = await posted(gateway, "/ingest", {"wait_s": 60})
        assert done == {"is_done": True, "buffered_turns": 0, "added": 2, "sessions": 2}
        assert [unit["text"] for unit in (await got(gateway, "/summary"))["newest"]] == ["I live in Oslo."]
        assert len((await got(gateway, "/summary", **{"X-User-Id": "ann"}))["newest"]) == 2


@pytest.mark.parametrize("says_so", [{"X-Session-Done": "1"}, {}], ids=["in a header", "in the body"])
async def test_a_session_that_its_client_says_is_done_is_read_at_once(tmp_path: Path, says_so: dict[str, str]) -> None:
    """SPEC A5. Nothing else would have these read: three exchanges, or silence, is what the learner waits for."""
    async with (
        fake_llm() as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        learner(tmp_path),
    ):
        done = {} if says_so else {"session_done": True}
        for text, more, headers in (
            ("I live in Rome.", {}, {"X-Session-Id": "another"}),
            ("I live in Oslo.", done, {"X-Session-Id": "a", **says_so}),
        ):
            message = {"messages": [{"role": "user", "content": text}], **more}
            async with gateway.post(message, **{"X-Turn-Type": "main", **headers}) as answer:
                assert answer.status == 200, await answer.text()
        async with asyncio.timeout(30):
            while not (units := (await got(gateway, "/summary"))["newest"]):  # noqa: ASYNC110 - the learner has no event
                await asyncio.sleep(0.05)
        assert [unit["text"] for unit in units] == ["I live in Oslo."]
        assert "session_done" not in llm.requests[-1]


async def test_a_search_sees_what_recall_would_tell_and_everything_only_when_asked(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        for more in ({}, {"scope": "user", "user": "ann"}, {"scope": "workspace", "workspace": "shop"}):
            await posted(gateway, "/store", {"text": f"The vault opens on Tuesday {len(more)} {more}", **more})
        seen = {
            query: len((await got(gateway, f"/search?q=vault{query}"))["results"])
            for query in ("", "&user=ann", "&workspace=shop", "&user=ann&workspace=shop", "&user=bob", "&scope=all",
                          "&user=ann&scope=agent")
        }  # fmt: skip
        assert list(seen.values()) == [1, 2, 2, 3, 1, 3, 1]
        scope = (await got(gateway, "/search?q=vault&user=ann"))["scope"]
        assert scope == {"agent": "main", "everything": False, "user": "ann"}


async def test_reports_say_how_the_memory_fares_and_what_may_be_done(tmp_path: Path) -> None:
    path = tmp_path / "memory" / "units.db"

    def past() -> str:
        with MemoryStore.open(path) as store:
            [old] = store.add([unit("The office is in Bonn.", said_at=1.0)], now=1.0)
            found = Extraction(exchange="x", agent="main", session="s", turns=("t",), used=(old,), detail={"secret": 2})
            store.record(found, now=2.0)
            return store.add([unit("The shed is red.", said_at=1.0)], now=1.0)[0]

    unused = await asyncio.to_thread(past)
    secret, _ = await asyncio.to_thread(make, tmp_path, agent="main")
    async with running_gateway(make_settings(tmp_path)) as gateway:
        use = await got(gateway, "/feedback-analysis")
        assert (use["units"], use["used"], use["never_used"], use["left_out"]) == (2, 1, 1, {"secret": 2})
        assert use["most_used"][0]["text"] == "The office is in Bonn."
        [action] = (await posted(gateway, "/action-plan", {}))["actions"]
        assert (action["ids"], action["number"]) == ([unused], 1)
        assert (await got(gateway, "/operator-report"))["units"] == 2
        assert (await posted(gateway, "/maintenance", {}))["done"] == []
        bound = {"Authorization": f"Bearer {secret}"}
        for method, name in (("GET", "operator-report"), ("POST", "maintenance")):
            async with gateway.http.request(method, f"{gateway.url}{URL}/{name}", headers=bound) as answer:
                assert answer.status == 403


async def test_an_agent_never_sees_or_forgets_what_is_anothers(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        async with gateway.post({"text": "The vault opens on Tuesday."}, f"/agents/coder{URL}/store") as answer:
            unit = (await answer.json())["id"]
        for path in (f"{URL}/{unit}", f"/agents/other{URL}/{unit}"):
            async with gateway.http.get(gateway.url + path, headers=gateway.headers) as answer:
                assert answer.status == 404
            async with gateway.http.delete(gateway.url + path, headers=gateway.headers) as answer:
                assert answer.status == 404
        async with gateway.http.get(f"{gateway.url}{URL}/search?q=vault", headers=gateway.headers) as answer:
            assert (await answer.json())["results"] == []
        path = f"/agents/coder{URL}/search?q=vault"
        async with gateway.http.get(gateway.url + path, headers=gateway.headers) as answer:
            assert len((await answer.json())["results"]) == 1


async def test_a_key_of_one_agent_is_that_agent_whatever_it_says(tmp_path: Path) -> None:
    secret, _ = await asyncio.to_thread(make, tmp_path, agent="coder")
    headers = {"Authorization": f"Bearer {secret}"}
    async with running_gateway(make_settings(tmp_path)) as gateway:
        async with gateway.post({"text": "The vault opens on Tuesday."}, f"{URL}/store") as answer:
            assert answer.status == 200
        async with gateway.http.get(f"{gateway.url}{URL}/search?q=vault", headers=headers) as answer:
            assert (await answer.json())["results"] == []
        async with gateway.http.get(f"{gateway.url}/agents/main{URL}/search?q=vault", headers=headers) as answer:
            assert answer.status == 403


async def test_it_needs_a_token_and_says_so_when_it_is_off(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path, memory={"enabled": False})) as gateway:
        async with gateway.http.get(f"{gateway.url}{URL}/stats") as answer:
            assert answer.status == 401
        async with gateway.http.get(f"{gateway.url}{URL}/stats", headers=gateway.headers) as answer:
            assert answer.status == 503
            assert "memory.enabled" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/search", None),
        ("GET", "/search?q=x&limit=0", None),
        ("GET", "/search?q=x&limit=many", None),
        ("POST", "/store", {"text": ""}),
        ("POST", "/store", {"text": "x", "agent": "other"}),
        ("POST", "/store", {"text": "x", "scope": "user"}),
        ("POST", "/store", {"text": "x", "source": "user"}),
        ("POST", "/buffer_turn", {"session_id": "s"}),
        ("POST", "/buffer_turn", {"session_id": "s", "turn": {"prompt_text": ""}}),
        ("POST", "/flush_session", {}),
        ("GET", "/search?q=x&scope=none", None),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_reason(
    tmp_path: Path, method: str, path: str, body: object
) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with gateway.http.request(method, f"{gateway.url}{URL}{path}", json=body, headers=headers) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["message"]
