"""All settings together, and what must fit between them.

Owns the top of ``config.yaml`` and the places in the home folder that follow from it; refuses to know what is inside a
section.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from metaclaw.config.learning import RlSettings
from metaclaw.config.recalling import EmbeddingSettings, EvolverSettings, MemorySettings, RecallSettings, SkillsSettings
from metaclaw.config.scheduling import SchedulerSettings
from metaclaw.config.serving import JournalSettings, ProxySettings
from metaclaw.config.training import TrainServerSettings
from metaclaw.config.upstreams import LlmSettings, OpenRouterSettings
from metaclaw.config_types import Section

Mode = Literal["skills_only", "rl", "auto"]


class Settings(Section):
    """Everything. ``home`` is METACLAW_HOME, never a key of the file."""

    mode: Mode = Field(
        default="skills_only",
        description="skills_only: any model; rl: the policy trained on the training server; auto: rl that trains only "
        "while you are away (`scheduler`).",
    )
    max_context_tokens: int = Field(
        default=0,
        ge=0,
        description="Longest prompt, in estimated tokens: the oldest exchanges beyond it are left out; 0 is no limit.",
    )
    llm: LlmSettings = Field(default_factory=LlmSettings)
    openrouter: OpenRouterSettings = Field(default_factory=OpenRouterSettings)
    proxy: ProxySettings = Field(default_factory=ProxySettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    skills: SkillsSettings = Field(default_factory=SkillsSettings)
    embeddings: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    recall: RecallSettings = Field(default_factory=RecallSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    evolver: EvolverSettings = Field(default_factory=EvolverSettings)
    rl: RlSettings = Field(default_factory=RlSettings)
    scheduler: SchedulerSettings = Field(default_factory=SchedulerSettings)
    train_server: TrainServerSettings = Field(default_factory=TrainServerSettings)
    home: Path = Field(default=Path("~/.metaclaw").expanduser(), exclude=True)

    @model_validator(mode="after")
    def _meaning_needs_an_embedder(self) -> Settings:
        if self.skills.retrieval == "semantic" and not self.embeddings.is_configured:
            raise ValueError("skills.retrieval 'semantic' needs embeddings.url or embeddings.path; or use 'auto'")
        return self

    @model_validator(mode="after")
    def _clouds_need_a_bridge(self) -> Settings:
        # Without it, turns would go to rl.remote_url with the cloud's key.
        if self.mode != "skills_only" and self.rl.backend == "tinker":
            raise ValueError(
                "rl.backend 'tinker' needs the sampling bridge, which this release does not have; use 'remote' "
                "(`metaclaw config rl.backend remote`), or mode 'skills_only'"
            )
        return self

    @property
    def skills_dir(self) -> Path:
        return self.home / (self.skills.dir or Path("skills")).expanduser()

    @property
    def memory_db(self) -> Path:
        # Older releases kept a memory.db of another making in the same folder; it stays as it is.
        return self.home / (self.memory.dir or Path("memory")).expanduser() / "units.db"

    @property
    def trains_in_windows(self) -> bool:
        """Whether training keeps to the windows of `scheduler`."""
        return self.mode == "auto" or (self.mode == "rl" and self.scheduler.enabled)

    @property
    def scheduler_state(self) -> Path:
        return self.home / "scheduler_state.json"

    @property
    def calendar_token(self) -> Path:
        return self.home / (self.scheduler.calendar.token_path or Path("calendar_token.json")).expanduser()

    @property
    def turns_db(self) -> Path:
        return self.home / "turns.db"

    @property
    def access_db(self) -> Path:
        return self.home / "access.db"

    @property
    def requests_db(self) -> Path:
        return self.home / "requests.db"

    @property
    def learning_db(self) -> Path:
        return self.home / "learning.db"

    @property
    def tracking_dir(self) -> Path:
        return self.home / "tracking"

    @property
    def train_server_dir(self) -> Path:
        return self.home / (self.train_server.data_dir or Path("train-server")).expanduser()
