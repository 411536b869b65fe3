"""Settings of learning by reinforcement.

Owns `rl`; refuses to know the training server's own settings.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from metaclaw.config_types import ApiKey, HttpUrl, OptionalPath, Section, split

JudgeSource = Literal["feedback", "verifier", "command", "llm"]
AdvantageName = Literal["ema_baseline", "leave_one_out", "group", "batch_zscore"]
MethodName = Literal["rewards", "opd", "self_distillation"]

_VERSION = re.compile(r"(?P<agent>[^@/]+)@(?P<version>\d+)")


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
    timeout_s: float = Field(default=120.0, gt=0, description="Time for one vote.")
    idle_s: float = Field(
        default=300.0, gt=0, description="Silence after which an exchange is judged without a follow-up."
    )

    @model_validator(mode="after")
    def _each_source_has_one_place(self) -> JudgeSettings:
        if len(set(self.precedence)) < len(self.precedence):
            raise ValueError(f"precedence names a source twice: {', '.join(self.precedence)}")
        left_out = [name for name in ("verifier", "command") if getattr(self, name) and name not in self.precedence]
        if self.url and "llm" not in self.precedence:
            left_out.append("llm (url)")
        if left_out:
            raise ValueError(f"precedence leaves out what is set: {', '.join(left_out)}; add it, or unset it")
        return self


class UpdateSettings(Section):
    """One update: the optimiser step and its limits (DESIGN, the recipe)."""

    methods: Annotated[tuple[MethodName, ...], BeforeValidator(split)] = Field(
        default=("rewards",),
        description="What an update learns from, together: rewards, opd (a teacher's probabilities, rl.opd),"
        " self_distillation (what the policy would say knowing what the user said next, rl.self_distillation).",
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
    timeout_s: float = Field(default=120.0, gt=0, description="Time for one answer of the teacher.")
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
    remote_timeout_s: float = Field(
        default=600.0,
        gt=0,
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
