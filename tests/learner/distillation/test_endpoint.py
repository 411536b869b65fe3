"""How likely tokens are to a teacher, asked in both forms that endpoints have."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import numpy as np
import pytest

from metaclaw.learner.distillation.endpoint import RefusedTokensError, ScoringEndpoint, TeacherError
from metaclaw.upstreams.http_model import HttpModel
from tests.fakes.teacher import plainly, teacher, word

pytestmark = pytest.mark.anyio

TOKENS = [5, 6, 7, 8, 6, 0]
BOTH = ("prompt_logprobs", "echo")


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


def expected(first: int) -> list[float]:
    return [plainly(token, place) for place, token in enumerate(TOKENS)][first:]


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("dialects", [None, BOTH])
async def test_both_forms_say_the_same_of_the_same_tokens(session, speaks, dialects: Sequence | None):
    async with teacher(speaks=speaks) as one:
        endpoint = ScoringEndpoint(HttpModel(session, one.upstream), dialects or (speaks,))
        for _ in range(2):
            scored = await endpoint.score("big", TOKENS, first=2)
            np.testing.assert_allclose(scored.logprobs, expected(2), rtol=1e-5)
            assert {token: scored.names[token] for token in (7, 8)} == {7: word(7), 8: word(8)}
            assert scored.took.total == len(TOKENS) + 1
        tries = 1 if dialects is None or speaks == BOTH[0] else 2
        assert len(one.requests) == tries + 1, "what was found out once is kept to"
        assert [body["prompt"] for body in one.requests] == [TOKENS] * (tries + 1)


async def test_what_a_teacher_does_not_say_is_not_a_number_and_what_it_took_is_what_was_sent(session):
    async with teacher(usage=False, logprob=lambda token, place: None if token == 7 else plainly(token, place)) as one:
        scored = await ScoringEndpoint(HttpModel(session, one.upstream)).score(None, TOKENS, first=1)
        assert np.isnan(scored.logprobs[1])
        assert np.isfinite(np.delete(scored.logprobs, 1)).all()
        assert scored.took.total == len(TOKENS) + 1
        assert one.requests[0]["model"] == "first"


async def test_a_teacher_that_tells_nothing_of_prompts_is_refused_with_what_it_would_need(session):
    async with teacher(speaks="nothing") as one:
        with pytest.raises(TeacherError, match=r"prompt_logprobs.*echo"):
            await ScoringEndpoint(HttpModel(session, one.upstream), BOTH).score("big", TOKENS, first=1)


async def test_tokens_that_are_refused_are_told_apart_from_a_teacher_that_is_away(session):
    async with teacher(fails=lambda prompt: 400 if len(prompt) > 4 else 503) as one:
        endpoint = ScoringEndpoint(HttpModel(session, one.upstream), BOTH)
        with pytest.raises(RefusedTokensError):
            await endpoint.score("big", TOKENS, first=1)
        with pytest.raises(TeacherError) as failed:
            await endpoint.score("big", TOKENS[:3], first=1)
        assert not isinstance(failed.value, RefusedTokensError)


async def test_an_answer_about_other_tokens_than_those_sent_is_no_answer(session):
    """PITFALLS R10: what a teacher said was aligned by a length, and filled up with zeros."""
    async with teacher(speaks="echo", reads=lambda prompt: [*prompt, 1, 1]) as one:
        with pytest.raises(TeacherError, match="9 tokens came back for the 6"):
            await ScoringEndpoint(HttpModel(session, one.upstream), ("echo",)).score("big", TOKENS, first=1)
    async with teacher(reads=lambda prompt: [token + 1 for token in prompt]) as one:
        with pytest.raises(TeacherError, match="says nothing of token"):
            await ScoringEndpoint(HttpModel(session, one.upstream)).score("big", TOKENS, first=1)
    # A token that many tokenizers put first, before tokens that are all the same; and an answer that ends too early.
    for reads in (lambda prompt: [1, *prompt], lambda prompt: prompt[:-1]):
        async with teacher(reads=reads) as one:
            with pytest.raises(TeacherError, match="no prompt_logprobs of 6 tokens"):
                await ScoringEndpoint(HttpModel(session, one.upstream)).score("big", [5] * 6, first=2)


async def test_the_likeliest_tokens_come_with_the_sent_one_where_they_are_told(session):
    async with teacher() as one:
        scored = await ScoringEndpoint(HttpModel(session, one.upstream)).score("big", [5, 6, 7, 0], first=2, top=3)
        assert one.requests[0]["prompt_logprobs"] == 3
    assert scored.likeliest is not None
    assert scored.likeliest.tokens_NK.tolist() == [[7, 0], [0, 0]]
    np.testing.assert_allclose(scored.likeliest.logprobs_NK, [[plainly(7, 2), -0.1], [plainly(0, 3), -np.inf]])
