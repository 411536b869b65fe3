"""The learner's jobs over a real training server, without its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from metaclaw.config import GateSettings, JudgeSettings, RlSettings, Settings, UpdateSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.learner.distillation.teaching import teaching_for
from metaclaw.learner.extras import load_updater
from metaclaw.learner.inbox import Inbox
from metaclaw.learner.jobs import Patience
from metaclaw.learner.judges.verifier import Verifier, load_verifier
from metaclaw.learner.judging import Judging
from metaclaw.learner.rollouts import rollouts_for
from metaclaw.learner.updating import UpdatePace, Updating
from tests.fakes.gate import FakeGate
from tests.fakes.training_server import API_KEY, TrainingServer

VERIFIER = "tests.fakes.verifiers:share_of_lower_case"
UPDATE = UpdateSettings(
    min_exchanges=16, min_informative=1, max_exchanges=32, learning_rate=0.02, warmup_steps=2, max_kl=5.0,
    max_age_days=1e6, steps=1,
)  # fmt: skip

# Nothing is held out, and a random model may say anything: whether its versions are good is not what is tested here.
GATE = GateSettings(
    held_out_share=0, min_answers=8, max_replays=8, max_answer_tokens=8, max_kl=100, max_kl_base=100, max_nll_rise=100,
    max_entropy_fall=0.99, max_length_ratio=100, max_repetition_rise=1, max_copying_rise=1, max_empty_rise=1,
    max_refusal_rise=1, max_language_rise=1,
)  # fmt: skip


def settings_for(home: Path, trainer: TrainingServer, *, verifier: str = VERIFIER, **update) -> Settings:
    """Mode ``rl`` on ``trainer``, judged by ``verifier``."""
    return Settings(
        home=home,
        mode="rl",
        rl=RlSettings(
            model=str(trainer.model), remote_url=trainer.url, remote_api_key=API_KEY, remote_timeout_s=60, lora_rank=8,
            judge=JudgeSettings(verifier=verifier), update=UPDATE.model_copy(update=update), gate=GATE,
        ),
    )  # fmt: skip


@dataclass
class Learner:
    judging: Judging
    updating: Updating


def learner_for(
    settings: Settings,
    journal: LearningJournal,
    holds: PolicyHolds,
    session: aiohttp.ClientSession | None = None,
) -> Learner:
    """The jobs as the learner runs them, with a gate that lets everything pass.

    Through ``session`` an update draws answers of its own and asks teachers, where the settings say so.
    """
    inbox = Inbox(turns_db=settings.turns_db, journal=journal, needs_followup=False, idle_s=1)
    judge = Verifier(load_verifier(settings.rl.judge.verifier), name="a verifier", timeout_s=5)
    pace = UpdatePace(patience=Patience(first_s=0))
    rollouts = rollouts_for(settings, journal, session, judge) if session is not None else None
    teaching = teaching_for(settings, journal, session) if session is not None else None
    updater = load_updater(settings, journal, FakeGate(), holds, rollouts, teaching)
    return Learner(
        Judging(journal=journal, inbox=inbox, judge=judge),
        Updating(journal=journal, training=updater, pace=pace),
    )


@contextmanager
def holding(settings: Settings) -> Iterator[PolicyHolds]:
    holds = PolicyHolds.open(settings.learning_db)
    yield holds
    holds.close()
