"""Settings of learning by reinforcement.

Owns the policy of `rl` and who trains it; its parts are modules of their own. Refuses to know the training server's own
settings.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from metaclaw.config.distilling import OpdSettings, SelfDistillationSettings
from metaclaw.config.gating import GateSettings
from metaclaw.config.judging import JudgeSettings
from metaclaw.config.updating import UpdateSettings
from metaclaw.config_types import ApiKey, HttpUrl, OptionalPath, Section, Timeout

_VERSION = re.compile(r"(?P<agent>[^@/]+)@(?P<version>\d+)")


class RlSettings(Section):
    """The trained policy and the server that trains it."""

    backend: Literal["remote", "tinker", "mint", "weaver", "auto"] = Field(
        default="remote",
        description="remote: a `metaclaw train-server`; tinker, mint, weaver: that training cloud (docs/backends.md); "
        "auto: the cloud that a key or an address belongs to, else remote.",
    )
    api_key: ApiKey = Field(
        default=SecretStr(""),
        description="Key of the training cloud; empty: TINKER_API_KEY, MINT_API_KEY or WEAVER_API_KEY.",
    )
    base_url: HttpUrl | Literal[""] = Field(
        default="",
        description="Address of the training cloud; empty: TINKER_BASE_URL, MINT_BASE_URL or WEAVER_BASE_URL, else "
        "its own.",
    )
    sdk_python: OptionalPath = Field(
        default=None,
        description="Python that has the cloud's SDK; default the one that `metaclaw sdk prepare` made.",
    )
    model: str = Field(default="", description="Base model: a Hugging Face id, a local path, or 'smollm2'.")
    remote_url: HttpUrl = Field(default="http://127.0.0.1:8000", description="Where the training server listens.")
    remote_api_key: ApiKey = Field(default=SecretStr(""), description="Key of the training server.")
    remote_timeout_s: Timeout = Field(
        default=600.0,
        description="Longest wait for one training request; a pass of more than 16,384 tokens has as much more.",
    )
    tokenizer: str = Field(
        default="",
        description="For a training cloud: folder or Hugging Face id of the base model's tokenizer and chat template; "
        "empty: rl.model.",
    )
    bridge_port: int = Field(
        default=30001, ge=1, le=65535, description="Port of the sampling bridge to a training cloud, on 127.0.0.1."
    )
    resume_from: str = Field(
        default="",
        description="Saved training state (a path of the trainer's) that agents without a version begin with, "
        "unexamined.",
    )
    lora_rank: int = Field(default=32, ge=1, le=512, description="Rank of the adapter.")
    temperature: float = Field(
        default=1.0, ge=0, le=2, description="Temperature of policy turns whose client sends none."
    )
    max_tokens: int = Field(
        default=1024, ge=1, description="Longest answer of policy turns whose client sends no limit."
    )
    session_idle_s: float = Field(
        default=1800.0, gt=0, description="A session keeps its policy version until idle for so long."
    )
    tracking: Literal["none", "tensorboard", "wandb"] = Field(
        default="none",
        description="Who else is told the numbers of each update: nobody, TensorBoard's files in `tracking/`, or "
        "Weights & Biases.",
    )
    judge: JudgeSettings = Field(default_factory=JudgeSettings)
    update: UpdateSettings = Field(default_factory=UpdateSettings)
    opd: OpdSettings = Field(default_factory=OpdSettings)
    self_distillation: SelfDistillationSettings = Field(default_factory=SelfDistillationSettings)
    gate: GateSettings = Field(default_factory=GateSettings)

    @property
    def is_cloud(self) -> bool:
        """Whether the policy lives in a training cloud; `auto` that nobody settled is our own server."""
        return self.backend not in ("remote", "auto")

    @property
    def own_teacher(self) -> tuple[str, int] | None:
        """The agent and the version that teach, where that is one of our own (``main@7``)."""
        if "opd" not in self.update.methods or self.opd.url:
            return None
        named = _VERSION.fullmatch(self.opd.model)
        return None if named is None else (named["agent"], int(named["version"]))

    @model_validator(mode="after")
    def _teacher_is_named(self) -> RlSettings:
        if "opd" in self.update.methods and not self.opd.model:
            raise ValueError("update.methods has opd, but no teacher is named: set rl.opd.model")
        return self
