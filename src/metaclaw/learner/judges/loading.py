"""Which judge the settings ask for.

Owns the choice; refuses to know how each judges. Invariant: without one nothing is learned, and that is said; a command
is never run where it cannot be shut in, unless the settings say so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import aiohttp

from metaclaw.config import JudgeSettings
from metaclaw.errors import ConfigError
from metaclaw.journal.paid_calls import CallBook
from metaclaw.learner.judges.combined import FEEDBACK, CombinedJudge, FeedbackJudge, Source
from metaclaw.learner.judges.command import CommandVerifier, programs_of
from metaclaw.learner.judges.counted import CountedModel
from metaclaw.learner.judges.judge import Judge, JudgeBudgetError
from metaclaw.learner.judges.llm import LlmJudge
from metaclaw.learner.judges.verifier import Verifier, load_verifier
from metaclaw.learner.spending import DayCap, Spending
from metaclaw.processes.confinement import SandboxError, choose_confinement
from metaclaw.processes.sandbox import Limits, Sandbox
from metaclaw.upstreams.asked_models import AskedModel, open_chat_model
from metaclaw.upstreams.prices import load_prices

UPSTREAM_NAME = "the judge"


def load_judge(
    settings: JudgeSettings,
    session: aiohttp.ClientSession,
    *,
    home: Path | None = None,
    spending: Spending | None = None,
) -> CombinedJudge | None:
    """The judge of ``rl.judge``, ``None`` when there is none: feedback alone is too rare, and the gate needs a judge.

    ``home`` is hidden from commands, ``spending`` counts. Raises ``ConfigError`` for one that cannot work.
    """
    makers: dict[str, Callable[[], Judge | None]] = {
        FEEDBACK: FeedbackJudge,
        "verifier": lambda: _verifier(settings),
        "command": lambda: _command(settings, home),
        "llm": lambda: _llm(settings, session, spending),
    }
    made = [(name, makers[name]()) for name in settings.precedence]
    sources = [Source(name=name, judge=judge) for name, judge in made if judge is not None]
    if all(source.name == FEEDBACK for source in sources):
        return None
    return CombinedJudge(sources, compares=settings.compare_with_feedback)


def _verifier(settings: JudgeSettings) -> Judge | None:
    if not settings.verifier:
        return None
    return Verifier(load_verifier(settings.verifier), name=settings.verifier, timeout_s=settings.timeout_s)


def _command(settings: JudgeSettings, home: Path | None) -> Judge | None:
    if not settings.command:
        return None
    try:
        confinement = choose_confinement("none" if settings.command_unconfined else "auto")
    except SandboxError as error:
        raise ConfigError(
            f"rl.judge.command: {error}. `rl.judge.command_unconfined: true` would run it with your rights and network"
        ) from error
    sandbox = Sandbox(
        confinement=confinement,
        limits=Limits(time_s=settings.timeout_s, memory_mb=settings.command_memory_mb),
        hidden=() if home is None else (home,),
        shown=programs_of(settings.command),
    )
    return CommandVerifier(settings.command, sandbox)


def _llm(settings: JudgeSettings, session: aiohttp.ClientSession, spending: Spending | None) -> Judge | None:
    if not settings.has_model:
        return None
    if not settings.model:
        raise ConfigError("rl.judge.model is empty: name the model that judges")
    model = judging_model(settings, session, spending)
    return LlmJudge(model, settings, new_fence=lambda: secrets.token_hex(16))


def judging_model(settings: JudgeSettings, session: aiohttp.ClientSession, spending: Spending | None) -> CountedModel:
    """The model of the LLM judge."""
    asked = AskedModel(
        name=UPSTREAM_NAME,
        section="rl.judge.",
        provider=settings.provider,
        url=settings.url,
        api_key=settings.api_key,
        bedrock_region=settings.bedrock_region,
        timeout_s=settings.timeout_s,
    )
    return CountedModel(open_chat_model(asked, session), settings, spending)


def spending_of(settings: JudgeSettings, book: CallBook, home: Path) -> Spending:
    """What counts the judging of ``settings``, with the prices of ``home``."""
    prices = load_prices(home)
    cap = DayCap(
        doing="judging",
        section="rl.judge",
        max_tokens=settings.max_tokens_per_day,
        max_usd=settings.max_usd_per_day,
        error=JudgeBudgetError,
    )
    return Spending(
        book=book,
        model=settings.model,
        price=lambda tokens: prices.usd(UPSTREAM_NAME, settings.model, tokens),
        cap=cap,
    )
