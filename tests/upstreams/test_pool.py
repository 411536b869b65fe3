"""Several upstreams and keys as one: retries, failover, cooldown, and what the client finally sees."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from metaclaw.errors import InvalidRequestError, UpstreamError
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.model_client import ModelClient
from metaclaw.upstreams.pool import Limits, Member, Outbound, UpstreamPool
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.fakes.waiting import FakeWaiting

pytestmark = pytest.mark.anyio

GOOD = Answer()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def refused(status: int, code: str | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": f"status {status}", "code": code}}).encode()
    return Answer(status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


def script(*answers: Answer) -> Callable[[Any], Answer]:
    """These answers in turn, the last one for ever."""
    rest = list(answers)
    return lambda _body: rest.pop(0) if len(rest) > 1 else rest[0]


@dataclass(slots=True)
class Bench:
    pool: UpstreamPool
    llms: list[FakeLlm]
    waiting: FakeWaiting

    async def ask(self, prepare: Callable[[ModelClient], Outbound | None] | None = None) -> str:
        """Who answered, as ``name x attempts``."""
        sent = await self.pool.send(prepare or outbound)
        await sent.reply.read()
        sent.reply.close()
        return f"{sent.client.name} x {sent.attempts}"

    async def fail(self) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await self.ask()
        return caught.value

    @property
    def num_asked(self) -> list[int]:
        return [len(llm.requests) for llm in self.llms]

    @property
    def states(self) -> list[str]:
        return [state.state for state in self.pool.snapshot()]


def outbound(client: ModelClient) -> Outbound:
    body = {"model": client.model_id, "messages": [{"role": "user", "content": "hello"}]}
    return Outbound(dialect="openai.chat", body=json.dumps(body).encode())


@asynccontextmanager
async def bench(
    *scripts: Callable[[Any], Answer], first_byte_s: float = 30.0, fallbacks: str = "", **limits: Any
) -> AsyncGenerator[Bench]:
    """One upstream for each script, named a, b, c, of which ``fallbacks`` are some; ``first_byte_s`` is a's."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session())
        llms = [await stack.enter_async_context(fake_llm(answers)) for answers in scripts]
        members = [
            Member(
                client=HttpModel(session, upstream(name, llm.url, first_byte_s if name == "a" else 30.0)),
                label=f"llm.{name}.api_key",
                is_fallback=name in fallbacks,
            )
            for name, llm in zip("abc", llms, strict=False)
        ]
        waiting = FakeWaiting()
        yield Bench(UpstreamPool(members, limits=Limits(**limits), waiting=waiting), llms, waiting)


def upstream(name: str, url: str, first_byte_s: float = 30.0) -> Upstream:
    return Upstream(
        name=name,
        base_url=url,
        api_key=SecretStr(f"sk-of-{name}"),
        key_setting=f"llm.{name}.api_key",
        timeouts=Timeouts(first_byte_s=first_byte_s),
        model_id=f"model-{name}",
    )


async def test_the_first_is_asked_as_long_as_it_answers() -> None:
    async with bench(script(GOOD), script(GOOD)) as it:
        assert [await it.ask() for _ in range(3)] == ["a x 1"] * 3
        assert it.num_asked == [3, 0]
        assert it.waiting.slept == []


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 520, 529])
async def test_trouble_of_one_upstream_is_tried_again_after_a_growing_pause(status: int) -> None:
    async with bench(script(refused(status), refused(status), refused(status), GOOD)) as it:
        assert await it.ask() == "a x 4"
        assert it.waiting.slept == [0.5, 1.0, 2.0]
        assert it.states == ["ready"]


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
async def test_a_request_that_is_wrong_goes_straight_back_with_what_was_said(status: int) -> None:
    async with bench(script(refused(status, "context_length_exceeded")), script(GOOD)) as it:
        error = await it.fail()
        assert (error.status, error.detail["code"]) == (status, "context_length_exceeded")
        assert it.num_asked == [1, 0]
        assert it.states == ["ready", "ready"]


