"""Which judge the settings ask for.

Owns the choice; refuses to know how each judges. Invariant: without one nothing is learned, and that is said.
"""

from __future__ import annotations

import secrets

import aiohttp

from metaclaw.config import JudgeSettings
from metaclaw.errors import ConfigError
from metaclaw.learner.judges.judge import Judge
from metaclaw.learner.judges.llm import LlmJudge
from metaclaw.learner.judges.verifier import Verifier, load_verifier
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.upstream import Timeouts, Upstream


def load_judge(settings: JudgeSettings, session: aiohttp.ClientSession) -> Judge | None:
    """The judge of ``rl.judge``, ``None`` when there is none. Raises ``ConfigError`` for one that cannot work."""
    if settings.verifier:
        return Verifier(load_verifier(settings.verifier), name=settings.verifier, timeout_s=settings.timeout_s)
    if not settings.url:
        return None
    if not settings.model:
        raise ConfigError("rl.judge.model is empty: name the model that judges at rl.judge.url")
    upstream = Upstream(
        name="the judge",
        base_url=settings.url,
        api_key=settings.api_key,
        key_setting="rl.judge.api_key",
        timeouts=Timeouts(first_byte_s=settings.timeout_s, gap_s=settings.timeout_s),
    )
    return LlmJudge(HttpModel(session, upstream), settings, new_fence=lambda: secrets.token_hex(16))
