"""What a start is refused for: each agent's own mode counts, and the model that it would ask."""

from __future__ import annotations

from typing import Any

import pytest

from metaclaw.config import Settings
from metaclaw.errors import ConfigError
from metaclaw.processes.foreground import programs_for
from metaclaw.processes.models import require_model

URL = "http://127.0.0.1:1/v1"
POLICY = {"model": "smollm2"}


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"mode": "skills_only", "llm": {"api_base": URL}},
        {"mode": "skills_only", "llm": {"provider": "anthropic", "api_key": "k"}},
        {"mode": "skills_only", "llm": {"provider": "ollama"}},
        {"mode": "skills_only", "llm": {"provider": "bedrock"}},
        {"mode": "skills_only", "llm": {"provider": "openai-codex", "auth_method": "oauth_token"}},
        {"mode": "skills_only", "llm": {"fallbacks": [{"provider": "ollama"}]}},
        {"mode": "rl", "rl": POLICY},
        {"mode": "rl", "rl": POLICY, "agents": {"a": {"mode": "auto"}}},
        {"mode": "rl", "rl": POLICY, "llm": {"provider": "openai"}, "agents": {"a": {"mode": "skills_only"}}},
        {"mode": "rl", "rl": POLICY, "agents": {"a": {"mode": "skills_only", "llm": {"api_base": URL}}}},
        {"mode": "skills_only", "llm": {"api_base": URL}, "rl": POLICY, "agents": {"a": {"mode": "rl"}}},
    ],
)
def test_every_agent_has_somebody_to_ask(sections: dict[str, Any]):
    require_model(settings(**sections))


@pytest.mark.parametrize(
    ("sections", "missing"),
    [
        ({"mode": "skills_only"}, "llm.api_base"),
        ({"mode": "rl"}, "mode 'rl' needs rl.model"),
        ({"mode": "rl", "rl": POLICY, "agents": {"a": {"mode": "skills_only"}}}, "by the agent 'a'"),
        ({"mode": "skills_only", "llm": {"api_base": URL}, "agents": {"a": {"mode": "auto"}}}, "'auto' needs rl.model"),
    ],
)
def test_an_agent_whom_nobody_would_answer_is_a_reason_not_to_start(sections: dict[str, Any], missing: str):
    with pytest.raises(ConfigError, match=missing):
        require_model(settings(**sections))


def test_one_agent_that_is_trained_is_enough_for_the_learner_to_run():
    off = {"skills": {"enabled": False}, "memory": {"enabled": False}}
    assert [program.name for program in programs_for(settings(**off))] == ["gateway"]
    assert len(programs_for(settings(**off, agents={"a": {"mode": "rl"}}))) == 2
