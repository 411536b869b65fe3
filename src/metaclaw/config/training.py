"""Settings of the training server.

Owns `train_server`; refuses to know who trains on it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, model_validator

from metaclaw.config_types import ApiKey, Devices, OptionalPath, Section, is_loopback


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
    max_import_mb: int = Field(
        default=4096, ge=1, description="Largest checkpoint that is taken in from elsewhere (`metaclaw agents import`)."
    )
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
