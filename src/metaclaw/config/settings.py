"""All settings together, and what must fit between them.

Owns the top of ``config.yaml`` and the places in the home folder that follow from it; refuses to know what is inside a
section.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from metaclaw.config.agents import AgentsSettings, Mode
from metaclaw.config.learning import RlSettings
from metaclaw.config.recalling import EmbeddingSettings, EvolverSettings, MemorySettings, RecallSettings, SkillsSettings
from metaclaw.config.scheduling import SchedulerSettings
from metaclaw.config.serving import JournalSettings, ProxySettings
from metaclaw.config.training import TrainServerSettings
from metaclaw.config.upstreams import LlmSettings, OpenRouterSettings
from metaclaw.config_types import Section

AgentProgramName = Literal[
    "", "openclaw", "claude-code", "opencode", "codex", "hermes", "nanobot", "qwenpaw", "ironclaw", "picoclaw",
    "zeroclaw", "nanoclaw", "nemoclaw", "aider", "none",
]  # fmt: skip


class Settings(Section):
    """Everything. ``home`` is METACLAW_HOME, never a key of the file."""

    mode: Mode = Field(
        default="skills_only",
        description="skills_only: any model; rl: the policy trained on the training server; auto: rl that trains only "
        "while you are away (`scheduler`).",
    )
    agent_program: AgentProgramName = Field(
        default="",
        description="The agent program that you use: what `metaclaw connect` without a name connects, and what `setup` "
        "offers. Starting MetaClaw changes no program.",
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
    agents: AgentsSettings = Field(default_factory=AgentsSettings)
    home: Path = Field(default=Path("~/.metaclaw").expanduser(), exclude=True)

    @model_validator(mode="after")
    def _meaning_needs_an_embedder(self) -> Settings:
        if self.skills.retrieval == "semantic" and not self.embeddings.is_configured:
            raise ValueError("skills.retrieval 'semantic' needs embeddings.url or embeddings.path; or use 'auto'")
        return self

    @model_validator(mode="after")
    def _skills_are_apart(self) -> Settings:
        # What agents share is in `_shared`, where a person put it; not in a folder that two of them call their own.
        shared, own = _tidy(self.skills_dir), {agent: _tidy(place) for agent, place in self.own_skills_dirs.items()}
        for agent, place in own.items():
            others = (other for name, other in own.items() if name != agent)
            if any(place.is_relative_to(other) for other in others):
                raise ValueError(f"agents.{agent}.skills_dir {str(place)!r} is another agent's too: give each its own")
            if shared.is_relative_to(place) or (place.is_relative_to(shared) and place != shared / agent):
                raise ValueError(
                    f"agents.{agent}.skills_dir {str(place)!r} is not the agent's alone: inside skills.dir only the "
                    f"folder {agent!r} is; or use one outside of it"
                )
        return self

    @model_validator(mode="after")
    def _outputs_are_apart(self) -> Settings:
        # What lies there is replaced at every version, so nothing else may.
        places = {agent: _tidy(place) for agent, place in self.lora_outputs.items()}
        reserved = [_tidy(one) for one in (self.skills_dir, self.memory_db.parent, self.train_server_dir)]
        for agent, place in places.items():
            others = [other for name, other in places.items() if name != agent]
            if any(place.is_relative_to(other) for other in others):
                raise ValueError(f"agents.{agent}.lora_output {str(place)!r} is another agent's too: give each its own")
            if _tidy(self.home).is_relative_to(place) or any(place.is_relative_to(one) for one in reserved):
                raise ValueError(
                    f"agents.{agent}.lora_output {str(place)!r} holds other things of MetaClaw: name a new one"
                )
        return self

    def mode_of(self, agent: str) -> Mode:
        """The mode of one agent."""
        return self.agents.of(agent).mode or self.mode

    @property
    def modes(self) -> frozenset[Mode]:
        """Every mode that some agent may be in: that of all, and those of agents that have their own."""
        return frozenset({self.mode, *(own.mode for own in self.agents.named.values() if own.mode)})

    @property
    def trains(self) -> bool:
        """Whether some agent, or all that are not listed, may be answered by a policy that is trained."""
        return any(mode != "skills_only" for mode in self.modes)

    @property
    def why_untrained(self) -> str | None:
        """Why nothing is ever trained; ``None`` where something may be."""
        if not self.trains:
            return "mode 'skills_only' trains nothing: `metaclaw config mode auto`, or rl, and start again"
        if not self.rl.judge.scores:
            return (
                "nothing is scored, so nothing is trained: set rl.judge.verifier, or rl.judge.url and rl.judge.model "
                "(`metaclaw setup`), and start again"
            )
        return None

    @property
    def skills_dir(self) -> Path:
        return self.home / (self.skills.dir or Path("skills")).expanduser()

    @property
    def own_skills_dirs(self) -> Mapping[str, Path]:
        """Where the skills of agents lie that keep them elsewhere than in a folder of their names in skills_dir."""
        named = self.agents.named.items()
        return {agent: self.home / own.skills_dir.expanduser() for agent, own in named if own.skills_dir is not None}

    @property
    def lora_outputs(self) -> Mapping[str, Path]:
        """Where the adapters of agents also lie, for other programs."""
        named = self.agents.named.items()
        return {agent: self.home / own.lora_output.expanduser() for agent, own in named if own.lora_output is not None}

    @property
    def imported_adapters(self) -> Path:
        """Where the adapters of imported agents wait for the training server, by agent."""
        return self.home / "adapters"

    @property
    def memory_db(self) -> Path:
        # Older releases kept a memory.db of another making in the same folder; it stays as it is.
        return self.home / (self.memory.dir or Path("memory")).expanduser() / "units.db"

    @property
    def trains_in_windows(self) -> bool:
        """Whether the training of some agent keeps to the windows of `scheduler`."""
        return any(map(self._keeps_to_windows, self.modes))

    def is_trained(self, agent: str) -> bool:
        """Whether ``agent`` is answered by a policy that is trained."""
        return self.mode_of(agent) != "skills_only"

    def is_trained_in_windows(self, agent: str) -> bool:
        """Whether its training keeps to the windows of `scheduler`."""
        return self._keeps_to_windows(self.mode_of(agent))

    def _keeps_to_windows(self, mode: Mode) -> bool:
        if self.rl.update.when_asked_only:
            return False
        return mode == "auto" or (mode == "rl" and self.scheduler.enabled)

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


def _tidy(path: Path) -> Path:
    # Without a look at the disk: settings are also made where nothing may wait for one.
    return Path(os.path.normpath(path))
