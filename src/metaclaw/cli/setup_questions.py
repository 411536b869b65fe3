"""What ``metaclaw setup`` asks, and which answers make another question pointless.

Owns the wording and the order; refuses to know how an answer is asked for or kept. Invariant: a question whose answer
follows from an earlier one is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODES = ("skills_only", "rl", "auto")


@dataclass(frozen=True, slots=True)
class Question:
    """One setting that is asked for. Of ``choices``, one must be the answer."""

    key: str
    text: str
    is_secret: bool = False
    choices: tuple[str, ...] = ()


_PORT = (Question("proxy.port", "Port of the gateway"),)
_MODEL = (
    Question("llm.model_id", "Model"),
    Question("llm.api_key", "API key", is_secret=True),
    Question(
        "llm.oauth_token", "Token of the subscription (empty: the login of its own program is used)", is_secret=True
    ),
)
_ACCESS = Question(
    "llm.auth_method",
    "How it is asked: with an api_key, or by a subscription through the provider's own program (oauth_token)",
    choices=("api_key", "bearer", "x-api-key", "oauth_token"),
)
_UPSTREAM = (
    Question("llm.provider", "Provider ({providers}; or custom, by its URL)"),
    _ACCESS,
    Question("llm.api_base", "Base URL of an OpenAI-compatible API (ends in /v1)"),
    *_MODEL,
)
_FALLBACK = (
    Question("llm.provider", "Model that answers while the training server is down: provider ({providers}; or custom)"),
    Question(_ACCESS.key, f"That model: {_ACCESS.text}", choices=_ACCESS.choices),
    Question("llm.api_base", "That model: base URL of an OpenAI-compatible API (empty: none)"),
    *(Question(question.key, f"That model: {question.text}", question.is_secret) for question in _MODEL),
)
_SERVER = (
    Question("rl.model", "Base model to train: a Hugging Face id, a folder, or smollm2"),
    Question("rl.remote_url", "URL of the training server"),
    Question(
        "rl.remote_api_key",
        "Key of the training server (empty: make one, when it runs on this machine)",
        is_secret=True,
    ),
)
_CLOUD = (
    Question("rl.model", "Base model to train, as the training cloud calls it"),
    Question("rl.api_key", "Key of the training cloud (empty: from its SDK's own variable)", is_secret=True),
)
_JUDGE = (
    Question("rl.judge.verifier", "Judge: a Python function 'package.module:function' (empty: an LLM judges)"),
    Question("rl.judge.url", "Judge: base URL of an OpenAI-compatible API (empty: none)"),
    Question("rl.judge.model", "Judge: model"),
    Question("rl.judge.api_key", "Judge: API key", is_secret=True),
)
_WINDOWS = (
    Question("scheduler.sleep_start", "Training happens while you are away. You go to sleep at"),
    Question("scheduler.sleep_end", "You get up at"),
    Question("scheduler.idle_threshold_minutes", "Minutes without a touch of this machine after which you are away"),
    Question(
        "scheduler.calendar.url",
        "Calendar whose meetings count too: address of an ICS file or CalDAV collection (empty: none)",
        is_secret=True,
    ),
    Question("scheduler.calendar.username", "Calendar: user name (empty: none needed)"),
    Question("scheduler.calendar.password", "Calendar: password", is_secret=True),
)


def questions_for(mode: str, *, is_cloud: bool) -> tuple[Question, ...]:
    """All of a mode, in their order."""
    policy = (*(_CLOUD if is_cloud else _SERVER), *_JUDGE, *_FALLBACK)
    return (*(_UPSTREAM if mode == "skills_only" else policy), *_PORT, *(_WINDOWS if mode == "auto" else ()))


def is_settled(key: str, answers: Mapping[str, Any]) -> bool:
    """Whether an earlier answer makes the question pointless: one judge, no fallback, a provider that says enough."""
    if key.startswith("llm."):
        return _is_settled_of_model(key, answers)
    if key.startswith("scheduler.calendar.") and key != "scheduler.calendar.url":
        return not answers.get("scheduler.calendar.url") or (
            key.endswith("password") and not answers.get("scheduler.calendar.username")
        )
    if key in ("rl.judge.url", "rl.judge.model", "rl.judge.api_key") and answers.get("rl.judge.verifier"):
        return True
    return key in ("rl.judge.model", "rl.judge.api_key") and answers.get("rl.judge.url") == ""


def _is_settled_of_model(key: str, answers: Mapping[str, Any]) -> bool:
    from metaclaw.upstreams.presets import (
        find_preset,
        has_subscription,
        is_bedrock,
        is_subscription_alone,
        needs_no_url,
    )

    provider = answers.get("llm.provider", "")
    is_subscription = answers.get("llm.auth_method") == "oauth_token"
    if key == "llm.auth_method":
        return not has_subscription(provider) or is_subscription_alone(provider)
    if key == "llm.oauth_token":
        return not is_subscription
    if key == "llm.api_base":
        return is_subscription or needs_no_url(provider)
    if key == "llm.api_key":
        preset = find_preset(provider)
        if is_subscription or is_bedrock(provider) or (preset is not None and preset.is_local):
            return True
    if key in ("llm.model_id", "llm.api_key"):
        return not is_subscription and answers.get("llm.api_base") == "" and not needs_no_url(provider)
    return False
