"""What vLLM says of tokens, read from a server that says it: no vLLM is needed for that."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from metaclaw.errors import EngineError
from metaclaw.training.samplers.vllm.client import VllmClient

pytestmark = pytest.mark.anyio

Row = dict[str, dict[str, float]] | None


@asynccontextmanager
async def saying(body: Any = None, *events: Any) -> AsyncGenerator[VllmClient]:
    """A client of a server that answers every request with ``body``, or with ``events`` where it is to stream."""

    async def answer(request: web.Request) -> web.Response:
        if not (await request.json()).get("stream"):
            return web.json_response(body)
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return web.Response(text=f"{text}data: [DONE]\n\n", content_type="text/event-stream")

    app = web.Application()
    app.router.add_post("/inference/v1/generate", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield VllmClient(session, str(server.make_url("")).rstrip("/"), "key")


NO_OTHERS: dict[str, Any] = {"top_logprobs": []}
# The likeliest first, as vLLM has them; the sequence's own token wherever it ranks.
ROWS: list[Row] = [
    None,
    {"9": {"logprob": -0.1}, "6": {"logprob": -3.0}, "8": {"logprob": -4.0}},
    {"8": {"logprob": -0.5}, "7": {"logprob": -1.0}, "6": {"logprob": -2.0}},
]


@pytest.mark.parametrize("topk", [0, 2])
async def test_a_score_is_that_of_the_sequences_own_token_wherever_it_ranks(topk: int) -> None:
    """PITFALLS B8: the first log-probability was taken for that of the token that was chosen."""
    async with saying({"prompt_logprobs": ROWS}) as client:
        scores = await client.score("m", [5, 6, 7], topk=topk)
    np.testing.assert_allclose(scores.logprobs, [math.nan, -3.0, -1.0])
    assert scores.topk_tokens[1:].tolist() == ([[9, 6], [8, 7]] if topk else [[], []])


async def test_a_sampled_token_has_its_own_log_probability_and_is_no_likelier_for_being_sampled() -> None:
    """PITFALLS B8."""
    sampled = {"logprob": -3.0, "top_logprobs": [{"token_id": t, "logprob": p} for t, p in ((6, -3.0), (9, -0.1))]}
    choice = {"token_ids": [6], "finish_reason": "stop", "logprobs": {"content": [sampled]}}
    async with saying(None, {"choices": [choice]}) as client:
        [chunk] = [one async for one in client.stream("m", [5], {"logprobs": 2})]
    assert (chunk.tokens.tolist(), chunk.logprobs.tolist(), chunk.finish_reason) == ([6], [-3.0], "stop")
    assert chunk.topk_tokens is not None
    assert chunk.topk_tokens.tolist() == [[9]]


@pytest.mark.parametrize("value", [None, math.nan, -9999.0])
async def test_a_sampled_token_without_a_usable_log_probability_is_a_failure_of_vllms(value: float | None) -> None:
    choice = {"token_ids": [6], "finish_reason": "stop", "logprobs": {"content": [{"logprob": value, **NO_OTHERS}]}}
    async with saying(None, {"choices": [choice]}) as client:
        with pytest.raises(EngineError, match="no usable numbers"):
            async for _ in client.stream("m", [5], {}):
                pass


@pytest.mark.parametrize(
    "said",
    [
        {"prompt_logprobs": [None, {"9": {"logprob": -0.1}}]},  # of another token
        {"prompt_logprobs": [None, {"6": {"logprob": -9999.0}}]},
        {"prompt_logprobs": [None, {"6": {"logprob": None}}]},
        {"prompt_logprobs": [None, None]},
        {"prompt_logprobs": [None]},
        {"prompt_logprobs": [None, {"6": {"logprob": -0.1}}, {"7": {"logprob": -0.1}}]},
        {"prompt_logprobs": None},
        {},
        [],
    ],
    ids=str,
)
async def test_a_token_of_which_nothing_usable_is_said_is_a_failure_of_vllms(said: object) -> None:
    """PITFALLS R10: what was not said of a token was filled up."""
    async with saying(said) as client:
        with pytest.raises(EngineError, match=r"could not score|no usable numbers"):
            await client.score("m", [5, 6])


ONE_FOR_TWO = {"token_ids": [6, 7], "finish_reason": None, "logprobs": {"content": [{"logprob": -1.0, **NO_OTHERS}]}}
OF_ANOTHER_FORM: list[object] = [
    {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"finish_reason": None}]}, [],
    {"choices": [ONE_FOR_TWO]},
    {"choices": [{"token_ids": [6], "finish_reason": None, "logprobs": None}]},
]  # fmt: skip


@pytest.mark.parametrize("event", OF_ANOTHER_FORM)
async def test_an_event_of_another_form_is_a_failure_of_vllms(event: object) -> None:
    async with saying(None, event) as client:
        with pytest.raises(EngineError, match="broke off an answer"):
            async for _ in client.stream("m", [5], {}):
                pass
