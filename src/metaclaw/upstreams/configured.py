"""Which upstreams the settings ask for.

Owns the way from ``llm`` and ``llm.fallbacks`` to clients; refuses to know how any of them is called. Invariant: what a
user wrote wins over a preset, and nothing is asked at an address that neither names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import aiohttp
from pydantic import SecretStr

from metaclaw.chat.messages import JsonObject
from metaclaw.config import OpenRouterSettings, Settings, UpstreamSettings, bridge_key
from metaclaw.errors import ConfigError
from metaclaw.extras import load_backend
from metaclaw.upstreams.bedrock import BedrockModel, BedrockSettings
from metaclaw.upstreams.cli_model import CliModel, CliSettings
from metaclaw.upstreams.cli_programs import PROGRAMS
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.model_client import ModelClient
from metaclaw.upstreams.pool import Limits, Member, UpstreamPool
from metaclaw.upstreams.presets import BEDROCK, PRESETS, SUBSCRIPTIONS, find_preset, is_bedrock, needs_no_url
from metaclaw.upstreams.prices import SUBSCRIBED
from metaclaw.upstreams.upstream import Auth, Timeouts, Upstream

Make = Callable[[aiohttp.ClientSession], ModelClient]

_OPENROUTER = PRESETS["openrouter"]
_DEFAULT_DIALECTS = ("openai.chat",)


def open_pool(settings: Settings, session: aiohttp.ClientSession, *, agent: str | None = None) -> UpstreamPool | None:
    """The pool of ``llm``, or that of the model which ``agent`` has for itself; ``None`` when no model is configured.

    Raises ``ConfigError`` for what cannot work.
    """
    planned = _planned(settings) if agent is None else _planned_for(agent, settings)
    members = [
        Member(client=make(session), label=label, is_fallback=label.startswith("llm.fallbacks."))
        for label, make in planned
    ]
    limits = Limits(max_attempts=settings.llm.max_attempts, max_retry_s=settings.llm.max_retry_s)
    return UpstreamPool(members, limits=limits) if members else None


def check_upstreams(settings: Settings) -> None:
    """Raise the ``ConfigError`` that ``open_pool`` would, for all or for one agent."""
    _planned(settings)
    for agent, own in settings.agents.named.items():
        if own.has_own_model:
            _planned_for(agent, settings)


def training_server(settings: Settings) -> Upstream:
    """The OpenAI endpoint of who samples the policy: the training server, or the bridge to a training cloud."""
    rl, llm = settings.rl, settings.llm
    is_ours = not rl.is_cloud
    return Upstream(
        name=f"the training server at {rl.remote_url}" if is_ours else f"the sampling bridge to {rl.backend}",
        base_url=f"{rl.remote_url}/v1" if is_ours else f"http://127.0.0.1:{rl.bridge_port}/v1",
        api_key=rl.remote_api_key if is_ours else bridge_key(settings),
        key_setting="rl.remote_api_key" if is_ours else "rl.api_key",
        # It answers in order of arrival, so the first byte may wait for others; then tokens come steadily.
        timeouts=Timeouts(connect_s=llm.connect_timeout_s, first_byte_s=rl.remote_timeout_s, gap_s=llm.gap_timeout_s),
    )


def _planned(settings: Settings) -> list[tuple[str, Make]]:
    """A way to make each client, with the setting of its key."""
    llm = settings.llm
    is_named = llm.api_base or llm.fallbacks or llm.auth_method == "oauth_token" or needs_no_url(llm.provider)
    if "skills_only" not in settings.modes and not is_named:
        return []  # the policy stands alone, whatever name an earlier set-up left there
    places = [("llm", llm), *((f"llm.fallbacks.{number}", entry) for number, entry in enumerate(llm.fallbacks))]
    return [made for place, entry in places for made in _clients(place, entry, settings)]


def _planned_for(agent: str, settings: Settings) -> list[tuple[str, Make]]:
    return _clients(f"agents.{agent}.llm", settings.agents.of(agent).llm, settings)


def _clients(place: str, settings: UpstreamSettings, whole: Settings) -> list[tuple[str, Make]]:
    if settings.auth_method == "oauth_token":
        return [_subscription(place, settings, whole.home / "subscriptions")]
    if is_bedrock(settings.provider):
        return [_bedrock(place, settings)]
    base_url = settings.api_base or _preset_base(place, settings)
    keys = _keys(place, settings) if base_url else []
    made = ((label, _upstream(label, base_url, key, settings, whole.openrouter)) for label, key in keys)
    return [(label, lambda session, upstream=upstream: HttpModel(session, upstream)) for label, upstream in made]


def _subscription(place: str, settings: UpstreamSettings, folder: Path) -> tuple[str, Make]:
    program = PROGRAMS.get(SUBSCRIPTIONS.get(settings.provider.strip().lower(), ""))
    if program is None:
        raise ConfigError(
            f"{place}.auth_method 'oauth_token' is for subscriptions: set {place}.provider to one of "
            f"{', '.join(SUBSCRIPTIONS)}, not {settings.provider!r}"
        )
    # The token of Codex and of Gemini's program is an API key, which is charged for by the token.
    is_subscribed = program is PROGRAMS["claude"] or not settings.oauth_token.get_secret_value()
    cli = CliSettings(
        name=f"{settings.provider}{SUBSCRIBED}" if is_subscribed else settings.provider,
        command=str(settings.cli_path.expanduser() if settings.cli_path else program.command),
        token=settings.oauth_token,
        model_id=settings.model_id,
        max_concurrent=settings.cli_max_concurrent,
        timeouts=_timeouts(settings),
        folder=folder,
    )
    return f"{place}.oauth_token", lambda _session: CliModel(program, cli)


def _bedrock(place: str, settings: UpstreamSettings) -> tuple[str, Make]:
    bedrock = BedrockSettings(
        name=settings.provider,
        region=settings.bedrock_region,
        endpoint=settings.api_base,
        model_id=settings.model_id,
        timeouts=_timeouts(settings),
    )
    load_backend("boto3", extra="bedrock")  # missing, it is said when the program starts, not at the first turn
    return f"{place}.bedrock_region", lambda _session: BedrockModel(bedrock)


def _timeouts(settings: UpstreamSettings) -> Timeouts:
    return Timeouts(
        connect_s=settings.connect_timeout_s,
        first_byte_s=settings.first_byte_timeout_s,
        gap_s=settings.gap_timeout_s,
        plain_s=settings.answer_timeout_s,
    )


def _preset_base(place: str, settings: UpstreamSettings) -> str:
    if preset := find_preset(settings.provider):
        return preset.base_url
    if place == "llm" and settings.provider == "custom":
        return ""  # nothing is configured, which is for others to say
    raise ConfigError(
        f"{place}.api_base is empty, and {place}.provider {settings.provider!r} is no preset: "
        f"give the URL, or one of {', '.join(PRESETS)}, {BEDROCK}"
    )


def _keys(place: str, settings: UpstreamSettings) -> list[tuple[str, SecretStr]]:
    first = (f"{place}.api_key", settings.api_key)
    more = [(f"{place}.api_keys[{number}]", key) for number, key in enumerate(settings.api_keys)]
    given = [(label, key) for label, key in (first, *more) if key.get_secret_value()]
    return given or [first]


def _upstream(
    label: str, base_url: str, key: SecretStr, settings: UpstreamSettings, openrouter: OpenRouterSettings
) -> Upstream:
    preset = find_preset(settings.provider)
    is_presets = preset is not None and base_url == preset.base_url
    dialects = preset.dialects if preset else _DEFAULT_DIALECTS
    if preset and not is_presets:  # what is spoken elsewhere belongs to the preset's own address
        dialects = tuple(name for name in dialects if name not in preset.bases)
    is_openrouter = preset is _OPENROUTER
    auths: dict[str, Auth] = {"bearer": "bearer", "x-api-key": "x-api-key"}
    return Upstream(
        name=settings.provider,
        base_url=base_url,
        api_key=key,
        key_setting=label,
        timeouts=_timeouts(settings),
        dialects=settings.dialects or dialects,
        auth=auths.get(settings.auth_method, "native"),
        model_id=settings.model_id,
        is_strict=preset is not None and is_presets and preset.is_strict,
        bases=preset.bases if preset and is_presets else {},
        headers=_openrouter_headers(openrouter) if is_openrouter else {},
        extra_body=_openrouter_body(openrouter) if is_openrouter else {},
    )


def _openrouter_headers(settings: OpenRouterSettings) -> dict[str, str]:
    headers = {"HTTP-Referer": settings.app_url, "X-Title": settings.app_name}
    return {name: value for name, value in headers.items() if value}


def _openrouter_body(settings: OpenRouterSettings) -> JsonObject:
    body: JsonObject = {}
    provider: JsonObject = {}
    if settings.fallback_models:
        body["models"] = list(settings.fallback_models)
    if settings.route == "fallback":
        body["route"] = settings.route
    elif settings.route:
        provider["sort"] = settings.route
    if settings.data_policy:
        provider["data_collection"] = settings.data_policy
    return body | ({"provider": provider} if provider else {})
