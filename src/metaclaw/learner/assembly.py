"""Which jobs the settings ask for.

Owns the choice and what the jobs share; refuses to know how any of them works. Invariant: what is not done is said once
when the process begins, with the setting that changes it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from metaclaw.config import Settings
from metaclaw.errors import ConfigError
from metaclaw.journal.ended_sessions import EndedSessions
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.opinions import OpinionBook
from metaclaw.journal.paid_calls import CallBook
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.train_steps import TrainSteps
from metaclaw.learner.deciding import Deciding
from metaclaw.learner.decisions import PolicyDecisions
from metaclaw.learner.embedding import EmbeddingMemories
from metaclaw.learner.extras import load_backend, load_teaching, load_updater, torch_kept_out
from metaclaw.learner.gate.assembly import gate_for
from metaclaw.learner.gate.canary import Canaries
from metaclaw.learner.gate.watching import Watching
from metaclaw.learner.inbox import Inbox, RetryPolicy
from metaclaw.learner.indexing import IndexingMemories
from metaclaw.learner.jobs import Job
from metaclaw.learner.judges.judge import Judge
from metaclaw.learner.judging import Judging
from metaclaw.learner.late_feedback import LateFeedback
from metaclaw.learner.outputs import Outputs
from metaclaw.learner.reading_now import ReadingNow
from metaclaw.learner.remembering import Remembering
from metaclaw.learner.rollouts import rollouts_for
from metaclaw.learner.skills.assembly import SkillParts, skill_jobs
from metaclaw.learner.spending import Spending
from metaclaw.learner.taking_in import NotBefore, TakingIn
from metaclaw.learner.tidying import Tidying
from metaclaw.learner.tracking.assembly import tracking_for
from metaclaw.learner.updating import AnyTime, Permission, PermissionOf, Updating, WhenAsked
from metaclaw.learner.windows.assembly import looking_for
from metaclaw.learner.windows.watch import Windows
from metaclaw.memory.embedding import UnitEmbedding
from metaclaw.memory.extraction.findings import Material
from metaclaw.memory.extraction.model import ModelExtractor
from metaclaw.memory.extraction.rules import RuleExtractor
from metaclaw.memory.extraction.unread import UnreadExchanges, When
from metaclaw.memory.reindexing import Reindexing
from metaclaw.memory.store import MemoryStore
from metaclaw.retrieval.configured import open_embedder
from metaclaw.upstreams.asked_models import AskedModel, open_chat_model
from metaclaw.upstreams.prices import load_prices
from metaclaw.upstreams.structured import StructuredAnswer, StructuredModel

_log = logging.getLogger("metaclaw.learner")

_MAX_EXTRACTED_TOKENS = 4096  # thinking included


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What jobs are made from. What a job must let go of at the end is pushed onto ``closing``."""

    settings: Settings
    journal: LearningJournal
    session: aiohttp.ClientSession
    judge: Judge | None
    closing: contextlib.AsyncExitStack
    spending: Spending | None = None  # what judging takes


def jobs_for(shared: Shared) -> list[Job]:
    """Every job that the settings ask for. Raises ``ConfigError`` or ``MissingExtraError`` for one that cannot work."""
    return [job for make in _MAKERS for job in make(shared)]


