"""Settings of the gateway and of what it records.

Owns `proxy` and `journal`; refuses to know who is served what.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from metaclaw.config_types import ApiKey, Section, Timeout, is_loopback, split


class LimitSettings(Section):
    """What proxy.api_key may use; tokens that `metaclaw tokens` makes have limits of their own. 0 is no limit."""

    requests_per_minute: int = Field(default=0, ge=0, description="Requests in any 60 seconds.")
    tokens_per_day: int = Field(default=0, ge=0, description="Tokens of prompts and answers a day (UTC).")
    usd_per_month: float = Field(default=0.0, ge=0, description="US dollars a month (UTC), for models with a price.")
    max_concurrent: int = Field(default=0, ge=0, description="Requests running at once.")


class ProxySettings(Section):
    """Where the gateway listens."""

    host: str = Field(
        default="127.0.0.1", description="Address to listen on. Anything but loopback needs proxy.api_key."
    )
    port: int = Field(default=30000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    api_key: ApiKey = Field(
        default=SecretStr(""), description="Token that clients must send; `metaclaw setup` makes one."
    )
    max_body_bytes: int = Field(default=32 * 1024 * 1024, gt=0, description="Largest request body that is accepted.")
    body_timeout_s: Timeout = Field(default=60.0, description="Time for a request's body to come, then 408.")
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(), description="Names beside this machine's own that requests may be sent to, such as a proxy's."
    )
    limits: LimitSettings = Field(default_factory=LimitSettings)

    @model_validator(mode="after")
    def _others_need_a_token(self) -> ProxySettings:
        if not is_loopback(self.host) and not self.api_key.get_secret_value():
            raise ValueError(f"host {self.host!r} lets other machines in: set proxy.api_key, or use '127.0.0.1'")
        return self


class JournalSettings(Section):
    """How long the record of turns (turns.db) is kept. What an update still needs is kept longer."""

    max_age_days: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Turns older than this are given up; 0 keeps all."
    )
    max_size_mb: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="The oldest turns are given up while the journal holds more; 0 is no limit.",
    )
