"""What an update is taught beside its rewards.

Owns which methods the settings ask for, and the lessons of one update; refuses to know how a teacher is asked and what
its word weighs. Invariant: without a method of its own here an update is what it is without this module.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import aiohttp

from metaclaw.config import Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.paid_calls import CallBook
from metaclaw.learner.datums import TrainingTurn
from metaclaw.learner.distillation.endpoint import ScoringEndpoint, TeachingBudgetError
from metaclaw.learner.distillation.hindsight import Rendering
from metaclaw.learner.distillation.lessons import Lesson, Lessons
from metaclaw.learner.distillation.opd import OnPolicyDistillation, Teacher
from metaclaw.learner.distillation.self_distillation import SelfDistillation
from metaclaw.learner.spending import DayCap, Spending
from metaclaw.upstreams.configured import training_server
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.prices import load_prices
from metaclaw.upstreams.upstream import Timeouts, Upstream

_log = logging.getLogger(__name__)

_TEACHER = "the teacher"


class Method(Protocol):
    """One way to be taught."""

    async def lesson(self, agent: str, turns: Sequence[TrainingTurn], *, weights: str | None) -> Lesson:
        """What there is to learn about ``turns``; ``weights`` are the policy's (``None``: the base model).

        Raises ``BackendError`` when that cannot be found out now.
        """
        ...


class Teaching:
    """Asks every method."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self._methods = tuple(methods)

    async def lessons(self, agent: str, turns: Sequence[TrainingTurn], *, weights: str | None) -> Lessons:
        """Of one update of ``agent`` that starts from ``weights``. Raises ``BackendError``."""
        return Lessons(each=tuple([await method.lesson(agent, turns, weights=weights) for method in self._methods]))


def teaching_for(
    settings: Settings, journal: LearningJournal, session: aiohttp.ClientSession, book: CallBook | None = None
) -> Teaching:
    """What the settings ask for. ``session`` must stay open as long as it is used, and ``book``, which counts what a
    teacher elsewhere takes."""
    own = ScoringEndpoint(HttpModel(session, training_server(settings)))
    methods = list[Method]()
    if "opd" in settings.rl.update.methods:
        methods.append(
            OnPolicyDistillation(
                _teacher(settings, journal, session, own, book), settings.rl.opd, settings.rl.own_teacher
            )
        )
    if "self_distillation" in settings.rl.update.methods:
        methods.append(
            SelfDistillation(
                turns_db=settings.turns_db,
                endpoint=own,
                rendering=Rendering(HttpModel(session, training_server(settings))),
                settings=settings.rl.self_distillation,
                top_k=0 if settings.rl.is_cloud else settings.rl.self_distillation.top_k,
            )
        )
    return Teaching(methods)


def _teacher(
    settings: Settings,
    journal: LearningJournal,
    session: aiohttp.ClientSession,
    own: ScoringEndpoint,
    book: CallBook | None,
) -> Teacher:
    opd = settings.rl.opd
    if not opd.url:
        return Teacher(endpoint=own, own=own, journal=journal, spending=None)
    upstream = Upstream(
        name=f"{_TEACHER} at {opd.url}",
        base_url=opd.url,
        api_key=opd.api_key,
        key_setting="rl.opd.api_key",
        timeouts=Timeouts(first_byte_s=opd.timeout_s, gap_s=opd.timeout_s),
    )
    _log.info("answers are scored by %s at %s, which is sent the conversations (rl.opd.url)", opd.model, opd.url)
    return Teacher(
        endpoint=ScoringEndpoint(
            HttpModel(session, upstream), ("prompt_logprobs", "echo") if opd.dialect == "auto" else (opd.dialect,)
        ),
        own=own,
        journal=journal,
        spending=None if book is None else _spending(settings, book),
    )


def _spending(settings: Settings, book: CallBook) -> Spending:
    opd = settings.rl.opd
    prices = load_prices(settings.home)
    cap = DayCap(
        doing="teaching",
        section="rl.opd",
        max_tokens=opd.max_tokens_per_day,
        max_usd=opd.max_usd_per_day,
        error=TeachingBudgetError,
    )
    return Spending(
        book=book,
        model=opd.model,
        price=lambda took: prices.usd(_TEACHER, opd.model, took),
        cap=cap,
    )
