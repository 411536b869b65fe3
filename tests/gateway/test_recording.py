"""Recording as a client and an operator see it: in trouble, counted, and with feedback."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from metaclaw.gateway.recording_path import RecordingPath
from metaclaw.journal.turns import Feedback, TurnReader
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

NOBODY = "http://127.0.0.1:9/v1"
HELLO = [{"role": "user", "content": "hello"}]


async def health(gateway: RunningGateway) -> dict[str, Any]:
    async with gateway.http.get(f"{gateway.url}/healthz") as response:
        return await response.json()


async def page(gateway: RunningGateway) -> dict[str, float]:
    async with gateway.http.get(f"{gateway.url}/metrics", headers=gateway.headers) as response:
        lines = (await response.text()).splitlines()
    values = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in values}


def feedback(home: Path) -> list[Feedback]:
    with TurnReader.open(home / "turns.db") as reader:
        return reader.feedback_after()


async def say(gateway: RunningGateway, **headers: str) -> str:
    async with gateway.post({"messages": HELLO, "model": "m"}, **headers) as response:
        assert response.status == 200
        return response.headers["X-MetaClaw-Turn"]


async def test_a_locked_database_breaks_no_reply_is_shown_and_is_made_up_for(tmp_path: Path) -> None:
    """PITFALLS, run under faults: the disk fills while running."""
    skill = tmp_path / "skills" / "greeting"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: greeting\ndescription: say hello\n---\nhello\n")
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            said = [await say(gateway) for _ in range(3)]
            while (await health(gateway))["journal"] == "ok":  # noqa: ASYNC110 - it is another thread's
                await asyncio.sleep(0.01)
            said.append(await say(gateway))
            state = await health(gateway)
            assert state["recording_failures"] > 0
            assert state["spool_records"] == 8
            metrics = await page(gateway)
            assert metrics["metaclaw_journal_up"] == 0
            assert metrics["metaclaw_spool_records"] == 8
            assert metrics["metaclaw_recording_failures_total"] > 0
            other.execute("COMMIT")
        turns = await gateway.turns()
        assert [(turn.id, turn.state) for turn in turns] == [(turn_id, "done") for turn_id in said]
        assert (await health(gateway))["journal"] == "ok"
        assert (await page(gateway))["metaclaw_spool_records"] == 0


async def test_a_budget_holds_while_nothing_can_be_written_and_is_charged_once(tmp_path: Path) -> None:
    body = {"messages": HELLO, "model": "m"}  # takes 10 tokens
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, proxy={"limits": {"tokens_per_day": 40}})
        async with running_gateway(settings) as gateway:
            with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await say(gateway)
                while (await health(gateway))["journal"] == "ok":  # noqa: ASYNC110 - it is another thread's
                    await asyncio.sleep(0.01)
                statuses: list[int] = []
                while len(statuses) < 10:
                    async with gateway.post(body) as response:
                        statuses.append(response.status)
                other.execute("COMMIT")
            num_answered = statuses.count(200)
            assert num_answered in (3, 4)  # the first turn may have ended before the trouble was known
            assert set(statuses[num_answered:]) == {429}
            assert len(await gateway.turns()) == num_answered + 1
            async with gateway.post(body) as response:
                said = (await response.json())["error"]["message"]
    assert f"has used {10 * (num_answered + 1)} of its 40 tokens" in said


def test_what_goes_wrong_at_every_turn_is_counted_each_time_and_logged_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full disk must not be filled up with lines that say so."""
    now = [100.0]
    path = RecordingPath(lambda: now[0])

    def fail(error: Exception) -> None:
        raise error

    for error in (OSError("full"), OSError("full"), ValueError("odd"), OSError("full")):
        path.run("record", "turn-1", fail, error)
    assert (path.num_failures, len(caplog.records)) == (4, 2)
    now[0] += 60
    path.run("record", "turn-1", fail, OSError("full"))
    assert [record.getMessage() for record in caplog.records][-1] == "could not record turn-1 (5 failures so far)"
    assert caplog.records[-1].exc_info is not None


