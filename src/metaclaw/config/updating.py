"""Settings of one update.

Owns `rl.update`; refuses to know who scored what it learns from, and what becomes of the version that it makes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from metaclaw.config_types import Section, split

AdvantageName = Literal["ema_baseline", "leave_one_out", "group", "batch_zscore"]
MethodName = Literal["rewards", "opd", "self_distillation"]


class UpdateSettings(Section):
    """One update: the optimiser step and its limits (DESIGN, the recipe)."""

    methods: Annotated[tuple[MethodName, ...], BeforeValidator(split)] = Field(
        default=("rewards",),
        description="What an update learns from, together: rewards, opd (a teacher's probabilities, rl.opd),"
        " self_distillation (what the policy would say knowing what the user said next, rl.self_distillation).",
    )
    when_asked_only: bool = Field(
        default=False,
        description="Train only when somebody asks for it (`metaclaw train-step`, `POST /v1/admin/train_step`), in"
        " windows neither.",
    )
    reward_weight: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="What the rewards' advantages count beside the other methods.",
    )
    loss: Literal["ppo", "importance_sampling", "cispo"] = Field(
        default="ppo", description="Loss of the policy gradient."
    )
    learning_rate: float = Field(
        default=0.0,
        ge=0,
        le=0.1,
        description="Peak learning rate; 0 goes by the model's size: 3e-4 up to 135M parameters, 2e-5 at 8B.",
    )
    warmup_steps: int = Field(
        default=5, ge=0, description="Optimiser steps over which the learning rate rises to its peak."
    )
    steps: int = Field(
        default=4,
        ge=1,
        le=16,
        description="Optimiser steps in which an update goes through its exchanges, each on a part of them: more of "
        "them learn faster from few exchanges, and go further.",
    )
    passes: int = Field(
        default=3,
        ge=1,
        le=8,
        description="Times that an update goes through its exchanges with `loss: ppo`, which lets go of an answer that "
        "it has moved far enough; with other losses it is once.",
    )
    grad_clip_norm: float = Field(default=1.0, gt=0, description="Largest global gradient norm.")
    min_exchanges: int = Field(default=16, ge=2, description="Judged exchanges that an update needs.")
    min_informative: int = Field(
        default=8, ge=1, description="Of those, so many must differ from the baseline by more than 0.05."
    )
    max_exchanges: int = Field(default=64, ge=2, description="Exchanges that one update takes at most.")
    max_staleness: int = Field(default=2, ge=0, description="Oldest trainable sample, in policy versions.")
    max_age_days: float = Field(default=7.0, gt=0, description="Oldest trainable sample, in days.")
    ratio_low: float = Field(default=0.8, gt=0, le=1, description="Lower bound of the PPO ratio.")
    ratio_high: float = Field(default=1.28, ge=1, description="Upper bound of the PPO ratio.")
    max_token_weight: float = Field(
        default=2.0,
        ge=0,
        description="Largest importance weight of a token: what is over it is cut down to it; 0 cuts nothing.",
    )
    max_mismatch: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="How far the training server's probabilities of an answer may be from those of the same version's "
        "sampler, on geometric average over its tokens (more for answers under 256); others are left out. 0: never.",
    )
    reference_kl: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Weight of the KL from the base model, in nats per token, held against the rewards; 0: none.",
    )
    advantage: AdvantageName = Field(
        default="ema_baseline",
        description="What a reward is held against: the agent's moving average, the others of the batch (best with 16"
        " or more), or the batch's z-score, which is the reference system's and is here for comparison; group: the"
        " moving average, and beside it more answers to the same prompts, each held against the others of its prompt.",
    )
    group_size: int = Field(
        default=4, ge=2, le=16, description="With `advantage: group`, answers that an update draws for one prompt."
    )
    max_rollouts: int = Field(
        default=64, ge=2, description="With `advantage: group`, answers that one update draws and has judged at most."
    )
    baseline_decay: float = Field(default=0.9, ge=0, lt=1, description="Decay of the reward baseline of an agent.")
    max_kl: float = Field(
        default=0.6,
        gt=0,
        description="Largest KL from the serving version, in nats per token of the very answers trained on, which move"
        " further than others do; a longer step is shortened.",
    )

    @property
    def num_passes(self) -> int:
        """How often an update goes through what was drawn. Without PPO's bounds each pass would push on regardless."""
        return self.passes if self.loss == "ppo" else 1

    @property
    def num_steps(self) -> int:
        """Optimiser steps of one update, at most."""
        return self.steps * self.num_passes

    @property
    def waits_for_rewards(self) -> bool:
        """Whether so many exchanges must have gone otherwise than expected: a teacher has a word on each of them."""
        return "rewards" in self.methods and "opd" not in self.methods

    @model_validator(mode="after")
    def _methods_make_sense(self) -> UpdateSettings:
        if not self.methods:
            raise ValueError("methods is empty: name one of rewards, opd, self_distillation")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods names one twice: {', '.join(self.methods)}")
        return self

    @model_validator(mode="after")
    def _batch_makes_sense(self) -> UpdateSettings:
        if self.max_exchanges < self.min_exchanges:
            raise ValueError(f"max_exchanges ({self.max_exchanges}) is below min_exchanges ({self.min_exchanges})")
        if self.max_rollouts < self.group_size:
            raise ValueError(f"max_rollouts ({self.max_rollouts}) is below group_size ({self.group_size})")
        if self.min_informative > self.min_exchanges:
            raise ValueError(f"min_informative ({self.min_informative}) is above min_exchanges ({self.min_exchanges})")
        return self
