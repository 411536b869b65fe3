"""Settings of one agent, over those of all.

Owns `agents`; refuses to know what an agent does with them. Invariant: what is not said of an agent is as for all, and
a name that is no agent id is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from metaclaw.config.serving import LimitSettings
from metaclaw.config.upstreams import UpstreamSettings
from metaclaw.config_types import OptionalPath, Section, none_if_empty
from metaclaw.errors import InvalidRequestError
from metaclaw.identity import agent_id

Mode = Literal["skills_only", "rl", "auto"]


class AgentLoraSettings(Section):
    """The adapter of this agent."""

    rank: Annotated[int | None, BeforeValidator(none_if_empty)] = Field(
        default=None,
        ge=1,
        le=512,
        description="Rank of this agent's adapter; default rl.lora_rank. Fixed by its first.",
    )


class AgentLlmSettings(UpstreamSettings):
    """The model of this agent, where it has its own: its turns go to no other one, `llm.fallbacks` neither."""


class AgentLimitSettings(LimitSettings):
    """What this agent may use, whoever asks for it, beside what each token may. 0 is no limit."""


class AgentSettings(Section):
    """One agent by its id, as `research-agent`: what it says here holds for it instead of what holds for all."""

    mode: Annotated[Mode | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description="Mode of this agent; default that of all."
    )
    lora: AgentLoraSettings = Field(default_factory=AgentLoraSettings)
    llm: AgentLlmSettings = Field(default_factory=AgentLlmSettings)
    limits: AgentLimitSettings = Field(default_factory=AgentLimitSettings)
    skills_dir: OptionalPath = Field(
        default=None, description="Folder of this agent's own skills; default the one of its name in skills.dir."
    )
    lora_output: OptionalPath = Field(
        default=None, description="Folder in which its adapter that serves also lies, as PEFT has it; default none."
    )
    max_age_days: Annotated[float | None, BeforeValidator(none_if_empty)] = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Its turns are given up when older, 0 keeps all; default journal.max_age_days.",
    )

    @property
    def has_own_model(self) -> bool:
        """Whether its turns go to a model of its own rather than to ``llm``."""
        return self.llm.is_named


class AgentsSettings(Section):
    """Agents that differ from the rest, by id; and whether there may be others."""

    model_config = ConfigDict(extra="allow", frozen=True, validate_default=True)
    entry: ClassVar[type[Section]] = AgentSettings
    __pydantic_extra__: dict[str, AgentSettings] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    allow_unknown: bool = Field(
        default=True,
        description="Serve agents that are not listed here; off: their requests are refused (main is not).",
    )

    @model_validator(mode="after")
    def _ids_are_ids(self) -> AgentsSettings:
        for name in self.named:
            try:
                valid = agent_id(name)
            except InvalidRequestError as error:
                raise ValueError(str(error)) from None
            if valid != name:
                raise ValueError(f"agent ids are lower case: write {valid!r}")
        return self

    @property
    def named(self) -> Mapping[str, AgentSettings]:
        """Every agent that has settings of its own, by id."""
        return self.__pydantic_extra__

    @property
    def max_age_days_of(self) -> Mapping[str, float]:
        """How long the turns of agents are kept that have a limit of their own."""
        return {agent: own.max_age_days for agent, own in self.named.items() if own.max_age_days is not None}

    def of(self, agent: str) -> AgentSettings:
        """What is said of ``agent``; nothing, if it is not listed."""
        return self.named.get(agent, _NOTHING_OF_ITS_OWN)


_NOTHING_OF_ITS_OWN = AgentSettings()