async def test_another_upstream_is_asked_at_once_with_its_own_model() -> None:
    async with bench(script(refused(500), GOOD), script(GOOD)) as it:
        assert await it.ask() == "b x 2"
        assert it.waiting.slept == []
        assert it.llms[1].requests[0]["model"] == "model-b"
        assert it.states == ["cooling", "ready"]


async def test_one_that_cools_down_is_left_out_and_then_probed_by_one_turn_alone() -> None:
    is_down = True

    def first(_body: Any) -> Answer:
        return refused(500) if is_down else Answer(hold_after=0)

    async with bench(first, script(GOOD)) as it:
        assert [await it.ask() for _ in range(2)] == ["b x 2", "b x 1"]
        it.waiting.time_s += 5.0
        assert it.states == ["half_open", "ready"]
        is_down = False
        probe = asyncio.create_task(it.ask())
        await it.llms[0].is_held.wait()
        assert [await it.ask() for _ in range(2)] == ["b x 1"] * 2
        it.llms[0].go_on.set()
        assert await probe == "a x 1"
        assert it.states == ["ready", "ready"]
        assert await it.ask() == "a x 1"


async def test_a_probe_that_fails_makes_the_cooldown_longer() -> None:
    async with bench(script(refused(500)), script(GOOD)) as it:
        for expected_s in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            assert await it.ask() == "b x 2"
            left_s = it.pool.snapshot()[0].cooldown_left_s
            assert left_s == expected_s
            it.waiting.time_s += left_s


async def test_turns_that_fail_together_count_once() -> None:
    async with bench(script(refused(500)), script(GOOD)) as it:
        assert await asyncio.gather(*(it.ask() for _ in range(5))) == ["b x 2"] * 5
        assert it.pool.snapshot()[0].cooldown_left_s == 5.0


@pytest.mark.parametrize(
    ("status", "code", "ladder_s"),
    [
        (401, None, [300, 1500, 3600, 3600]),
        (403, None, [60, 300, 1500, 3600, 3600]),
        (429, None, [60, 300, 1500, 3600, 3600]),
        (402, None, [18000, 36000, 72000, 86400, 86400]),
        (429, "insufficient_quota", [18000, 36000, 72000, 86400]),
    ],
)
async def test_a_key_that_is_refused_cools_down_for_longer_and_longer(
    status: int, code: str | None, ladder_s: list[float]
) -> None:
    async with bench(script(refused(status, code)), script(GOOD)) as it:
        for expected_s in ladder_s:
            assert await it.ask() == "b x 2"
            assert it.pool.snapshot()[0].cooldown_left_s == expected_s
            it.waiting.time_s += expected_s
        assert it.waiting.slept == []


async def test_a_wish_to_be_left_alone_is_the_cooldown() -> None:
    async with bench(script(refused(429, Retry_After="17")), script(GOOD)) as it:
        assert await it.ask() == "b x 2"
        assert it.pool.snapshot()[0].cooldown_left_s == 17.0


@pytest.mark.parametrize(("header", "pause_s"), [("2", 3.0), ("0.5", 1.0)])
async def test_with_nobody_else_a_wish_is_waited_for(header: str, pause_s: float) -> None:
    async with bench(script(refused(429, Retry_After=header), GOOD)) as it:
        assert await it.ask() == "a x 2"
        assert it.waiting.slept == [pause_s]


async def test_short_wishes_are_waited_for_together_no_longer_than_a_client_would_without_a_word() -> None:
    async with bench(script(refused(429, Retry_After="2"))) as it:
        assert (await it.fail()).retry_after_s == 2.0
        assert (it.num_asked, it.waiting.slept) == ([3], [3.0, 3.0])


async def test_who_is_refused_without_a_wish_is_told_at_once_and_when_to_come_back() -> None:
    async with bench(script(refused(429), GOOD)) as it:
        error = await it.fail()
        assert (error.status, error.retry_after_s) == (429, 5.0)
        assert (it.num_asked, it.waiting.slept) == ([1], [])
        it.waiting.time_s += 5
        assert await it.ask() == "a x 1"


