"""Settings of who scores the answers.

Owns `rl.judge`; refuses to know what is learned from a score.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from metaclaw.config_types import ApiKey, HttpUrl, Section, Timeout, split

JudgeSource = Literal["feedback", "verifier", "command", "llm"]


def _number_of(text: object) -> object:
    """Variables and the command line give texts, which pydantic reads as a number but not as one of some numbers."""
    return int(text) if isinstance(text, str) and text.isdecimal() else text


Grades = Annotated[Literal[3, 5, 9], BeforeValidator(_number_of)]


class JudgeSettings(Section):
    """Who scores the answers. Without a judge there is no reinforcement learning."""

    verifier: str = Field(
        default="", description="Python entry point 'package.module:function' that scores an exchange."
    )
    command: str = Field(
        default="",
        description="Shell command that scores an exchange: JSON on its standard input, one number from -1 to 1 (or"
        " `none`) on its output; without a network, files read-only.",
    )
    command_memory_mb: int = Field(
        default=1024, ge=16, description="Memory of the command and all that it starts; its time is timeout_s."
    )
    command_unconfined: bool = Field(
        default=False,
        description="Run the command with your rights and your network where it cannot be shut in.",
    )
    precedence: Annotated[tuple[JudgeSource, ...], BeforeValidator(split)] = Field(
        default=("feedback", "verifier", "command", "llm"),
        description="Whose score counts: the first of these that is set up and has an opinion.",
    )
    compare_with_feedback: bool = Field(
        default=True,
        description="Judge also what a person has scored, to know how far the judge can be trusted"
        " (`metaclaw judge stats`).",
    )
    url: HttpUrl | Literal[""] = Field(
        default="", description="Base URL of an OpenAI-compatible API for the LLM judge."
    )
    provider: str = Field(
        default="",
        description="Instead of url, or beside it: a preset (docs/upstreams.md), which knows its URL and dialects, or"
        " bedrock.",
    )
    bedrock_region: str = Field(default="us-east-1", description="AWS region of the provider bedrock.")
    model: str = Field(default="", description="Model of the LLM judge.")
    api_key: ApiKey = Field(default=SecretStr(""), description="Key of the LLM judge.")
    votes: int = Field(default=3, ge=1, le=15, description="Votes of the LLM judge per exchange.")
    aggregate: Literal["majority", "mean"] = Field(
        default="majority",
        description="What counts of the votes: the score of most of them (a tie is no verdict), or their mean.",
    )
    grades: Grades = Field(
        default=3, description="Scores that a vote may give: 3 are -1, 0 and 1; 5 go in steps of 0.5, 9 of 0.25."
    )
    max_tokens_per_day: int = Field(
        default=5_000_000,
        ge=0,
        description="Tokens that the LLM judge of exchanges may take in 24 hours; 0: no limit; what is over it waits.",
    )
    max_usd_per_day: float = Field(
        default=5.0,
        ge=0,
        description="US dollars for the same, where the model has a price; 0 is no limit.",
    )
    temperature: float = Field(default=0.6, ge=0, le=2, description="Sampling temperature of the votes.")
    max_tokens: int = Field(default=1024, ge=16, description="Longest answer of one vote.")
    timeout_s: Timeout = Field(default=120.0, description="Time for one vote.")
    idle_s: float = Field(
        default=300.0, gt=0, description="Silence after which an exchange is judged without a follow-up."
    )

    @property
    def has_model(self) -> bool:
        """Whether a model judges."""
        return bool(self.url or self.provider)

    @property
    def scores(self) -> bool:
        """Whether anything judges but what persons say, which is too rare to learn from alone."""
        return bool(self.verifier or self.command or self.has_model)

    @model_validator(mode="after")
    def _each_source_has_one_place(self) -> JudgeSettings:
        if len(set(self.precedence)) < len(self.precedence):
            raise ValueError(f"precedence names a source twice: {', '.join(self.precedence)}")
        left_out = [name for name in ("verifier", "command") if getattr(self, name) and name not in self.precedence]
        if self.has_model and "llm" not in self.precedence:
            left_out.append("llm (url)" if self.url else "llm (provider)")
        if left_out:
            raise ValueError(f"precedence leaves out what is set: {', '.join(left_out)}; add it, or unset it")
        return self
