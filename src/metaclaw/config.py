"""Typed settings: what a user may write into ``config.yaml`` and what it means.

Owns the keys, their defaults and their validation; refuses to know how a file is found or edited
(``metaclaw.config_file``). Invariant: every key is described here and read somewhere, and a combination that
cannot work is refused when the settings are built, not when they are first used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from metaclaw.config_types import ApiKey, Devices, HttpUrl, OptionalPath, Section, is_loopback, split

Mode = Literal["skills_only", "rl", "auto"]


DialectName = Literal[
    "openai.chat", "openai.responses", "openai.completions", "openai.embeddings",
    "anthropic.messages", "anthropic.count_tokens",
]  # fmt: skip


class UpstreamSettings(Section):
    """Another upstream, asked when those before it are down, busy or refuse our keys; in this order."""

    provider: str = Field(
        default="custom", description="A preset (docs/upstreams.md), which knows its URL and dialects; or any name."
    )
    model_id: str = Field(default="", description="Model asked for when the client names none or 'metaclaw'.")
    api_base: HttpUrl | Literal[""] = Field(
        default="", description="Base URL of its API, which mostly ends in /v1; default the preset's."
    )
    api_key: ApiKey = Field(default=SecretStr(""), description="Key for that API.")
    api_keys: Annotated[tuple[ApiKey, ...], BeforeValidator(split)] = Field(
        default=(), description="More keys for it, each asked when those before it are refused or used up."
    )
    auth_method: Literal["api_key", "bearer", "x-api-key", "oauth_token"] = Field(
        default="api_key",
        description="How the key is sent; api_key: as the provider wants it; oauth_token: no key, but a subscription.",
    )
    oauth_token: ApiKey = Field(
        default=SecretStr(""), description="Token of the subscription; default the login of its own program."
    )
    cli_path: OptionalPath = Field(
        default=None, description="Program of the subscription; default claude, codex or gemini on PATH."
    )
    cli_max_concurrent: int = Field(default=2, ge=1, description="Runs of that program at once; others wait.")
    dialects: Annotated[tuple[DialectName, ...], BeforeValidator(split)] = Field(
        default=(), description="Dialects that it speaks itself, best first; default the preset's, or openai.chat."
    )
    bedrock_region: str = Field(default="us-east-1", description="AWS region of the provider bedrock.")
    connect_timeout_s: float = Field(default=10.0, gt=0, description="Time to open a connection.")
    first_byte_timeout_s: float = Field(default=120.0, gt=0, description="Time until the first byte of an answer.")
    gap_timeout_s: float = Field(default=120.0, gt=0, description="Longest silence inside an answer.")


class LlmSettings(UpstreamSettings):
    """The model that answers in ``skills_only`` mode, and when the training server is down."""

    max_attempts: int = Field(
        default=4, ge=1, le=20, description="Attempts at one turn, over all upstreams and keys, before it fails."
    )
    max_retry_s: float = Field(
        default=180.0, ge=0, description="No further attempt begins so long after the first; waits count."
    )
    fallbacks: tuple[UpstreamSettings, ...] = Field(default=(), description="Further upstreams.")


class OpenRouterSettings(Section):
    """What every request to the provider ``openrouter`` says beside the client's own words."""

    app_name: str = Field(default="", description="Sent as X-Title, the name of your app in its rankings.")
    app_url: HttpUrl | Literal[""] = Field(default="", description="Sent as HTTP-Referer, the address of your app.")
    route: Literal["", "fallback", "price", "throughput", "latency"] = Field(
        default="", description="How it chooses a host: the best price, throughput or latency; fallback: its default."
    )
    fallback_models: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(), description="Models that it tries when the one that was asked for fails."
    )
    data_policy: Literal["", "allow", "deny"] = Field(
        default="", description="deny: only hosts that do not keep or train on what they are sent."
    )


class LimitSettings(Section):
    """What proxy.api_key may use; tokens that `metaclaw tokens` makes have limits of their own. 0 is no limit."""

    requests_per_minute: int = Field(default=0, ge=0, description="Requests in any 60 seconds.")
    tokens_per_day: int = Field(default=0, ge=0, description="Tokens of prompts and answers a day (UTC).")
    usd_per_month: float = Field(default=0.0, ge=0, description="US dollars a month (UTC), for models with a price.")
    max_concurrent: int = Field(default=0, ge=0, description="Requests running at once.")


