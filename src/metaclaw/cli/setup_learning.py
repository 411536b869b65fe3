"""``metaclaw setup``: learning from failures with the model that answers.

Owns which settings that takes; refuses to know how somebody is asked. Invariant: who judges or writes skills already is
never replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metaclaw.config import Settings


def can_learn(current: Settings, answers: Mapping[str, Any]) -> bool:
    """Whether the model that answers could judge and write skills, and nobody does yet."""
    is_judged = current.rl.judge.scores or answers.get("rl.judge.url")
    if is_judged or current.evolver.has_place or not _has_key(current, answers):
        return False
    return _of(current, answers, "auth_method") != "oauth_token" and bool(_of(current, answers, "model_id"))


def require_learning(current: Settings, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The settings. Raises ``ConfigError`` where that cannot be."""
    from metaclaw.errors import ConfigError

    if not can_learn(current, answers):
        raise ConfigError(
            "--learn needs llm.model_id and its provider's key, told to setup (a subscription or a variable does not "
            "do), and nobody who judges or writes skills yet (rl.judge, evolver)"
        )
    return learning_with(current, answers)


def learning_with(current: Settings, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with which the model that answers also judges, and writes skills."""
    from metaclaw.upstreams.presets import needs_no_url

    provider = _of(current, answers, "provider")
    named = {
        "provider": provider if needs_no_url(provider) else "",
        "url": _of(current, answers, "api_base"),
        "model": _of(current, answers, "model_id"),
        "api_key": _of(current, answers, "api_key"),
        "bedrock_region": current.llm.bedrock_region,
    }
    return {f"{section}.{key}": value for section in ("rl.judge", "evolver") for key, value in named.items()}


def _has_key(current: Settings, answers: Mapping[str, Any]) -> bool:
    """Whether there is a key, or none is needed: on this machine, at an address of the user's own, and with Bedrock."""
    from metaclaw.upstreams.presets import find_preset

    preset = find_preset(_of(current, answers, "provider"))
    return bool(_of(current, answers, "api_key")) or preset is None or preset.is_local


def _of(current: Settings, answers: Mapping[str, Any], key: str) -> str:
    from metaclaw.config_file import get_value

    name = f"llm.{key}"
    return str(answers[name] if name in answers else get_value(current, name, reveal=True))
