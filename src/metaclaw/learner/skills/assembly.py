"""Which jobs about skills the settings ask for.

Owns putting their parts together; refuses to know how any of them works. Invariant: what is not done is said once, with
the setting that changes it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import secrets
from dataclasses import dataclass
from typing import cast

import aiohttp

from metaclaw.config import Settings
from metaclaw.extras import load_backend
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.learner.failures import FailureFinder
from metaclaw.learner.jobs import Job
from metaclaw.learner.judges.judge import Judge
from metaclaw.learner.skills.answerers import Answerer, AnswererOfEach, PolicyAnswerer, PoolAnswerer, Prices
from metaclaw.learner.skills.asked import Asked
from metaclaw.learner.skills.evolving import Evolving, EvolvingParts, EvolvingRule
from metaclaw.learner.skills.proving import Proving, ProvingParts, ProvingRule
from metaclaw.learner.skills.shelf import Shelf
from metaclaw.learner.skills.sifting import Meanings
from metaclaw.learner.skills.tending import Tending, TendingRule
from metaclaw.learner.skills.views import LearnersSkills
from metaclaw.recall.composing import Budget
from metaclaw.recall.policy_tokens import PolicyTokens
from metaclaw.recall.sizes import Measuring
from metaclaw.retrieval.configured import open_embedder
from metaclaw.skills.layout import STARTER_FOLDER, starter_folders
from metaclaw.skills.library import SkillLibrary
from metaclaw.skills.skill import read_skill
from metaclaw.skills.trial.verdicts import TrialRule
from metaclaw.upstreams.asked_models import AskedModel, open_chat_model
from metaclaw.upstreams.configured import open_pool, training_server
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.prices import load_prices
from metaclaw.upstreams.structured import StructuredModel

_PATIENCE_S = 10.0  # with whoever counts tokens

_log = logging.getLogger("metaclaw.learner")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillParts:
    """What the jobs are made from; what must be let go of at the end is pushed onto ``closing``."""

    settings: Settings
    journal: LearningJournal
    session: aiohttp.ClientSession
    judge: Judge | None
    closing: contextlib.AsyncExitStack


def skill_jobs(parts: SkillParts) -> list[Job]:
    """Writing, trying and counting skills, and what commands ask for. Raises ``ConfigError`` for what cannot work."""
    settings = parts.settings
    if not settings.skills.enabled:
        return []
    trials = SkillTrials.open(settings.learning_db)
    parts.closing.callback(trials.close)
    starter = STARTER_FOLDER if settings.skills.starter else None
    skills = LearnersSkills(SkillLibrary(settings.skills_dir, starter=starter, own=settings.own_skills_dirs), trials)
    shelf = Shelf(settings.skills_dir, settings.own_skills_dirs)
    failures = FailureFinder(turns_db=settings.turns_db, judgements=parts.journal, trials=trials)
    proving = _proving(parts, trials, skills, shelf)
    evolving = _evolving(parts, trials, skills, failures)
    rule = TendingRule(unused_days=settings.skills.trial.unused_days, error=settings.skills.trial.error)
    tending = Tending(turns_db=settings.turns_db, trials=trials, shelf=shelf, rule=rule)
    asked = Asked(
        requests_db=settings.requests_db, trials=trials, proving=proving, evolving=evolving, failures=failures
    )
    return [tending, proving, asked, *([evolving] if evolving else [])]


def _evolving(
    parts: SkillParts, trials: SkillTrials, skills: LearnersSkills, failures: FailureFinder
) -> Evolving | None:
    evolver = parts.settings.evolver
    if not (evolver.enabled and evolver.has_place and evolver.model):
        if evolver.enabled and (evolver.has_place or evolver.model):
            _log.warning("no skills are written: evolver.model and evolver.url (or evolver.provider) must both be set")
        return None
    asked = AskedModel(
        name="the evolver",
        section="evolver.",
        provider=evolver.provider,
        url=evolver.url,
        api_key=evolver.api_key,
        bedrock_region=evolver.bedrock_region,
        timeout_s=evolver.timeout_s,
    )
    client = open_chat_model(asked, parts.session)
    model = StructuredModel(client, model=evolver.model, max_tokens=evolver.max_tokens, timeout_s=evolver.timeout_s)
    place = evolver.url or evolver.provider
    _log.info("skills are written by %s at %s, which is sent the exchanges that failed", evolver.model, place)
    return Evolving(
        EvolvingParts(
            trials=trials,
            failures=failures,
            evolver=model,
            skills=skills,
            meanings=_meanings(parts),
            cost=functools.partial(_prices(parts.settings), "the evolver"),
            new_id=lambda: secrets.token_hex(6),
            new_fence=lambda: secrets.token_hex(16),
        ),
        EvolvingRule(
            min_failures=evolver.min_failures,
            max_failures=max(8, evolver.min_failures),
            max_new=evolver.max_new,
            min_pause_s=evolver.min_pause_s,
            max_per_day=evolver.max_per_day,
        ),
    )


def _meanings(parts: SkillParts) -> Meanings | None:
    embedder = open_embedder(parts.settings.embeddings, parts.session)
    if embedder is None:
        return None
    module = load_backend("metaclaw.skills.evolution.meanings", extra="evolve")
    different = [read_skill(folder) for folder, _, _ in starter_folders()]
    return cast(Meanings, module.ProposalMeanings(embedder, parts.settings.home / "cache", different=different))


def _proving(parts: SkillParts, trials: SkillTrials, skills: LearnersSkills, shelf: Shelf) -> Proving:
    settings, trial = parts.settings, parts.settings.skills.trial
    budget = Budget(
        max_tokens=settings.recall.max_tokens,
        max_skills=settings.skills.top_k,
        max_memories=0,
        skills_share=settings.recall.skills_share,
    )
    rule = TrialRule(error=trial.error, worthwhile=trial.worthwhile, max_observations=trial.max_comparisons)
    return Proving(
        ProvingParts(
            turns_db=settings.turns_db,
            trials=trials,
            skills=skills,
            shelf=shelf,
            budget=budget,
            judge=parts.judge,
            answerer=_answerer(parts),
            chance=random.Random(secrets.randbits(64)),
            measuring=_measuring(parts),
        ),
        ProvingRule(trial=rule, share=trial.share, replays_per_hour=trial.replays_per_hour),
    )


def _measuring(parts: SkillParts) -> Measuring:
    """Who counts tokens as the gateway has them counted; a learner has more time for it."""
    settings = parts.settings
    server = HttpModel(parts.session, training_server(settings))
    return PolicyTokens(server, settings.is_trained, patience_s=_PATIENCE_S)


def _answerer(parts: SkillParts) -> Answerer | None:
    settings = parts.settings
    prices = _prices(settings)

    def of_models(agent: str | None) -> Answerer | None:
        pool = open_pool(settings, parts.session, agent=agent)
        if pool is None:
            return None
        parts.closing.push_async_callback(pool.close)
        return PoolAnswerer(pool, prices)

    upstream = HttpModel(parts.session, training_server(settings))
    of_policy, of_all = PolicyAnswerer(upstream, parts.journal, settings.rl), of_models(None)
    others = of_all if settings.mode == "skills_only" else of_policy
    named: dict[str, Answerer | None] = {}
    for agent, own in settings.agents.named.items():
        models = of_models(agent) if own.has_own_model else of_all
        named[agent] = of_policy if settings.is_trained(agent) else models
    return AnswererOfEach(named, others) if others or any(named.values()) else None


def _prices(settings: Settings) -> Prices:
    return load_prices(settings.home).usd