async def test_metrics_count_what_was_done_and_name_nothing_that_a_client_wrote(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("secret-model: {input: 1000000, output: 0}")
    script = lambda body: Answer(status=500) if body["model"] == "broken" else Answer()  # noqa: E731
    async with fake_llm(script) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for model in ("secret-model", "broken", "secret-other"):
            async with gateway.post({"messages": HELLO, "model": model}, **{"X-Agent-Id": "secret-agent"}) as response:
                await response.read()
        async with gateway.post({}, path="/secret/path") as response:
            assert response.status == 404
        await gateway.turns()
        metrics = await page(gateway)
        text = " ".join(metrics)
    assert "secret" not in text
    assert metrics['metaclaw_turns_total{state="done",upstream="fake"}'] == 2
    assert metrics['metaclaw_turns_total{state="failed",upstream="fake"}'] == 1
    assert metrics['metaclaw_tokens_total{kind="prompt"}'] == 14
    assert metrics["metaclaw_cost_usd_total"] == 7
    assert metrics["metaclaw_unpriced_turns_total"] == 1
    assert metrics["metaclaw_turn_seconds_count"] == 3
    assert [value for name, value in metrics.items() if name.startswith("metaclaw_upstream_ready{")] == [1]
    assert sum(value for name, value in metrics.items() if name.startswith("metaclaw_upstream_failures_total")) >= 1
    assert metrics['metaclaw_gateway_requests_total{method="POST",route="/v1/chat/completions",status="200"}'] == 2
    assert metrics['metaclaw_gateway_requests_total{method="POST",route="unknown",status="404"}'] == 1


async def test_metrics_say_what_was_left_alone_after_it_failed(tmp_path: Path) -> None:
    skill = tmp_path / "skills" / "greeting"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: greeting\ndescription: say hello\n---\nhello\n")
    down = {"url": NOBODY, "model": "vectors"}
    settings = make_settings(tmp_path, llm={"api_base": NOBODY, "max_attempts": 1}, embeddings=down)
    async with running_gateway(settings) as gateway:
        for _ in range(2):
            async with gateway.post({"messages": HELLO, "model": "m"}) as response:
                assert response.status == 503
        metrics = await page(gateway)
    labels = '{credential="llm.api_key",upstream="fake"}'
    assert metrics[f"metaclaw_upstream_ready{labels}"] == 0
    assert metrics[f"metaclaw_upstream_cooldowns_total{labels}"] >= 1
    assert {f"metaclaw_upstream_cooldown_seconds{labels}", "metaclaw_embeddings_up"} <= metrics.keys()
    assert metrics["metaclaw_embeddings_failures_total"] >= 1
    assert metrics["metaclaw_embeddings_missed_total"] >= metrics["metaclaw_embeddings_failures_total"]


async def test_a_clock_that_is_set_back_during_a_turn_takes_nothing_from_what_was_counted(tmp_path: Path) -> None:
    moments = itertools.count(2_000_000_000.0, -3600.0)
    async with (
        fake_llm() as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url), clock=lambda: next(moments)) as gateway,
    ):
        await say(gateway)
        [turn] = await gateway.turns()
        async with gateway.http.get(f"{gateway.url}/metrics", headers=gateway.headers) as response:
            page = await response.text()
    assert (turn.state, turn.queue_s, turn.wait_s) == ("done", 0.0, 0.0)
    sums = [float(line.rpartition(" ")[2]) for line in page.splitlines() if "_seconds_sum" in line]
    assert sums
    assert min(sums) >= 0.0


async def test_metrics_are_behind_the_token(tmp_path: Path) -> None:
    async with (
        running_gateway(make_settings(tmp_path, llm_url=NOBODY)) as gateway,
        gateway.http.get(f"{gateway.url}/metrics") as response,
    ):
        assert response.status == 401


