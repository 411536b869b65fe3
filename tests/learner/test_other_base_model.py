"""A training server that was started again with another base model, under the same address and on the same data."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from metaclaw.errors import BackendError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.extras import load_updater
from metaclaw.learner.gate.answers import EndpointDrawer
from metaclaw.learner.inbox import Inbox
from metaclaw.learner.judges.verifier import Verifier, load_verifier
from metaclaw.learner.judging import Judging
from metaclaw.learner.outcomes import Rejected, Waiting
from metaclaw.learner.versions import roll_back
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.fakes.gate import FakeGate
from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import API_KEY, free_port, training_server
from tests.learner.real_loop import holding, settings_for
from tests.learner.talking import Serving, serving, talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]


async def test_what_the_one_model_said_is_not_trained_into_the_other_and_what_is_lost_is_named(tmp_path: Path):
    one, other = make_tiny_model(tmp_path / "one", seed=1), make_tiny_model(tmp_path / "other", seed=2)
    port = free_port()
    with ExitStack() as first:
        trainer = first.enter_context(training_server(one, tmp_path / "data", port=port, max_context=256))
        settings = settings_for(tmp_path / "home", trainer)
        settings = settings.model_copy(update={"rl": settings.rl.model_copy(update={"model": ""})})
        async with AsyncExitStack() as stack:
            journal = stack.enter_context(LearningJournal.open(settings.learning_db))
            holds = stack.enter_context(holding(settings))
            turns = await stack.enter_async_context(TurnJournal(settings.turns_db))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            inbox = Inbox(turns_db=settings.turns_db, journal=journal, needs_followup=False, idle_s=1)
            verifier = Verifier(load_verifier(settings.rl.judge.verifier), name="a verifier", timeout_s=5)
            judging = Judging(journal=journal, inbox=inbox, judge=verifier)
            updater = load_updater(settings, journal, FakeGate(), holds)
            drawer = EndpointDrawer(HttpModel(session, endpoint(trainer.url)))
            assert (await drawer.draw(None, [5, 6], temperature=1.0, max_tokens=4, seed=1)).tokens
            # The same each time: of answers of a token or two one may be as likely to the other model by chance.
            await talk(trainer, turns, Serving(0, str(one)), 16, agent="new", seed=1)
            await talk(trainer, turns, Serving(0, str(one)), 16)
            assert await judging.step()
            assert (await updater.attempt("main")).version == 1
            await talk(trainer, turns, serving(settings.learning_db, trainer), 16)
            assert await judging.step()

            first.close()
            with training_server(other, tmp_path / "data", port=port, max_context=256):
                for _ in range(2):  # the first may meet the weights that were live at the server that is gone
                    with pytest.raises(BackendError) as lost:
                        await updater.attempt("main")
                assert "another base model" in str(lost.value)
                assert "metaclaw policy rollback" in str(lost.value)
                assert len(journal.pending("main")) == 16, "nothing is spent on it"
                refused = await updater.attempt("new")
                assert isinstance(refused, Rejected)
                assert "same base model" in refused.reason
                roll_back(journal, "main", 0)
                left_out = await updater.attempt("main")
                assert isinstance(left_out, Waiting), "one model's tokens would have been trained into another"
                assert (journal.expired("main"), journal.pending("main")) == ({"other_base_model": 16}, [])
                with pytest.raises(BackendError):
                    await drawer.draw(None, [5, 6], temperature=1.0, max_tokens=4, seed=1)
                assert (await drawer.draw(None, [5, 6], temperature=1.0, max_tokens=4, seed=1)).tokens
                await updater.close()


def endpoint(url: str) -> Upstream:
    return Upstream(
        name="the training server", base_url=f"{url}/v1", api_key=SecretStr(API_KEY), key_setting="k",
        timeouts=Timeouts(),
    )  # fmt: skip
