"""`rl.backend: auto`: whose a key is, and whose variables are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaclaw.config import RlSettings
from metaclaw.config_file import read_settings
from metaclaw.errors import ConfigError

AUTO = {"METACLAW_MODE": "rl", "METACLAW_RL_MODEL": "m", "METACLAW_RL_BACKEND": "auto"}


def rl(tmp_path: Path, **env: str) -> RlSettings:
    return read_settings(tmp_path, AUTO | env)[0].rl


@pytest.mark.parametrize(
    ("env", "meant"),
    [
        ({}, "remote"),
        ({"METACLAW_RL_API_KEY": "tml-1"}, "tinker"),
        ({"METACLAW_RL_API_KEY": "sk-mint-1"}, "mint"),
        ({"METACLAW_RL_API_KEY": "sk-1", "METACLAW_RL_BASE_URL": "https://mint.example"}, "mint"),
        ({"METACLAW_RL_API_KEY": "sk-1", "METACLAW_RL_BASE_URL": "https://weaver-console.example"}, "weaver"),
        ({"METACLAW_RL_API_KEY": "sk-1", "WEAVER_BASE_URL": "https://example"}, "weaver"),
        ({"TINKER_API_KEY": "tml-1"}, "tinker"),
        ({"MINT_API_KEY": "sk-1"}, "mint"),
        ({"WEAVER_API_KEY": "sk-1", "METACLAW_RL_API_KEY": "tml-1"}, "tinker"),
    ],
)
def test_auto_goes_by_keys_and_addresses(tmp_path: Path, env: dict[str, str], meant: str):
    assert rl(tmp_path, **env).backend == meant


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"METACLAW_RL_API_KEY": "sk-1"}, "neither rl.api_key nor rl.base_url says whose it is"),
        ({"MINT_API_KEY": "sk-1", "WEAVER_API_KEY": "sk-2"}, "it could be mint or weaver"),
    ],
)
def test_auto_asks_rather_than_sending_a_key_to_a_stranger(tmp_path: Path, env: dict[str, str], why: str):
    with pytest.raises(ConfigError, match=why) as caught:
        rl(tmp_path, **env)
    assert "sk-" not in str(caught.value)
    assert rl(tmp_path, METACLAW_MODE="skills_only", **env).backend == "auto", "nobody is asked anything"


def test_the_variables_of_a_cloud_are_read_for_that_cloud_alone_and_after_what_was_set(tmp_path: Path):
    variables = {"MINT_API_KEY": "sk-1", "MINT_BASE_URL": "https://a.example/", "TINKER_API_KEY": "tml-1"}
    found = rl(tmp_path, METACLAW_RL_BACKEND="mint", **variables)
    assert (found.api_key.get_secret_value(), found.base_url) == ("sk-1", "https://a.example")
    own = {"METACLAW_RL_API_KEY": "sk-own", "METACLAW_RL_BASE_URL": "https://own.example"}
    found = rl(tmp_path, METACLAW_RL_BACKEND="mint", **variables, **own)
    assert (found.api_key.get_secret_value(), found.base_url) == ("sk-own", "https://own.example")
    assert rl(tmp_path, METACLAW_RL_BACKEND="remote", **variables).api_key.get_secret_value() == ""
    with pytest.raises(ConfigError, match="MINT_BASE_URL: 'nowhere' is not a URL"):
        rl(tmp_path, METACLAW_RL_BACKEND="mint", MINT_BASE_URL="nowhere")