def _rl_jobs(shared: Shared) -> list[Job]:
    """Judging and training, which need each other: what is not judged is not trained on."""
    settings, journal = shared.settings, shared.journal
    judge = shared.judge
    if not settings.trains:
        _log.info("mode is skills_only: nothing is trained")
    if judge is None:
        if not settings.trains:
            _log.info("no judge: failures are known from feedback and from what users say next alone")
            return []
        _log.warning("NO JUDGE, NO LEARNING: set rl.judge.verifier, or rl.judge.url and rl.judge.model")
        return _taking_in(shared)
    inbox = Inbox(
        turns_db=settings.turns_db,
        journal=journal,
        needs_followup=judge.needs_followup,
        idle_s=settings.rl.judge.idle_s,
        is_trained=settings.is_trained,
        held_out_share=settings.rl.gate.held_out_share,
        retry=RetryPolicy(max_age_s=settings.rl.update.max_age_days * 86_400),
        ended=EndedSessions(settings.requests_db),
    )
    judging = Judging(journal=journal, inbox=inbox, judge=judge, late=_late_feedback(shared, inbox))
    if not settings.trains:
        _log.info("judging with %s, so that failures are known", judge.name)
        return [judging]
    with torch_kept_out():
        gate = gate_for(settings, journal, shared.session, judge, shared.spending)
        rollouts = rollouts_for(settings, journal, shared.session, judge)
        teaching = load_teaching(settings, journal, shared.session, _teacher_book(shared))
        updater = load_updater(settings, journal, gate, _holds(shared), rollouts, teaching)
        taking_in = _taking_in(shared)
    shared.closing.push_async_callback(updater.close)
    trainer = settings.rl.backend if settings.rl.is_cloud else settings.rl.remote_url
    _log.info("judging with %s, training on %s", judge.name, trainer)
    windows = _windows(shared) if settings.trains_in_windows else None
    updating = Updating(
        journal=journal,
        training=updater,
        permission_of=_permissions(settings, windows, taking_in),
        asked=TrainSteps(settings.requests_db),
    )
    always = [judging, *taking_in, Tidying(updater), updating]
    if settings.rl.update.when_asked_only:
        _log.info("nothing is trained before you ask for it (`metaclaw train-step`): rl.update.when_asked_only")
    if windows is None:
        return always
    _log.info("training happens while you are away (`metaclaw scheduler status`) or ask for it (`metaclaw train-step`)")
    return [*always, windows]


def _taking_in(shared: Shared) -> list[Job]:
    """The job, where an agent was imported; that is done while no learner runs."""
    settings = shared.settings
    if not settings.imported_adapters.is_dir():
        return []
    if settings.rl.is_cloud:
        _log.warning("what waits in %s stays there: a training cloud takes no adapters in", settings.imported_adapters)
        return []
    with torch_kept_out():
        backend = load_backend(settings.rl)
    return [TakingIn(journal=shared.journal, session=shared.session, settings=settings, backend=backend)]


def _permissions(settings: Settings, windows: Windows | None, taking_in: list[Job]) -> PermissionOf:
    any_time, not_before = WhenAsked() if settings.rl.update.when_asked_only else AnyTime(), NotBefore()

    def permission_of(agent: str) -> Permission | None:
        if not settings.is_trained(agent):
            return None
        if any(isinstance(job, TakingIn) and job.waits(agent) for job in taking_in):
            return not_before
        return windows if settings.is_trained_in_windows(agent) and windows is not None else any_time

    return permission_of


def _late_feedback(shared: Shared, inbox: Inbox) -> LateFeedback | None:
    if "feedback" not in shared.settings.rl.judge.precedence:
        return None
    book = OpinionBook.open(shared.settings.learning_db)
    shared.closing.callback(book.close)
    return LateFeedback(
        turns_db=shared.settings.turns_db,
        journal=shared.journal,
        book=book,
        inbox=inbox,
        precedence=shared.settings.rl.judge.precedence,
    )


def _policy_jobs(shared: Shared) -> list[Job]:
    """What a person decides about policies is done in every mode; versions are watched where they serve."""
    settings, holds = shared.settings, _holds(shared)
    deciding = Deciding(requests_db=settings.requests_db, decisions=PolicyDecisions(shared.journal, holds))
    if not settings.trains:
        return [deciding]
    gate = settings.rl.gate
    return [
        deciding,
        Watching(journal=shared.journal, holds=holds, settings=gate),
        Canaries(journal=shared.journal, holds=holds, settings=gate, clock=time.time),
    ]


def _output_jobs(shared: Shared) -> list[Job]:
    settings = shared.settings
    places = {agent: place for agent, place in settings.lora_outputs.items() if settings.is_trained(agent)}
    if not places:
        return []
    return [Outputs(journal=shared.journal, session=shared.session, rl=settings.rl, places=places)]


def _tracking_jobs(shared: Shared) -> list[Job]:
    tracking = tracking_for(shared.settings)
    if tracking is None:
        return []
    shared.closing.push_async_callback(tracking.close)
    _log.info("the numbers of updates go to %s (rl.tracking)", shared.settings.rl.tracking)
    return [tracking]


def _teacher_book(shared: Shared) -> CallBook | None:
    """What a teacher elsewhere takes is counted in."""
    rl = shared.settings.rl
    return _calls(shared) if "opd" in rl.update.methods and rl.opd.url else None


