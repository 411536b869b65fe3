"""Settings of what goes before the model: skills, memories, and where both come from.

Owns `skills`, `embeddings`, `recall`, `memory` and `evolver`; refuses to know how anything is found.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from metaclaw.config_types import ApiKey, HttpUrl, OptionalPath, Section, Timeout, is_loopback


class TrialSettings(Section):
    """How a skill that a model wrote must prove itself before it is served."""

    error: float = Field(
        default=0.05, gt=0, lt=0.5, description="At most this share of the skills that do not help is adopted."
    )
    worthwhile: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="A skill that helps less is not worth its tokens; from always wrong to always right is 1.",
    )
    max_comparisons: int = Field(default=60, ge=10, description="A trial not decided by then is lost.")
    replays_per_hour: int = Field(
        default=60, ge=0, description="Recorded exchanges asked again per hour, twice each; 0 asks none again."
    )
    share: float = Field(
        default=0.5,
        ge=0,
        le=0.9,
        description="Share of turns with a skill on trial where nothing can be asked again; 0 makes no experiments.",
    )
    unused_days: float = Field(
        default=30.0, ge=0, description="Days unused before a model's skill is retired, a trial given up; 0 keeps all."
    )


class SkillsSettings(Section):
    """What is recalled from the skills folder."""

    enabled: bool = Field(default=True, description="Recall skills at all.")
    dir: OptionalPath = Field(default=None, description="Folder of skills; default METACLAW_HOME/skills.")
    starter: bool = Field(default=True, description="Recall the skills that come with MetaClaw too, below all others.")
    top_k: int = Field(default=2, ge=0, le=20, description="At most so many skills are recalled for one exchange.")
    retrieval: Literal["auto", "lexical", "semantic"] = Field(
        default="auto",
        description="lexical: by words; semantic: by meaning too; auto: semantic where embeddings are configured.",
    )
    trial: TrialSettings = Field(default_factory=TrialSettings)


class EmbeddingSettings(Section):
    """What finds texts by their meaning (extra `evolve`): an endpoint or a folder. Without either, words do alone."""

    url: HttpUrl | Literal[""] = Field(
        default="", description="Base URL of an OpenAI-compatible API, which mostly ends in /v1."
    )
    model: str = Field(default="", description="Embedding model asked for there.")
    api_key: ApiKey = Field(default=SecretStr(""), description="Key for that API.")
    path: OptionalPath = Field(
        default=None, description="Folder of a static model: model.safetensors and tokenizer.json, as of model2vec."
    )
    timeout_s: Timeout = Field(
        default=1.0, description="Time for a turn's query, else words do alone; other texts have 15 times that."
    )
    min_likeness: float = Field(
        default=0.3,
        ge=-1,
        le=1,
        description="How near a text must be to a query, from 0 (as any other) to 1 (the same); static models: 0.5.",
    )
    query_prefix: str = Field(default="", description="What the model wants before a query; e5: 'query: '.")
    passage_prefix: str = Field(default="", description="What it wants before a text to be found; e5: 'passage: '.")

    @property
    def is_configured(self) -> bool:
        """Whether there is an embedder at all."""
        return self.path is not None or bool(self.url)

    @model_validator(mode="after")
    def _one_of_them(self) -> EmbeddingSettings:
        if self.path is not None and self.url:
            raise ValueError("embeddings.url and embeddings.path exclude each other: empty one of them")
        if self.url and not self.model:
            raise ValueError("embeddings.model is missing: name the model that embeddings.url is asked for")
        return self


class RecallSettings(Section):
    """How much goes before the model with a human message: skills and memories together."""

    max_tokens: int = Field(
        default=1200,
        ge=0,
        le=100_000,
        description="Budget of one block, in tokens as the policy counts them, else estimated; 0 is no recall.",
    )
    skills_share: float = Field(
        default=0.6, ge=0, le=1, description="Part of the budget that skills have first; memories have the rest first."
    )
    min_memory_score: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="A memory that fits less well, from 0 to 1, is not recalled: none rather than a poor one.",
    )
    max_memories: int = Field(default=6, ge=0, le=50, description="At most so many memories for one exchange.")
    max_standing: int = Field(
        default=8,
        ge=0,
        le=32,
        description="At most so many of the user's standing wishes ('always answer in German') for one conversation.",
    )


class MemorySettings(Section):
    """What users said, remembered for later turns (docs/memory.md)."""

    enabled: bool = Field(default=True, description="Remember what users say, and recall it.")
    dir: OptionalPath = Field(default=None, description="Folder of the store, units.db; default METACLAW_HOME/memory.")
    sidecar_url: HttpUrl | Literal[""] = Field(
        default="",
        description="A process that keeps the memory (`metaclaw memory serve`); the gateway asks it, not its store.",
    )
    sidecar_api_key: ApiKey = Field(
        default=SecretStr(""), description="Token of that process; on this machine proxy.api_key where it is empty."
    )
    sidecar_timeout_s: Timeout = Field(
        default=1.0, description="Time for its answer to a turn, which else recalls no memories."
    )
    every_n_exchanges: int = Field(
        default=3, ge=1, description="A session is read for memories when so many of its exchanges wait for it."
    )
    idle_s: float = Field(default=120.0, gt=0, description="Silence after which a session is read whatever waits.")
    extractor_url: HttpUrl | Literal[""] = Field(
        default="",
        description="Base URL of an OpenAI-compatible API that finds memories; it is sent what users say. Without one, "
        "rules find them.",
    )
    extractor_model: str = Field(default="", description="Model that finds memories at extractor_url.")
    extractor_api_key: ApiKey = Field(default=SecretStr(""), description="Key for extractor_url.")
    extractor_max_age_days: float = Field(
        default=7.0,
        ge=0,
        description="What was said longer ago is read by the rules and never sent to extractor_url; 0 sends all.",
    )
    extractor_timeout_s: Timeout = Field(default=120.0, description="Time for one answer of that model.")

    @model_validator(mode="after")
    def _has_a_token(self) -> MemorySettings:
        # The gateway's own token opens everything: it goes to no other machine.
        is_elsewhere = bool(self.sidecar_url) and not is_loopback(urlsplit(self.sidecar_url).hostname or "")
        if is_elsewhere and not self.sidecar_api_key.get_secret_value():
            raise ValueError("memory.sidecar_api_key is missing: memory.sidecar_url is on another machine")
        return self


class EvolverSettings(Section):
    """Who writes skills from failures. Without a model, none are written."""

    enabled: bool = Field(default=True, description="Have skills written at all.")
    url: HttpUrl | Literal[""] = Field(
        default="", description="Base URL of an OpenAI-compatible API; it is sent the exchanges that failed."
    )
    provider: str = Field(
        default="",
        description="Instead of url, or beside it: a preset (docs/upstreams.md), which knows its URL and dialects, or"
        " bedrock.",
    )
    bedrock_region: str = Field(default="us-east-1", description="AWS region of the provider bedrock.")
    model: str = Field(default="", description="Model that writes skills; a strong one is worth its price.")
    api_key: ApiKey = Field(default=SecretStr(""), description="Key for that API.")
    max_tokens: int = Field(default=8192, ge=256, description="Longest answer, thinking included.")
    timeout_s: Timeout = Field(default=300.0, description="Time for one answer.")
    min_failures: int = Field(default=3, ge=1, description="An agent's new failures before it is asked.")
    max_new: int = Field(default=2, ge=1, le=10, description="Most skills and edits of one answer that go on trial.")
    min_pause_s: float = Field(default=1800.0, ge=0, description="Least time between two answers for one agent.")
    max_per_day: int = Field(default=12, ge=0, description="Most answers in 24 hours for one agent.")

    @property
    def has_place(self) -> bool:
        """Whether it is known where to ask."""
        return bool(self.url or self.provider)
