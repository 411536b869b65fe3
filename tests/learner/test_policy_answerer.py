"""Replays answered by the agent's own policy, on a real training server."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from pydantic import SecretStr

from metaclaw.config import RlSettings
from metaclaw.errors import UpstreamError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion
from metaclaw.learner.extras import load_backend
from metaclaw.learner.skills.answerers import PolicyAnswerer
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.fakes.training_server import API_KEY, TrainingServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

ASKED = {"model": "whatever the client asked for", "messages": [{"role": "user", "content": "Say a word."}]}


def commit(journal: LearningJournal, number: int, sampler_path: str) -> None:
    new = NewVersion(base_model="tiny", state_path="unused", sampler_path=sampler_path)
    update = journal.claim("main", journal.serving("main"), [])
    journal.commit(update, new, number=number, baseline=Baseline(value=0.0, num_rewards=1), metrics={})


async def test_a_replay_is_answered_by_the_version_that_serves_and_before_the_first_by_the_base_model(
    trainer: TrainingServer, tmp_path: Path
) -> None:
    own = {"remote_url": trainer.url, "remote_api_key": API_KEY, "lora_rank": 4, "model": str(trainer.model)}
    settings = RlSettings(**own, max_tokens=3)
    run = await load_backend(settings).open(None)
    saved = await run.save(f"main-v1-{uuid.uuid4().hex}")
    await run.close()
    upstream = Upstream(
        name="trainer", base_url=f"{trainer.url}/v1", api_key=SecretStr(API_KEY), key_setting="k", timeouts=Timeouts()
    )
    with LearningJournal.open(tmp_path / "learning.db") as journal:
        async with new_session() as session:
            answerer = PolicyAnswerer(HttpModel(session, upstream), journal, settings)
            base = await answerer.answer("main", ASKED)
            assert base.tokens is not None
            assert 1 <= base.tokens.completion <= 3
            assert base.cost_usd is None, "one's own machine has no list price, and unknown is not 0"
            commit(journal, 1, saved.sampler_path)
            assert (await answerer.answer("main", ASKED)).tokens is not None
            assert (await answerer.answer("another", ASKED)).tokens is not None
            with pytest.raises(UpstreamError) as too_long:
                await answerer.answer("main", {**ASKED, "messages": [{"role": "user", "content": "word " * 200}]})
            assert too_long.value.status in (400, 413, 422), "that says nothing of the exchange, and is no outage"
            commit(journal, 2, f"tinker://{uuid.uuid4()}:train:0/sampler_weights/gone")
            with pytest.raises(UpstreamError, match="gone"):
                await answerer.answer("main", ASKED)
