"""The models that learning asks beside the one that answers: who judges, who writes skills, who finds memories.

Owns the way from the settings of one to a ``ChatModel``; refuses to know what it is asked. Invariant: the address that
a user wrote wins over that of the provider, and a key goes to no address that neither names.
"""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr

from metaclaw.errors import ConfigError
from metaclaw.extras import load_backend
from metaclaw.upstreams.bedrock import BedrockModel, BedrockSettings
from metaclaw.upstreams.chat_model import ChatModel
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.presets import BEDROCK, PRESETS, find_preset, is_bedrock
from metaclaw.upstreams.upstream import Timeouts, Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedModel:
    """``name`` is for messages and prices; ``provider``, ``url``, ``api_key`` are settings, named by ``section``."""

    name: str
    section: str  # such as `rl.judge.`: what the names of its settings begin with
    url: str
    api_key: SecretStr
    timeout_s: float
    provider: str = ""
    bedrock_region: str = ""


def open_chat_model(asked: AskedModel, session: aiohttp.ClientSession) -> ChatModel:
    """The client. Raises ``ConfigError`` for a provider that is not known, ``MissingExtraError`` for Bedrock's SDK."""
    timeouts = Timeouts(first_byte_s=asked.timeout_s, gap_s=asked.timeout_s, plain_s=asked.timeout_s)
    if is_bedrock(asked.provider):
        load_backend("boto3", extra="bedrock")
        bedrock = BedrockSettings(
            name=asked.name, region=asked.bedrock_region, endpoint=asked.url, model_id="", timeouts=timeouts
        )
        return ChatModel(BedrockModel(bedrock))
    return ChatModel(HttpModel(session, _upstream(asked, timeouts)))


def _upstream(asked: AskedModel, timeouts: Timeouts) -> Upstream:
    preset = find_preset(asked.provider)
    if not asked.url and preset is None:
        raise ConfigError(
            f"{asked.section}url is empty, and {asked.section}provider {asked.provider!r} is no preset: "
            f"give the URL, or one of {', '.join(PRESETS)}, {BEDROCK}"
        )
    is_presets = preset is not None and asked.url in ("", preset.base_url)
    dialects = ("openai.chat",) if preset is None else preset.dialects
    return Upstream(
        name=asked.name,
        base_url=asked.url or (preset.base_url if preset else ""),
        api_key=asked.api_key,
        key_setting=f"{asked.section}api_key",
        timeouts=timeouts,
        dialects=dialects,
        is_strict=preset is not None and is_presets and preset.is_strict,
    )