def _calls(shared: Shared) -> CallBook:
    book = CallBook.open(shared.settings.learning_db)
    shared.closing.callback(book.close)
    return book


def _holds(shared: Shared) -> PolicyHolds:
    holds = PolicyHolds.open(shared.settings.learning_db)
    shared.closing.callback(holds.close)
    return holds


def _windows(shared: Shared) -> Windows:
    looking, _ = looking_for(shared.settings, shared.session)
    shared.closing.push_async_callback(looking.close)
    return Windows(conditions=looking, state_file=shared.settings.scheduler_state)


def _skill_jobs(shared: Shared) -> list[Job]:
    parts = SkillParts(
        settings=shared.settings,
        journal=shared.journal,
        session=shared.session,
        judge=shared.judge,
        closing=shared.closing,
    )
    return skill_jobs(parts)


def _memory_jobs(shared: Shared) -> list[Job]:
    settings, memory = shared.settings, shared.settings.memory
    if not memory.enabled:
        _log.info("memory.enabled is off: nothing is remembered")
        return []
    store = MemoryStore.open(settings.memory_db)
    shared.closing.callback(store.close)
    rules = RuleExtractor()
    model = _extracting_model(shared)
    when = When(every_n=memory.every_n_exchanges, idle_s=memory.idle_s)
    remembering = Remembering(
        turns_db=settings.turns_db,
        store=store,
        unread=UnreadExchanges(settings.turns_db, store, when),
        extractor=model or rules,
        fallback=rules,
        max_age_s=memory.extractor_max_age_days * 86_400 or math.inf,
    )
    asked = MemoryStore.open(settings.memory_db)  # of its own: one thread at a time may use a store
    shared.closing.callback(asked.close)
    indexed = MemoryStore.open(settings.memory_db)
    shared.closing.callback(indexed.close)
    indexing = IndexingMemories(Reindexing(indexed))
    return [remembering, ReadingNow(asked, remembering), indexing, *_embedding_jobs(shared)]


def _embedding_jobs(shared: Shared) -> list[Job]:
    embedder = open_embedder(shared.settings.embeddings, shared.session)
    if embedder is None:
        _log.info("no embeddings: memories are found by their words alone")
        return []
    store = MemoryStore.open(shared.settings.memory_db)
    shared.closing.callback(store.close)
    return [EmbeddingMemories(UnitEmbedding(store, embedder))]


def _extracting_model(shared: Shared) -> ModelExtractor | None:
    memory = shared.settings.memory
    if not memory.extractor_url:
        return None
    if not memory.extractor_model:
        raise ConfigError("memory.extractor_model is empty: name the model that finds memories at memory.extractor_url")
    asked = AskedModel(
        name="the extractor of memories",
        section="memory.extractor_",
        url=memory.extractor_url,
        api_key=memory.extractor_api_key,
        timeout_s=memory.extractor_timeout_s,
    )
    model = StructuredModel(
        open_chat_model(asked, shared.session),
        model=memory.extractor_model,
        max_tokens=_MAX_EXTRACTED_TOKENS,
        timeout_s=memory.extractor_timeout_s,
    )
    _log.info("memories are found by %s at %s, which is sent what users say", memory.extractor_model, asked.url)
    return ModelExtractor(
        model,
        name=f"llm:{memory.extractor_model}",
        new_fence=lambda: secrets.token_hex(16),
        on_answer=_extraction_counter(shared, asked.name),
    )


def _extraction_counter(shared: Shared, upstream: str) -> Callable[[Material, StructuredAnswer], Awaitable[None]]:
    """What writes down what reading for memories takes."""
    name = shared.settings.memory.extractor_model
    prices = load_prices(shared.settings.home)
    spending = Spending(book=_calls(shared), model=name, price=lambda tokens: prices.usd(upstream, name, tokens))

    async def count(material: Material, answer: StructuredAnswer) -> None:
        await spending.record("remembering", material.agent, answer.usage)

    return count


# One function a part of learning; a new part is added here.
_MAKERS: tuple[Callable[[Shared], list[Job]], ...] = (
    _rl_jobs,
    _policy_jobs,
    _output_jobs,
    _tracking_jobs,
    _skill_jobs,
    _memory_jobs,
)
