"""Whether everybody has a model to ask.

Owns that check; refuses to know how a model is called. Invariant: an agent that nobody would answer is found before
anything starts, or is changed.
"""

from __future__ import annotations

from metaclaw.config import Settings
from metaclaw.errors import ConfigError


def require_model(settings: Settings) -> None:
    """Refuse settings with which no request could be answered."""
    asks_models = [agent for agent in settings.agents.named if not settings.is_trained(agent)]
    without = [agent for agent in asks_models if not settings.agents.of(agent).has_own_model]
    has_models = settings.llm.is_named or settings.llm.fallbacks
    if not has_models and (settings.mode == "skills_only" or without):
        whose = "" if settings.mode == "skills_only" else f" by the agent {without[0]!r}"
        raise ConfigError(
            f"neither llm.provider nor llm.api_base is set, so there is no model to ask{whose}; run `metaclaw setup`"
        )
    if settings.trains and not settings.rl.model:
        mode = next(mode for mode in sorted(settings.modes, reverse=True) if mode != "skills_only")
        raise ConfigError(f"mode {mode!r} needs rl.model, the base model that is trained; run `metaclaw setup`")