async def test_a_model_that_is_asked_too_often_says_nothing_of_the_others_of_its_key() -> None:
    """An agent program that goes on with another model, or asks a small one beside a large one, gets through."""

    def answer(body: Any) -> Answer:
        return refused(429, Retry_After="40") if body["model"] == "large" else GOOD

    def asking(model: str) -> dict[str, Any]:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).encode()
        return {"prepare": lambda _: Outbound(dialect="openai.chat", body=body), "model_of": lambda _: model}

    async with bench(answer) as it:
        with pytest.raises(UpstreamError, match="429"):
            await it.pool.send(**asking("large"))
        (await it.pool.send(**asking("small"))).reply.close()
        it.waiting.time_s += 10
        with pytest.raises(UpstreamError, match="it is left alone for another 30 s") as known:
            await it.pool.send(**asking("large"))
        assert (it.num_asked, known.value.retry_after_s) == ([2], 30.0)
        [state] = it.pool.snapshot()
        assert (state.state, state.cooldown_left_s, state.num_cooldowns) == ("cooling", 30.0, 1)
        it.waiting.time_s += 30
        assert it.states == ["ready"]


async def test_the_limits_of_models_are_not_remembered_without_end() -> None:
    async with bench(script(refused(429))) as it:
        for number in range(70):
            with pytest.raises(UpstreamError):
                await it.pool.send(outbound, model_of=lambda _, name=f"m{number}": name)
        assert it.num_asked == [70]
        with pytest.raises(UpstreamError):
            await it.pool.send(outbound, model_of=lambda _: "m0")  # forgotten: asked once more
        assert it.num_asked == [71]


async def test_a_wish_in_milliseconds_is_waited_for() -> None:
    async with bench(script(refused(503, retry_after_ms="2500"), GOOD)) as it:
        assert await it.ask() == "a x 2"
        assert it.waiting.slept == [2.5]


async def test_a_wish_that_is_too_long_is_for_the_client_to_wait_for_and_nobody_asks_meanwhile() -> None:
    async with bench(script(refused(429, Retry_After="45"), GOOD)) as it:
        errors = [await it.fail(), await it.fail()]
        assert [(error.status, error.retry_after_s) for error in errors] == [(429, 45.0)] * 2
        assert it.num_asked == [1]
        it.waiting.time_s += 45
        assert await it.ask() == "a x 1"


async def test_a_refused_key_is_not_tried_again_in_the_same_turn_and_soon_by_another() -> None:
    async with bench(script(refused(401), GOOD)) as it:
        error = await it.fail()
        assert error.status == 503
        assert "check llm.a.api_key" in str(error)
        assert error.retry_after_s
        again = await it.fail()
        assert again.retry_after_s == 5.0
        assert "it is left alone for another 5 s" in str(again)  # only time or a person helps: nobody is kept waiting
        assert it.num_asked == [1]
        it.waiting.time_s += 5
        assert await it.ask() == "a x 1"  # the only one there is: asked again before its cooldown is over
        assert it.waiting.slept == []


@pytest.mark.parametrize(
    ("answers", "status", "says"),
    [
        ([refused(401), refused(429)], 429, "b answered 429"),
        ([refused(429), refused(401)], 429, "a answered 429"),
        ([refused(529), refused(500)], 529, "a answered 529"),
        ([refused(500), refused(403)], 503, "a answered 500"),
        ([refused(402), refused(401)], 503, "a answered 402"),
        ([refused(504), refused(502)], 503, "b answered 502"),
    ],
)
async def test_the_client_sees_the_most_telling_failure_as_trouble_that_passes(
    answers: list[Answer], status: int, says: str
) -> None:
    """protocols/clients.md: agent programs lock a provider out after a 401."""
    async with bench(*(script(answer) for answer in answers), max_attempts=2) as it:
        error = await it.fail()
        assert error.status == status
        assert says in str(error)
        assert "before that" in str(error)
        assert error.retry_after_s
        assert "sk-of" not in str(error)


