"""Settings of who teaches beside the rewards.

Owns `rl.opd` and `rl.self_distillation`; refuses to know which of them an update uses (`rl.update.methods`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from metaclaw.config_types import ApiKey, HttpUrl, Section, Timeout


class OpdSettings(Section):
    """On-policy distillation: a teacher says how likely the policy's own answers are to it."""

    url: HttpUrl | Literal[""] = Field(
        default="",
        description="Base URL of the teacher's OpenAI-compatible API; empty: the training server's own endpoint.",
    )
    model: str = Field(
        default="",
        description="The teacher. On the training server a `tinker://` path of sampler weights, a version (`main@7`) or"
        " `base`. Its tokenizer must be the policy's.",
    )
    api_key: ApiKey = Field(default=SecretStr(""), description="Key of the teacher's API.")
    dialect: Literal["auto", "prompt_logprobs", "echo"] = Field(
        default="auto",
        description="How log-probabilities of a prompt are asked for: vLLM's prompt_logprobs, or OpenAI's echo with"
        " logprobs; auto finds out.",
    )
    weight: float = Field(
        default=1.0, gt=0, le=100, description="What a nat between teacher and policy counts, beside a reward's 1."
    )
    max_gap: float = Field(
        default=5.0, gt=0, description="Largest difference of a token's log-probability that counts, in nats."
    )
    timeout_s: Timeout = Field(default=120.0, description="Time for one answer of the teacher.")
    max_tokens_per_day: int = Field(
        default=5_000_000,
        ge=0,
        description="Tokens that a teacher at `url` may take in 24 hours; 0: no limit; updates over it wait.",
    )
    max_usd_per_day: float = Field(
        default=5.0, ge=0, description="US dollars for the same, where the model has a price; 0 is no limit."
    )


class SelfDistillationSettings(Section):
    """The policy is its own teacher, told what the user said next: of answers that the user corrected."""

    weight: float = Field(
        default=1.0, gt=0, le=100, description="What a nat between teacher and policy counts, beside a reward's 1."
    )
    top_k: int = Field(
        default=20,
        ge=0,
        le=20,
        description="Likeliest tokens of the teacher learned at each place; 0, and at clouds: the drawn alone.",
    )
    max_gap: float = Field(
        default=5.0, gt=0, description="Largest difference of a token's log-probability that counts, in nats."
    )
    max_kl: float = Field(
        default=0.03,
        gt=0,
        description="Largest KL of such an update from the serving version, beside rl.update.max_kl.",
    )
    max_entropy_change: float = Field(
        default=0.3, gt=0, description="Most that such an update may change the entropy, either way, as a share of it."
    )
