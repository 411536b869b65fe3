"""Settings of what a new version must show before it serves, and after it does.

Owns `rl.gate`; refuses to know how a version is made.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from metaclaw.config_types import Section


class GateSettings(Section):
    """What a new version must show before it serves, and after it does."""

    held_out_share: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Share of all exchanges that is never trained on: new versions are examined on them.",
    )
    min_exchanges: int = Field(
        default=8, ge=1, description="With fewer held-out exchanges the limits alone decide, and that is recorded."
    )
    max_age_days: float = Field(default=30.0, gt=0, description="Oldest held-out exchange that is used, in days.")
    margin: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="How much worse than the serving version a new one may be; always worse is 1, as often better 0.",
    )
    error: float = Field(
        default=0.1, gt=0, lt=0.5, description="How often a version that is worse by more than the margin may pass."
    )
    max_replays: int = Field(
        default=96, ge=8, description="Pairs of answers that one examination draws and has judged at most."
    )
    max_tokens: int = Field(default=200_000, ge=1000, description="Tokens that one examination draws at most.")
    max_answer_tokens: int = Field(default=512, ge=8, description="Longest answer that an examination draws.")
    min_answers: int = Field(default=32, ge=8, description="Pairs of answers that the limits below are measured on.")
    max_kl: float = Field(default=0.1, gt=0, description="Largest KL from the serving version, in nats per token.")
    max_kl_base: float = Field(default=1.0, gt=0, description="Largest KL from the base model, in nats per token.")
    max_nll_rise: float = Field(
        default=0.3, gt=0, description="Most that the base model's surprise at the answers may rise, in nats per token."
    )
    max_entropy_fall: float = Field(
        default=0.3, gt=0, lt=1, description="Most that the entropy of the answers may fall, as a share of it."
    )
    max_length_ratio: float = Field(
        default=2.0, gt=1, description="Answers may become so many times longer or shorter at most."
    )
    max_repetition_rise: float = Field(
        default=0.15, gt=0, le=1, description="Most that the share of repeated runs of four tokens may rise."
    )
    max_copying_rise: float = Field(
        default=0.15, gt=0, le=1, description="Most that the share of the answers copied from the prompt may rise."
    )
    max_refusal_rise: float = Field(
        default=0.15, gt=0, le=1, description="Most that the share of answers that decline may rise."
    )
    max_empty_rise: float = Field(default=0.1, gt=0, le=1, description="Most that the share of empty answers may rise.")
    max_language_rise: float = Field(
        default=0.15, gt=0, le=1, description="Most that the share of answers in another language may rise."
    )
    canary_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of new sessions that a version answers first after it passed, beside the one that serves; "
        "0: all at once.",
    )
    canary_days: float = Field(
        default=7.0, gt=0, description="Longest time for that, in days; a version that did no worse then serves."
    )
    rollback_error: float = Field(
        default=0.02,
        gt=0,
        lt=0.5,
        description="How often a version that serves as well as those before may be taken back, over its whole life.",
    )
    cooldown_hours: float = Field(
        default=24.0, ge=0, description="Rest of an agent between a version's being taken back and its next update."
    )

    @model_validator(mode="after")
    def _enough_is_drawn(self) -> GateSettings:
        if self.max_replays < self.min_answers:
            raise ValueError(f"max_replays ({self.max_replays}) is below min_answers ({self.min_answers})")
        return self