async def test_attempts_are_bounded_and_so_is_their_time() -> None:
    async with bench(script(refused(500)), script(refused(500))) as it:
        await it.fail()
        assert it.num_asked == [2, 2]
    async with bench(script(refused(500)), max_attempts=20, max_retry_s=4.0) as it:
        await it.fail()
        assert it.waiting.slept == [0.5, 1.0, 2.0]


async def test_no_first_byte_in_time_is_tried_elsewhere() -> None:
    async with bench(script(Answer(hold_after=0)), script(GOOD), first_byte_s=0.3) as it:
        assert await it.ask() == "b x 2"
        assert it.pool.snapshot()[0].failures == {"timeout": 1}


async def test_nothing_is_asked_again_after_the_first_byte() -> None:
    async with bench(script(Answer(break_after=1)), script(GOOD)) as it:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
        sent = await it.pool.send(lambda _client: Outbound(dialect="openai.chat", body=body))
        with pytest.raises(UpstreamError, match="broke off"):
            await sent.reply.read()
        sent.reply.close()
        assert it.num_asked == [1, 0]


async def test_a_turn_that_is_cancelled_leaves_at_once_and_counts_as_no_failure() -> None:
    async with bench(script(Answer(hold_after=0)), script(GOOD)) as it:
        turn = asyncio.create_task(it.ask())
        await it.llms[0].is_held.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await it.llms[0].was_left.wait()
        state = it.pool.snapshot()[0]
        assert (state.state, state.num_requests, state.failures) == ("ready", 1, {})
        assert it.num_asked == [1, 0]


async def test_a_cancelled_probe_does_not_keep_others_from_probing() -> None:
    async with bench(script(refused(500), Answer(hold_after=0), GOOD), script(GOOD)) as it:
        await it.ask()
        it.waiting.time_s += 5.0
        probe = asyncio.create_task(it.ask())
        await it.llms[0].is_held.wait()
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert await it.ask() == "a x 1"


async def test_a_client_that_cannot_be_asked_is_left_out() -> None:
    async with bench(script(GOOD), script(GOOD)) as it:
        assert await it.ask(lambda client: None if client.name == "a" else outbound(client)) == "b x 1"
        with pytest.raises(InvalidRequestError, match=r"no configured model.*llm\.dialects"):
            await it.ask(lambda _client: None)


async def test_a_mistake_that_is_found_while_preparing_goes_straight_up() -> None:
    def prepare(_client: ModelClient) -> Outbound:
        raise InvalidRequestError("no such thing", param="x")

    async with bench(script(GOOD)) as it:
        with pytest.raises(InvalidRequestError, match="no such thing"):
            await it.ask(prepare)
        assert it.num_asked == [0]


@pytest.mark.parametrize(("status", "seen"), [(500, 503), (529, 529), (429, 429)])
async def test_a_fallback_that_refuses_a_request_does_not_hide_that_the_first_will_be_back(
    status: int, seen: int
) -> None:
    async with bench(script(refused(status)), script(refused(400, "context_length_exceeded")), fallbacks="b") as it:
        error = await it.fail()
        assert error.status == seen
        assert error.retry_after_s
        assert "b answered 400" in str(error)
        assert it.num_asked[1] == 1

        again = await it.fail()  # now the first cools down, and is not asked before the fallback
        assert again.status == seen
        assert again.retry_after_s


async def test_a_request_that_no_fallback_takes_gets_to_the_first_when_it_is_back() -> None:
    async with bench(script(refused(503), GOOD), script(refused(400)), fallbacks="b") as it:
        assert await it.ask() == "a x 3"