async def test_feedback_is_kept_with_the_exchange_that_it_is_about(tmp_path: Path) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        turn_id = await say(gateway, **{"X-Session-Id": "s1"})
        for body in (
            {"turn": turn_id, "score": 0.5, "text": "fine", "source": "a person"},
            {"turn": turn_id, "thumbs": "down"},
            {"session": "s1", "text": "it forgot my name"},
            {"turn": turn_id, "score": 1, "text": None, "agent": None},
            {"session": "s1", "text": "cut in the middle of \ud83d"},
        ):
            async with gateway.post(body, path="/v1/feedback") as response:
                assert response.status == 200, await response.text()
        [turn] = await gateway.turns()
        kept = await asyncio.to_thread(feedback, tmp_path)
    assert [(row.turn, row.exchange, row.score, row.text, row.source) for row in kept] == [
        (turn_id, turn.exchange, 0.5, "fine", "a person"),
        (turn_id, turn.exchange, -1.0, "", "user"),
        (None, None, None, "it forgot my name", "user"),
        (turn_id, turn.exchange, 1.0, "", "user"),
        (None, None, None, "cut in the middle of \\ud83d", "user"),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"turn": "turn-nobody", "score": 1}, 404),
        ({"session": "nobody", "score": 1}, 404),
        ({"turn": "t", "session": "s", "score": 1}, 400),
        ({"turn": "t"}, 400),
        ({"turn": "t", "score": 2}, 400),
        ({"turn": "t", "score": 1, "thumbs": "up"}, 400),
        ({"turn": "t", "score": 1, "stars": 5}, 400),
        ({"turn": 5, "score": 1}, 400),
        ({"session": "s", "agent": "../x", "score": 1}, 400),
    ],
)
async def test_feedback_that_makes_no_sense_is_refused(tmp_path: Path, body: dict[str, Any], status: int) -> None:
    async with (
        running_gateway(make_settings(tmp_path, llm_url=NOBODY)) as gateway,
        gateway.post(body, path="/v1/feedback") as response,
    ):
        assert response.status == status
        assert (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/v1/feedback", {"X-Agent-Id": "ops"}, {"session": "s1"}, 200),
        ("/agents/ops/v1/feedback", {}, {"session": "s1"}, 200),
        ("/v1/feedback", {}, {"session": "s1", "agent": "ops"}, 200),
        ("/v1/feedback", {}, {"session": "s1"}, 404),
        ("/v1/feedback", {"X-Agent-Id": "ops"}, {}, 200),
        ("/v1/feedback", {}, {}, 200),
        ("/v1/feedback", {"X-Agent-Id": "main"}, {}, 404),
        ("/v1/feedback", {}, {"agent": "ops"}, 200),
        ("/v1/feedback", {}, {"agent": "main"}, 404),
        ("/v1/feedback", {"X-Agent-Id": "main"}, {"agent": "ops"}, 400),
        ("/v1/feedback", {"X-Agent-Id": "../x"}, {}, 400),
    ],
)
async def test_feedback_is_of_the_agent_that_the_request_names(
    tmp_path: Path, path: str, headers: dict[str, str], body: dict[str, Any], status: int
) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        turn_id = await say(gateway, **{"X-Session-Id": "s1", "X-Agent-Id": "ops"})
        about = {"session": body["session"]} if "session" in body else {"turn": turn_id}
        async with gateway.post({**body, **about, "score": 1}, path=path, **headers) as response:
            assert response.status == status, await response.text()
            assert status != 200 or (await response.json())["agent"] == "ops"


async def test_every_attempt_at_an_upstream_is_in_the_journal(tmp_path: Path) -> None:
    statuses = iter((503, 200))
    async with (
        fake_llm(lambda _: Answer(status=next(statuses))) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        await say(gateway)
        [turn] = await gateway.turns()
    assert [(attempt["upstream"], attempt["status"]) for attempt in turn.attempts] == [("fake", 503), ("fake", 200)]
