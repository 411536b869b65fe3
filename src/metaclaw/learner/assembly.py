"""Which jobs the settings ask for.

Owns the choice and what the jobs share; refuses to know how any of them works. Invariant: what is not done is said once
when the process begins, with the setting that changes it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from metaclaw.config import Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.learner.extras import load_updater, torch_kept_out
from metaclaw.learner.inbox import Inbox, RetryPolicy
from metaclaw.learner.jobs import Job
from metaclaw.learner.judges.judge import Judge
from metaclaw.learner.judging import Judging
from metaclaw.learner.skills.assembly import SkillParts, skill_jobs
from metaclaw.learner.updating import Updating

_log = logging.getLogger("metaclaw.learner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What jobs are made from. What a job must let go of at the end is pushed onto ``closing``."""

    settings: Settings
    journal: LearningJournal
    session: aiohttp.ClientSession
    judge: Judge | None
    closing: contextlib.AsyncExitStack


def jobs_for(shared: Shared) -> list[Job]:
    """Every job that the settings ask for. Raises ``ConfigError`` or ``MissingExtraError`` for one that cannot work."""
    return [job for make in _MAKERS for job in make(shared)]


def _rl_jobs(shared: Shared) -> list[Job]:
    """Judging and training, which need each other: what is not judged is not trained on."""
    settings, journal = shared.settings, shared.journal
    if settings.mode == "auto":
        _log.info("mode auto trains like rl for now: whenever enough was judged, not only while you are away")
    judge = shared.judge
    if settings.mode == "skills_only":
        _log.info("mode is skills_only: nothing is trained")
    if judge is None:
        _log.warning("NO JUDGE, NO LEARNING: set rl.judge.verifier, or rl.judge.url and rl.judge.model")
        return []
    inbox = Inbox(
        turns_db=settings.turns_db,
        journal=journal,
        needs_followup=judge.needs_followup,
        idle_s=settings.rl.judge.idle_s,
        needs_trainable=settings.mode != "skills_only",
        retry=RetryPolicy(max_age_s=settings.rl.update.max_age_days * 86_400),
    )
    judging = Judging(journal=journal, inbox=inbox, judge=judge)
    if settings.mode == "skills_only":
        _log.info("judging with %s, so that failures are known", judge.name)
        return [judging]
    with torch_kept_out():
        updater = load_updater(settings, journal)
    shared.closing.push_async_callback(updater.close)
    _log.info("judging with %s, training on %s", judge.name, settings.rl.remote_url)
    return [judging, Updating(journal=journal, training=updater)]


def _skill_jobs(shared: Shared) -> list[Job]:
    parts = SkillParts(
        settings=shared.settings,
        journal=shared.journal,
        session=shared.session,
        judge=shared.judge,
        closing=shared.closing,
    )
    return skill_jobs(parts)


# One function a part of learning; a new part is added here.
_MAKERS: tuple[Callable[[Shared], list[Job]], ...] = (_rl_jobs, _skill_jobs)