async def test_a_request_that_cannot_be_written_for_a_fallback_is_no_mistake_while_the_first_is_in_trouble() -> None:
    def prepare(client: ModelClient) -> Outbound:
        if client.name == "b":
            raise InvalidRequestError("tools[0] cannot be said here")
        return outbound(client)

    async with bench(script(refused(503), refused(503), GOOD), script(GOOD), fallbacks="b") as it:
        assert await it.ask(prepare) == "a x 3"
        assert it.num_asked == [3, 0]


async def test_a_fallback_in_the_place_of_a_refused_key_speaks_for_itself() -> None:
    async with bench(script(refused(401)), script(refused(400, "context_length_exceeded")), fallbacks="b") as it:
        error = await it.fail()
        assert (error.status, error.detail["code"]) == (400, "context_length_exceeded")


async def test_the_models_are_those_of_the_first_that_answers() -> None:
    async with bench(script(GOOD), script(GOOD)) as it:
        it.llms[0].api_key = "another"
        it.llms[1].models = ["theirs"]
        assert [model["id"] for model in await it.pool.models()] == ["theirs"]


async def test_what_is_shown_and_logged_has_counts_and_settings_and_never_a_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with bench(script(refused(429, Retry_After="9")), script(refused(500), GOOD)) as it:
            await it.ask()
            shown = it.pool.snapshot()
    assert [(state.upstream, state.credential, state.num_requests) for state in shown] == [
        ("a", "llm.a.api_key", 1),
        ("b", "llm.b.api_key", 2),
    ]
    assert [state.failures for state in shown] == [{"rate_limit": 1}, {"server_error": 1}]
    assert "rate_limit, HTTP 429" in caplog.text
    assert "sk-of" not in f"{shown}{caplog.text}"
    assert "hello" not in caplog.text


OVERLOADED = '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'
EVENTS = "text/event-stream"
FAILED_WITH_200 = [
    Answer(body=f"event: error\ndata: {OVERLOADED}\n\n".encode(), content_type=EVENTS),
    Answer(body=f': wait\n\ndata: {{"type": "ping"}}\n\ndata: {OVERLOADED}\n\n'.encode(), content_type=EVENTS),
    Answer(body=b'data: {"type": "error", "code": "server_error", "message": "no"}\n\n', content_type=EVENTS),
    Answer(body=b'data: {"error": "x"}\n\n', content_type=EVENTS),
    Answer(body=b'{"error": {"code": 502, "message": "Provider returned error"}, "user_id": "u"}'),
    Answer(body=b"\n<!DOCTYPE html>\n<title>Sign in to the airport</title>", content_type="text/html"),
    Answer(body=b"<HTML><body>Bad gateway"),
]


@pytest.mark.parametrize("answer", FAILED_WITH_200)
async def test_an_error_that_comes_with_200_is_one_and_another_is_asked(answer: Answer) -> None:
    async with bench(script(answer, GOOD), script(GOOD)) as it:
        assert await it.ask() == "b x 2"
        assert it.states == ["cooling", "ready"]


async def test_an_error_that_comes_with_200_has_the_status_that_it_should_have_had() -> None:
    async with bench(script(*FAILED_WITH_200[:1] * 4)) as it:
        error = await it.fail()
    assert (error.status, error.said, error.detail["type"]) == (529, "Overloaded", "overloaded_error")
    refused_key = b'{"error": {"type": "authentication_error", "message": "sk-of-a is not a key"}}'
    async with bench(script(Answer(body=refused_key))) as it:
        assert "sk-of-a" not in str(await it.fail())


@pytest.mark.parametrize(
    "event",
    [
        '{"type": "response.created", "response": {"id": "r", "error": null}}',
        '{"id": "c", "choices": [{"index": 0, "delta": {"content": "\\"error\\""}}], "error": {"message": "beside"}}',
        '"error"',
    ],
)
async def test_an_answer_that_speaks_of_errors_is_none(event: str) -> None:
    answer = Answer(body=f"data: {event}\n\n".encode(), content_type=EVENTS)
    async with bench(script(answer), script(GOOD)) as it:
        assert await it.ask() == "a x 1"
