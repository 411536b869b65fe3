"""Typed settings: what a user may write into ``config.yaml`` and what it means.

Owns the keys, their defaults and their validation, one module a part of the program; refuses to know how a file is
found or edited (``metaclaw.config_file``). Invariant: every key is described here and read somewhere, and a
combination that cannot work is refused when the settings are built, not when they are first used.
"""

from metaclaw.config.agents import AgentSettings, AgentsSettings, Mode
from metaclaw.config.clouds import CLOUDS, CloudName, bridge_key, unused_keys, with_cloud
from metaclaw.config.distilling import OpdSettings, SelfDistillationSettings
from metaclaw.config.gating import GateSettings
from metaclaw.config.judging import JudgeSettings
from metaclaw.config.learning import RlSettings
from metaclaw.config.recalling import (
    EmbeddingSettings,
    EvolverSettings,
    MemorySettings,
    RecallSettings,
    SkillsSettings,
    TrialSettings,
)
from metaclaw.config.scheduling import CalendarSettings, SchedulerSettings
from metaclaw.config.serving import JournalSettings, LimitSettings, ProxySettings
from metaclaw.config.settings import Settings
from metaclaw.config.training import TrainServerSettings
from metaclaw.config.updating import AdvantageName, MethodName, UpdateSettings
from metaclaw.config.upstreams import DialectName, LlmSettings, OpenRouterSettings, UpstreamSettings
from metaclaw.config_types import is_loopback

__all__ = [
    "CLOUDS",
    "AdvantageName",
    "AgentSettings",
    "AgentsSettings",
    "CalendarSettings",
    "CloudName",
    "DialectName",
    "EmbeddingSettings",
    "EvolverSettings",
    "GateSettings",
    "JournalSettings",
    "JudgeSettings",
    "LimitSettings",
    "LlmSettings",
    "MemorySettings",
    "MethodName",
    "Mode",
    "OpdSettings",
    "OpenRouterSettings",
    "ProxySettings",
    "RecallSettings",
    "RlSettings",
    "SchedulerSettings",
    "SelfDistillationSettings",
    "Settings",
    "SkillsSettings",
    "TrainServerSettings",
    "TrialSettings",
    "UpdateSettings",
    "UpstreamSettings",
    "bridge_key",
    "is_loopback",
    "unused_keys",
    "with_cloud",
]