class ProxySettings(Section):
    """Where the gateway listens."""

    host: str = Field(
        default="127.0.0.1", description="Address to listen on. Anything but loopback needs proxy.api_key."
    )
    port: int = Field(default=30000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    api_key: ApiKey = Field(
        default=SecretStr(""), description="Token that clients must send; `metaclaw setup` makes one."
    )
    max_body_bytes: int = Field(default=32 * 1024 * 1024, gt=0, description="Largest request body that is accepted.")
    body_timeout_s: float = Field(default=60.0, gt=0, description="Time for a request's body to come, then 408.")
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(), description="Names beside this machine's own that requests may be sent to, such as a proxy's."
    )
    limits: LimitSettings = Field(default_factory=LimitSettings)

    @model_validator(mode="after")
    def _others_need_a_token(self) -> ProxySettings:
        if not is_loopback(self.host) and not self.api_key.get_secret_value():
            raise ValueError(f"host {self.host!r} lets other machines in: set proxy.api_key, or use '127.0.0.1'")
        return self


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
    timeout_s: float = Field(
        default=1.0, gt=0, description="Time for a turn's query, else words do alone; other texts have 15 times that."
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

    max_tokens: int = Field(default=1200, ge=0, description="Budget of one block, in estimated tokens; 0 is no recall.")
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


class JudgeSettings(Section):
    """Who scores the answers. Without a judge there is no reinforcement learning."""

    verifier: str = Field(
        default="", description="Python entry point 'package.module:function' that scores an exchange."
    )
    url: HttpUrl | Literal[""] = Field(
        default="", description="Base URL of an OpenAI-compatible API for the LLM judge."
    )
    model: str = Field(default="", description="Model of the LLM judge.")
    api_key: ApiKey = Field(default=SecretStr(""), description="Key of the LLM judge.")
    votes: int = Field(default=3, ge=1, le=15, description="Votes per exchange; the majority counts.")
    temperature: float = Field(default=0.6, ge=0, le=2, description="Sampling temperature of the votes.")
    max_tokens: int = Field(default=1024, ge=16, description="Longest answer of one vote.")
    timeout_s: float = Field(default=120.0, gt=0, description="Time for one vote.")
    idle_s: float = Field(
        default=300.0, gt=0, description="Silence after which an exchange is judged without a follow-up."
    )


class MemorySettings(Section):
    """What users said, remembered for later turns (docs/memory.md)."""

    enabled: bool = Field(default=True, description="Remember what users say, and recall it.")
    dir: OptionalPath = Field(default=None, description="Folder of the store, units.db; default METACLAW_HOME/memory.")
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
    extractor_timeout_s: float = Field(default=120.0, gt=0, description="Time for one answer of that model.")


class EvolverSettings(Section):
    """Who writes skills from failures. Without a model, none are written."""

    enabled: bool = Field(default=True, description="Have skills written at all.")
    url: HttpUrl | Literal[""] = Field(
        default="", description="Base URL of an OpenAI-compatible API; it is sent the exchanges that failed."
    )
    model: str = Field(default="", description="Model that writes skills; a strong one is worth its price.")
    api_key: ApiKey = Field(default=SecretStr(""), description="Key for that API.")
    max_tokens: int = Field(default=8192, ge=256, description="Longest answer, thinking included.")
    timeout_s: float = Field(default=300.0, gt=0, description="Time for one answer.")
    min_failures: int = Field(default=3, ge=1, description="An agent's new failures before it is asked.")
    max_new: int = Field(default=2, ge=1, le=10, description="Most skills and edits of one answer that go on trial.")
    min_pause_s: float = Field(default=1800.0, ge=0, description="Least time between two answers for one agent.")
    max_per_day: int = Field(default=12, ge=0, description="Most answers in 24 hours for one agent.")


class UpdateSettings(Section):
    """One update: the optimiser step and its limits (DESIGN, the recipe)."""

    loss: Literal["ppo", "importance_sampling", "cispo"] = Field(
        default="ppo", description="Loss of the policy gradient."
    )
    learning_rate: float = Field(
        default=4e-5, gt=0, le=0.1, description="Peak learning rate; about 4e-5 at 8B, 3e-4 at 135M."
    )
    warmup_updates: int = Field(default=5, ge=0, description="Updates over which the learning rate rises to its peak.")
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
    baseline_decay: float = Field(default=0.9, ge=0, lt=1, description="Decay of the reward baseline of an agent.")
    max_kl: float = Field(
        default=0.05,
        gt=0,
        description="Largest KL from the serving version, in nats per token; a longer step is taken back and halved.",
    )

    @model_validator(mode="after")
    def _batch_makes_sense(self) -> UpdateSettings:
        if self.max_exchanges < self.min_exchanges:
            raise ValueError(f"max_exchanges ({self.max_exchanges}) is below min_exchanges ({self.min_exchanges})")
        if self.min_informative > self.min_exchanges:
            raise ValueError(f"min_informative ({self.min_informative}) is above min_exchanges ({self.min_exchanges})")
        return self


class RlSettings(Section):
    """The trained policy and the server that trains it."""

    backend: Literal["remote", "tinker"] = Field(
        default="remote", description="remote: a `metaclaw train-server`; tinker: the cloud, not supported yet."
    )
    model: str = Field(default="", description="Base model: a Hugging Face id, a local path, or 'smollm2'.")
    remote_url: HttpUrl = Field(default="http://127.0.0.1:8000", description="Where the training server listens.")
    remote_api_key: ApiKey = Field(default=SecretStr(""), description="Key of the training server.")
    remote_timeout_s: float = Field(default=600.0, gt=0, description="Longest wait for one training request.")
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
    judge: JudgeSettings = Field(default_factory=JudgeSettings)
    update: UpdateSettings = Field(default_factory=UpdateSettings)


class TrainServerSettings(Section):
    """`metaclaw train-server`."""

    base_model: str = Field(default="", description="Base model; default rl.model.")
    host: str = Field(
        default="127.0.0.1", description="Address to listen on. Anything but loopback needs an explicit api_key."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    api_key: ApiKey = Field(
        default=SecretStr(""), description="Key that clients must send; made and stored at the first start."
    )
    data_dir: OptionalPath = Field(
        default=None, description="Where adapters and checkpoints live; default METACLAW_HOME/train-server."
    )
    training_devices: Devices = Field(
        default="auto", description="Where the engine trains: auto, cpu or cuda:N; one device in this release."
    )
    inference_devices: Devices = Field(
        default="auto",
        description="Where the sampler runs: auto, cpu or GPUs like cuda:1; auto: one of its own where there are two.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Base weights; auto is float32 on CPU, bfloat16 on GPU."
    )
    engine_threads: int = Field(default=0, ge=0, description="CPU threads of the engine; 0 leaves it to torch.")
    sampler_threads: int = Field(default=0, ge=0, description="CPU threads of the sampler; 0 leaves it to torch.")
    max_context: int = Field(default=0, ge=0, description="Longest sequence in tokens; 0 is the model's own limit.")
    max_concurrent: int = Field(default=32, ge=1, description="Sequences that the sampler decodes at once.")
    prefix_cache_mb: int = Field(
        default=-1,
        ge=-1,
        description="Memory for the keys and values of ended answers, which conversations go on from; 0 keeps none, "
        "-1 is a sixteenth of the machine's memory, or a fifth of what is free on a GPU.",
    )
    max_queued: int = Field(default=512, ge=1, description="Sampling requests that may wait before new ones get 429.")
    max_queued_tokens: int = Field(
        default=2**24,
        ge=1,
        description="Tokens that may wait before new requests get 429: of sampling (prompts and longest answers), and "
        "as many of training.",
    )
    max_queued_mb: int = Field(default=1024, ge=1, description="Training data that may wait before new ones get 429.")
    max_lora_rank: int = Field(default=64, ge=1, le=512, description="Largest adapter rank.")
    adapter_memory_mb: int = Field(
        default=0,
        ge=0,
        description="GPU memory for adapters and their optimisers; the idlest move out. 0 is a tenth of the GPU's.",
    )
    adapter_host_memory_mb: int = Field(
        default=0,
        ge=0,
        description="Main memory for them, then they go to disk; on a CPU the only limit. 0 is a quarter of all.",
    )
    max_batch_tokens: int = Field(
        default=0,
        ge=0,
        description="Tokens trained on at once; 0 is 256 on a CPU, 8192 on a GPU; fewer need less.",
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Compute activations twice, not keep them; auto: on GPUs, and partly for long sequences on CPUs.",
    )
    sampler: Literal["transformers", "vllm"] = Field(
        default="transformers",
        description="What samples: transformers, on the engine's device; vllm, on its own (`metaclaw vllm prepare`).",
    )
    vllm_python: OptionalPath = Field(
        default=None, description="Python that has vLLM; default the one that `metaclaw vllm prepare` made."
    )
    vllm_max_loras: int = Field(
        default=4, ge=1, description="Adapters in one batch of vLLM; at least rl.update.max_staleness + 2."
    )
    vllm_kv_cache_gb: float = Field(
        default=0.0, ge=0, description="Memory of vLLM's KV cache; 0 is 2 GB on a CPU, what is free on a GPU."
    )
    vllm_args: str = Field(default="", description="More arguments of vLLM, as one would type them.")

    @model_validator(mode="after")
    def _others_need_a_key(self) -> TrainServerSettings:
        if not is_loopback(self.host) and not self.api_key.get_secret_value():
            raise ValueError(f"host {self.host!r} lets other machines in: set train_server.api_key, or use '127.0.0.1'")
        return self

    @model_validator(mode="after")
    def _devices_can_be_used(self) -> TrainServerSettings:
        if "," in self.training_devices:
            raise ValueError(
                f"training_devices {self.training_devices!r} names several; the engine of this release trains on one: "
                "give the others to inference_devices"
            )
        return self


class JournalSettings(Section):
    """How long the record of turns (turns.db) is kept. What an update still needs is kept longer."""

    max_age_days: float = Field(default=0.0, ge=0, description="Turns older than this are given up; 0 keeps all.")
    max_size_mb: float = Field(
        default=0.0, ge=0, description="The oldest turns are given up while the journal holds more; 0 is no limit."
    )


class Settings(Section):
    """Everything. ``home`` is METACLAW_HOME, never a key of the file."""

    mode: Mode = Field(
        default="skills_only", description="skills_only: any model; rl: the policy trained on the training server."
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
    def train_server_dir(self) -> Path:
        return self.home / (self.train_server.data_dir or Path("train-server")).expanduser()
