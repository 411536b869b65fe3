"""From the settings to clients: presets, what a user wrote over them, several keys, further upstreams."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from metaclaw.config import DialectName, Settings, UpstreamSettings
from metaclaw.errors import ConfigError, UpstreamError
from metaclaw.upstreams.configured import open_pool
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.pool import Outbound
from metaclaw.upstreams.presets import ALIASES, PRESETS, find_preset
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import PATHS, Upstream
from tests.fakes.llm import Answer, fake_llm

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def upstreams(openrouter: dict[str, Any] | None = None, **llm: Any) -> list[Upstream]:
    settings = Settings.model_validate({"llm": llm, "openrouter": openrouter or {}})
    async with new_session() as session:
        pool = open_pool(settings, session)
    return (
        []
        if pool is None
        else [member.client.upstream for member in pool.members if isinstance(member.client, HttpModel)]
    )


@pytest.mark.parametrize("name", PRESETS)
async def test_a_preset_needs_its_name_alone(name: str) -> None:
    (one,) = await upstreams(provider=name, api_key="k")
    preset = PRESETS[name]
    assert (one.base_url, one.dialects) == (preset.base_url, preset.dialects)
    assert set(one.dialects) <= PATHS.keys()
    assert preset.bases.keys() <= set(preset.dialects)
    for url in (preset.base_url, *preset.bases.values()):
        assert UpstreamSettings(api_base=url).api_base == url
        assert preset.is_local == url.startswith("http://127.0.0.1:")
        assert preset.is_local or re.match(r"https://[a-z.-]+/", url)


def test_every_dialect_that_can_be_set_has_a_path() -> None:
    assert set(get_args(DialectName)) == PATHS.keys()


def test_older_names_of_providers_are_known() -> None:
    assert all(find_preset(alias) is PRESETS[name] for alias, name in ALIASES.items())
    assert find_preset(" Kimi ") is PRESETS["moonshot"]
    assert find_preset("custom") is None


async def test_what_the_user_wrote_wins() -> None:
    (one,) = await upstreams(
        provider="anthropic",
        api_base="http://127.0.0.1:9/v1/",
        auth_method="bearer",
        dialects="openai.chat",
        model_id="m",
        connect_timeout_s=1,
        first_byte_timeout_s=2,
        gap_timeout_s=3,
        answer_timeout_s=4,
    )
    assert (one.base_url, one.dialects, one.auth, one.model_id) == (
        "http://127.0.0.1:9/v1", ("openai.chat",), "bearer", "m",
    )  # fmt: skip
    assert (one.timeouts.connect_s, one.timeouts.first_byte_s, one.timeouts.gap_s) == (1, 2, 3)
    assert (one.timeouts.begins_s(is_stream=True), one.timeouts.begins_s(is_stream=False)) == (2, 4)


async def test_a_dialect_at_a_providers_other_address_goes_with_that_address() -> None:
    (own,) = await upstreams(provider="deepseek")
    assert own.url("anthropic.messages") == "https://api.deepseek.com/anthropic/v1/messages"
    assert own.url("openai.chat") == "https://api.deepseek.com/v1/chat/completions"
    (moved,) = await upstreams(provider="deepseek", api_base="http://127.0.0.1:9/v1")
    assert (moved.dialects, moved.bases) == (("openai.chat",), {})


async def test_nothing_is_configured_by_default() -> None:
    assert await upstreams() == []
    assert await upstreams(api_key="sk-1") == []


async def test_a_name_of_ones_own_needs_a_url() -> None:
    (one,) = await upstreams(provider="at home", api_base="http://127.0.0.1:9/v1")
    assert (one.name, one.dialects) == ("at home", ("openai.chat",))
    with pytest.raises(ConfigError, match=r"^llm\.api_base is empty.*'opnai' is no preset.*openai, anthropic"):
        await upstreams(provider="opnai")
    with pytest.raises(ConfigError, match=r"^llm\.fallbacks\.0\.api_base is empty"):
        await upstreams(provider="openai", fallbacks=[{"api_key": "k"}])


async def test_the_policy_may_stand_alone_whatever_the_name_of_no_model_is() -> None:
    async with new_session() as session:
        assert open_pool(Settings.model_validate({"mode": "rl", "llm": {"provider": "at home"}}), session) is None


async def test_every_key_is_a_member_of_its_own_in_order_and_named_by_its_setting() -> None:
    members = await upstreams(
        provider="openai", api_key="k1", api_keys=["k2", "k3"], fallbacks=[{"provider": "ollama"}]
    )
    assert [(one.name, one.api_key.get_secret_value(), one.key_setting) for one in members] == [
        ("openai", "k1", "llm.api_key"),
        ("openai", "k2", "llm.api_keys[0]"),
        ("openai", "k3", "llm.api_keys[1]"),
        ("ollama", "", "llm.fallbacks.0.api_key"),
    ]
    only = await upstreams(provider="openai", api_keys=["k2"])
    assert [one.key_setting for one in only] == ["llm.api_keys[0]"]


async def test_openrouter_hears_what_is_set_for_it_and_nobody_else_does() -> None:
    openrouter = {
        "app_name": "mine", "app_url": "https://example.org", "route": "price",
        "fallback_models": "a/b, c/d", "data_policy": "deny",
    }  # fmt: skip
    one, other = await upstreams(openrouter, provider="openrouter", fallbacks=[{"provider": "openai"}])
    assert one.headers == {"HTTP-Referer": "https://example.org", "X-Title": "mine"}
    assert one.extra_body == {
        "models": ["a/b", "c/d"],
        "provider": {"sort": "price", "data_collection": "deny"},
    }
    assert (other.headers, other.extra_body) == ({}, {})
    (plain,) = await upstreams(provider="openrouter")
    assert (plain.headers, plain.extra_body) == ({}, {})
    (fallback,) = await upstreams({"route": "fallback"}, provider="openrouter")
    assert fallback.extra_body == {"route": "fallback"}


async def test_the_limits_of_the_settings_hold() -> None:
    async with fake_llm(lambda _: Answer(status=500)) as llm, new_session() as session:
        settings = Settings.model_validate({"llm": {"api_base": llm.url, "max_attempts": 2, "max_retry_s": 60}})
        pool = open_pool(settings, session)
        assert pool is not None
        with pytest.raises(UpstreamError, match="answered 500"):
            await pool.send(lambda _: Outbound(dialect="openai.chat", body=b'{"model": "m"}'))
        assert len(llm.requests) == 2


def test_a_key_in_an_upstream_is_not_shown() -> None:
    assert "sk-1" not in repr(UpstreamSettings(api_key=SecretStr("sk-1"), api_keys=(SecretStr("sk-1"),)))


@pytest.mark.parametrize(
    ("provider", "token", "name"),
    [
        ("anthropic", "", "anthropic subscription"),
        ("anthropic", "sk-ant-oat01-x", "anthropic subscription"),  # of `claude setup-token`
        ("openai-codex", "", "openai-codex subscription"),
        ("gemini", "AIza-x", "gemini"),  # an API key
    ],
)
async def test_what_is_paid_by_the_month_is_called_so(provider: str, token: str, name: str) -> None:
    settings = Settings.model_validate(
        {"llm": {"provider": provider, "auth_method": "oauth_token", "oauth_token": token}}
    )
    async with new_session() as session:
        pool = open_pool(settings, session)
    assert pool is not None
    assert [member.client.name for member in pool.members] == [name]
