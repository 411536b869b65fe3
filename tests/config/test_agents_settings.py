"""Settings of single agents: over those of all, by id, and refused where two agents would share something."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaclaw.config import Settings
from metaclaw.config_file import dump_settings, get_value, load_settings, parse_settings, set_value
from metaclaw.config_keys import names_in
from metaclaw.errors import ConfigError

TWO = """
mode: skills_only
agents:
  allow_unknown: false
  research.v2:
    mode: rl
    lora: {rank: 16}
    limits: {tokens_per_day: 1000}
  writer: {skills_dir: /srv/writer, max_age_days: 3}
"""


def load(home: Path, text: str) -> Settings:
    (home / "config.yaml").write_text(text)
    return load_settings(home, {})


def test_an_agent_has_what_is_said_of_it_and_else_what_holds_for_all(tmp_path: Path):
    settings = load(tmp_path, TWO)
    assert [settings.mode_of(agent) for agent in ("research.v2", "writer", "main")] == [
        "rl", "skills_only", "skills_only",
    ]  # fmt: skip
    assert settings.modes == {"rl", "skills_only"}
    assert settings.trains
    assert settings.agents.of("research.v2").lora.rank == 16
    assert settings.agents.of("nobody").limits.tokens_per_day == 0
    assert settings.own_skills_dirs == {"writer": Path("/srv/writer")}
    assert settings.agents.max_age_days_of == {"writer": 3.0}
    assert parse_settings(dump_settings(settings)) == settings


def test_settings_of_an_agent_are_set_and_shown_by_its_id_dots_and_all(tmp_path: Path):
    load(tmp_path, TWO)
    set_value(tmp_path, "agents.research.v2.mode", "auto")
    set_value(tmp_path, "agents.7.lora.rank", "4")
    set_value(tmp_path, "agents.writer.skills_dir", "")
    settings = load_settings(tmp_path, {})
    assert get_value(settings, "agents.research.v2.mode") == "auto"
    assert get_value(settings, "agents.7.lora.rank") == "4"
    assert settings.own_skills_dirs == {}
    assert {"agents.research.v2.lora.rank", "agents.7.mode", "agents.allow_unknown"} <= set(names_in(settings))
    with pytest.raises(ConfigError, match=r"did you mean 'agents\.writer\.mode'"):
        set_value(tmp_path, "agents.writer.mod", "rl")


@pytest.mark.parametrize("name", ["../up", "a/b", "Writer", "a..b", "_shared", "x" * 65])
def test_a_name_that_is_no_agents_is_refused_in_the_file(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match="agent id"):
        load(tmp_path, f"agents:\n  {name!r}: {{mode: rl}}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: {skills_dir: x}, b: {skills_dir: ./x}}", "is another agent's too"),
        ("{a: {skills_dir: x}, b: {skills_dir: x/y}}", "is another agent's too"),
        ("{a: {skills_dir: skills/_shared}}", "is not the agent's alone"),
        ("{a: {skills_dir: skills/b}}", "is not the agent's alone"),
        ("{a: {skills_dir: skills}}", "is not the agent's alone"),
        ("{a: {skills_dir: .}}", "is not the agent's alone"),
    ],
)
def test_a_folder_of_skills_is_one_agents_alone(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path, f"agents: {text}\n")


def test_the_folder_that_an_agent_has_anyway_may_be_named(tmp_path: Path):
    assert load(tmp_path, "agents: {a: {skills_dir: skills/a}}").own_skills_dirs == {"a": tmp_path / "skills/a"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: {lora_output: x}, b: {lora_output: x/y}}", "is another agent's too"),
        ("{a: {lora_output: .}}", "holds other things"),
        ("{a: {lora_output: ..}}", "holds other things"),
        ("{a: {lora_output: skills/a}}", "holds other things"),
        ("{a: {lora_output: train-server/checkpoints}}", "holds other things"),
    ],
)
def test_a_folder_for_an_adapter_is_one_agents_and_for_nothing_else(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path, f"agents: {text}\n")
    outputs = load(tmp_path, "agents: {a: {lora_output: lora/a}, b: {mode: rl}}").lora_outputs
    assert outputs == {"a": tmp_path / "lora" / "a"}
