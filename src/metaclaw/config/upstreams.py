"""Settings of the models that answer, beside the policy.

Owns `llm` and `openrouter`; refuses to know how a model is called (``metaclaw.upstreams``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from metaclaw.config_types import ApiKey, HttpUrl, OptionalPath, Section, Timeout, split

DialectName = Literal[
    "openai.chat", "openai.responses", "openai.completions", "openai.embeddings",
    "anthropic.messages", "anthropic.count_tokens",
]  # fmt: skip


class UpstreamSettings(Section):
    """Another upstream, asked when those before it are down, busy or refuse our keys; in this order."""

    provider: str = Field(
        default="custom", description="A preset (docs/upstreams.md), which knows its URL and dialects; or any name."
    )
    model_id: str = Field(default="", description="Model asked for when the client names none or 'metaclaw'.")
    api_base: HttpUrl | Literal[""] = Field(
        default="", description="Base URL of its API, which mostly ends in /v1; default the preset's."
    )
    api_key: ApiKey = Field(default=SecretStr(""), description="Key for that API.")
    api_keys: Annotated[tuple[ApiKey, ...], BeforeValidator(split)] = Field(
        default=(), description="More keys for it, each asked when those before it are refused or used up."
    )
    auth_method: Literal["api_key", "bearer", "x-api-key", "oauth_token"] = Field(
        default="api_key",
        description="How the key is sent; api_key: as the provider wants it; oauth_token: no key, but a subscription.",
    )
    oauth_token: ApiKey = Field(
        default=SecretStr(""), description="Token of the subscription; default the login of its own program."
    )
    cli_path: OptionalPath = Field(
        default=None, description="Program of the subscription; default claude, codex or gemini on PATH."
    )
    cli_max_concurrent: int = Field(default=2, ge=1, description="Runs of that program at once; others wait.")
    dialects: Annotated[tuple[DialectName, ...], BeforeValidator(split)] = Field(
        default=(), description="Dialects that it speaks itself, best first; default the preset's, or openai.chat."
    )
    bedrock_region: str = Field(default="us-east-1", description="AWS region of the provider bedrock.")
    connect_timeout_s: Timeout = Field(default=10.0, description="Time to open a connection.")
    first_byte_timeout_s: Timeout = Field(default=120.0, description="Time until the first byte of a stream.")
    answer_timeout_s: Timeout = Field(
        default=600.0,
        description="Time until an answer that is not streamed: it begins when all of it is there.",
    )
    gap_timeout_s: Timeout = Field(default=120.0, description="Longest silence inside an answer.")

    @property
    def is_named(self) -> bool:
        """Whether it says whom to ask: by a URL, the name of a provider, or a subscription."""
        return bool(self.api_base) or self.provider != "custom" or self.auth_method == "oauth_token"


class LlmSettings(UpstreamSettings):
    """The model that answers in ``skills_only`` mode, and when the training server is down."""

    max_attempts: int = Field(
        default=4, ge=1, le=20, description="Attempts at one turn, over all upstreams and keys, before it fails."
    )
    max_retry_s: float = Field(
        default=180.0, ge=0, description="No further attempt begins so long after the first; waits count."
    )
    fallbacks: tuple[UpstreamSettings, ...] = Field(default=(), description="Further upstreams.")


class OpenRouterSettings(Section):
    """What every request to the provider ``openrouter`` says beside the client's own words."""

    app_name: str = Field(default="", description="Sent as X-Title, the name of your app in its rankings.")
    app_url: HttpUrl | Literal[""] = Field(default="", description="Sent as HTTP-Referer, the address of your app.")
    route: Literal["", "fallback", "price", "throughput", "latency"] = Field(
        default="", description="How it chooses a host: the best price, throughput or latency; fallback: its default."
    )
    fallback_models: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(), description="Models that it tries when the one that was asked for fails."
    )
    data_policy: Literal["", "allow", "deny"] = Field(
        default="", description="deny: only hosts that do not keep or train on what they are sent."
    )
