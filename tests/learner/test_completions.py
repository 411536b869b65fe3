"""What is asked about tokens, and the answers that say nothing of them."""

from __future__ import annotations

import aiohttp
import pytest

from metaclaw.errors import BackendError
from metaclaw.learner.gate.answers import EndpointDrawer, RefusedPromptError
from metaclaw.upstreams.http_model import HttpModel
from tests.fakes.teacher import teacher

pytestmark = pytest.mark.anyio


async def test_an_answer_that_does_not_hold_what_was_asked_for_is_an_error_of_the_backend():
    async with teacher(speaks="nothing") as one, aiohttp.ClientSession() as session:
        drawer = EndpointDrawer(HttpModel(session, one.upstream))
        with pytest.raises(BackendError, match=r"examining a version: .* in a form that is not known"):
            await drawer.draw(None, [5, 6], temperature=1.0, max_tokens=4, seed=1)
        with pytest.raises(BackendError, match=r"examining a version: .* in a form that is not known"):
            await drawer.score(None, [5, 6], [7])


async def test_a_prompt_that_is_refused_is_told_apart_from_a_server_that_is_away():
    async with teacher(fails=lambda prompt: 400 if len(prompt) > 1 else 503) as one, aiohttp.ClientSession() as session:
        drawer = EndpointDrawer(HttpModel(session, one.upstream))
        with pytest.raises(RefusedPromptError):
            await drawer.draw(None, [5, 6], temperature=1.0, max_tokens=4, seed=1)
        with pytest.raises(BackendError) as away:
            await drawer.draw(None, [5], temperature=1.0, max_tokens=4, seed=1)
        assert not isinstance(away.value, RefusedPromptError)
