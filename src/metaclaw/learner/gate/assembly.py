"""The gate that the settings ask for.

Owns what it is put together from; refuses to know what each part does. Invariant: it judges with the judge that rewards
come from.
"""

from __future__ import annotations

import secrets
from random import SystemRandom

import aiohttp

from metaclaw.config import Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.learner.gate.answers import EndpointDrawer
from metaclaw.learner.gate.gate import Gate
from metaclaw.learner.gate.questions import Questions
from metaclaw.learner.judges.judge import Judge
from metaclaw.learner.judges.loading import judging_model
from metaclaw.learner.judges.pairs import LlmPairs, PairJudge, ScoredPairs
from metaclaw.learner.spending import Spending
from metaclaw.upstreams.configured import training_server
from metaclaw.upstreams.http_model import HttpModel


def gate_for(
    settings: Settings,
    journal: LearningJournal,
    session: aiohttp.ClientSession,
    judge: Judge,
    spending: Spending | None,
) -> Gate:
    """The gate of all agents. ``session`` must stay open as long as it is used."""
    rl = settings.rl
    return Gate(
        questions=Questions(settings.turns_db, journal, rl.gate),
        drawer=EndpointDrawer(HttpModel(session, training_server(settings))),
        judge=_pair_judge(settings, session, judge, spending),
        settings=rl.gate,
    )


def _pair_judge(
    settings: Settings, session: aiohttp.ClientSession, judge: Judge, spending: Spending | None
) -> PairJudge:
    own = settings.rl.judge
    if own.verifier or own.command or not own.has_model:
        return ScoredPairs(judge, SystemRandom())
    return LlmPairs(judging_model(own, session, spending), own, new_fence=lambda: secrets.token_hex(16))
