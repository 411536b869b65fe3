"""``/metrics`` says what learning cost; what is not known is no zero."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from metaclaw.journal.skill_records import Evolution
from metaclaw.journal.skill_trials import SkillTrials
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio


def evolve(learning_db: Path) -> None:
    with SkillTrials.open(learning_db, clock=lambda: 5.0) as trials:
        known = Evolution(
            agent="main", author="m", num_failures=1, prompt_tokens=900, completion_tokens=80, cost_usd=0.25
        )
        trials.record_evolution(known)
        trials.record_evolution(Evolution(agent="main", author="m", num_failures=1))


async def test_what_learning_cost_is_in_the_metrics(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with running_gateway(settings) as gateway:
        page = f"{gateway.url}/metrics"
        async with gateway.http.get(page, headers=gateway.headers) as answer:
            assert 'metaclaw_learning_requests_total{purpose="evolving"} 0.0' in await answer.text()
        await asyncio.to_thread(evolve, settings.learning_db)
        async with gateway.http.get(page, headers=gateway.headers) as answer:
            told = await answer.text()
    for line in (
        'metaclaw_learning_requests_total{purpose="evolving"} 2.0',
        'metaclaw_learning_tokens_total{kind="prompt",purpose="evolving"} 900.0',
        'metaclaw_learning_cost_usd_total{purpose="evolving"} 0.25',
        'metaclaw_learning_unpriced_total{purpose="evolving"} 1.0',
        'metaclaw_learning_requests_total{purpose="trials"} 0.0',
    ):
        assert line in told
