"""The JSON bodies of the Tinker protocol.

Owns field names and their types; refuses to know what happens with them. Invariant: unknown fields are ignored, as
each release of the SDK adds some; a field that asks for something else than we do is refused where it is used.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from metaclaw.errors import InvalidRequestError

M = TypeVar("M", bound=BaseModel)

# What the workers' frames can carry; a number beyond it is refused while parsing, with its name.
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]


class Wire(BaseModel):
    """A body. Field names may begin with ``model_``."""

    model_config = ConfigDict(protected_namespaces=(), extra="ignore")


# ---- sessions ----


class CreateSession(Wire):
    display_name: str | None = None
    user_metadata: dict[str, Any] | None = None
    tags: list[str] = Field(default_factory=list[str])


class SessionCreated(Wire):
    session_id: str
    type: Literal["create_session"] = "create_session"


class Heartbeat(Wire):
    session_id: str
    type: Literal["session_heartbeat"] = "session_heartbeat"


class HeartbeatSeen(Wire):
    type: Literal["session_heartbeat"] = "session_heartbeat"


class TelemetryAccepted(Wire):
    status: Literal["accepted"] = "accepted"


class Health(Wire):
    status: Literal["ok"] = "ok"


class Nothing(Wire):
    """``{}``."""


class ClientConfigRequest(Wire):
    sdk_version: str = ""


class ClientConfig(Wire):
    pjwt_auth_enabled: bool
    use_pyqwest_transport: bool
    parallel_fwdbwd_chunks: bool = True
    proto_compress_fwdbwd: bool = True
    sample_max_concurrent_requests: int


class DynamicConfig(Wire):
    sample_cancel_enabled: bool = True


class SupportedModel(Wire):
    model_name: str
    max_context_length: int
    num_parameters: int | None = None  # beyond Tinker's: what learning rates go by
    trainable: bool = True
    sampleable: bool = True


class Capabilities(Wire):
    supported_models: list[SupportedModel]


class SessionInfo(Wire):
    training_run_ids: list[str]
    sampler_ids: list[str]
    user_metadata: dict[str, Any]
    display_name: str | None


class SessionIds(Wire):
    sessions: list[str]


class AccessToken(Wire):
    jwt: str


class SearchCursor(Wire):
    last_created_at: datetime
    last_session_id: str


class SearchSessions(Wire):
    session_id: str | None = None
    project_ids: list[str] | None = None
    user_metadata: dict[str, str] = Field(default_factory=dict[str, str])
    display_name: str | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: SearchCursor | None = None


class SessionSummary(Wire):
    session_id: str
    created_at: datetime
    owner: str = "local"
    project_id: str = ""
    checkpoints_count: int
    checkpoint_storage_bytes: int
    display_name: str | None
    user_metadata: dict[str, str]


class FoundSessions(Wire):
    sessions: list[SessionSummary]
    next_cursor: SearchCursor | None


# ---- futures ----


class Submitted(Wire):
    request_id: str
    model_id: str | None = None


class SampleSubmitted(Wire):
    request_id: str
    sample_sequence_ids: list[str]


class RetrieveFuture(Wire):
    request_id: str


class TryAgain(Wire):
    type: Literal["try_again"] = "try_again"
    request_id: str
    queue_state: Literal["active"] = "active"


# ---- training ----


class Lora(Wire):
    rank: int
    seed: Seed | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True


class Optimizer(Wire):
    type: str = "adamw"


class CreateModelRequest(Wire):
    session_id: str
    model_seq_id: int
    base_model: str
    lora_config: Lora | None = None
    optimizer_config: Optimizer = Field(default_factory=Optimizer)
    user_metadata: dict[str, Any] | None = None


class ModelMade(Wire):
    model_id: str
    path: str | None = None


class GetInfo(Wire):
    model_id: str


class ModelData(Wire):
    model_name: str
    tokenizer_id: str
    arch: str | None = None


class ModelInfo(Wire):
    model_id: str
    model_data: ModelData
    model_name: str
    is_lora: Literal[True] = True
    lora_rank: int
    optimizer_config: Optimizer = Field(default_factory=Optimizer)
    type: Literal["get_info"] = "get_info"


class Sequenced(Wire):
    """What every ordered request begins with. The rest is checked when its turn has come: a request that is
    refused at the door would leave a gap that all later ones wait for."""

    model_config = ConfigDict(protected_namespaces=(), extra="allow")
    model_id: str
    seq_id: int


class Adam(Wire):
    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


class OptimStepRequest(Wire):
    model_id: str
    adam_params: Adam | None = None
    optimizer_params: Optimizer | None = None


class OptimStepDone(Wire):
    metrics: dict[str, float]


class SaveWeights(Wire):
    model_id: str
    path: str | None = None
    ttl_seconds: int | None = None
    user_metadata: dict[str, str] | None = None


class SaveExternal(SaveWeights):
    age_encryption_recipients: list[str] | None = None


class SaveForSampler(SaveWeights):
    sampling_session_seq_id: int | None = None
    kind: str = "snapshot"


class Saved(Wire):
    path: str


class LoadWeights(Wire):
    path: str
    optimizer: bool
    model_id: str | None = None
    seq_id: int | None = None
    session_id: str | None = None
    model_seq_id: int | None = None
    base_model: str | None = None
    optimizer_config: Optimizer | None = None
    user_metadata: dict[str, Any] | None = None


# ---- sampling ----


class CreateSamplingSession(Wire):
    session_id: str
    sampling_session_seq_id: int
    model_path: str | None = None
    base_model: str | None = None


class SamplingSessionMade(Wire):
    sampling_session_id: str


class SamplerInfo(Wire):
    sampler_id: str
    base_model: str
    model_path: str | None = None


class PromptChunk(Wire):
    type: str = "encoded_text"
    tokens: list[int] = Field(default_factory=list[int])


class Prompt(Wire):
    chunks: list[PromptChunk]


class SamplingParams(Wire):
    max_tokens: Int64 | None = None
    seed: Seed | None = None
    stop: str | list[str] | list[Int64] | None = None
    temperature: float = 1.0
    top_k: Int64 = -1
    top_p: float = 1.0


class SampleRequest(Wire):
    prompt: Prompt
    sampling_params: SamplingParams = Field(default_factory=SamplingParams)
    num_samples: Annotated[int, Field(ge=1, le=1024)] = 1
    base_model: str | None = None
    model_path: str | None = None
    sampling_session_id: str | None = None
    seq_id: int | None = None
    prompt_logprobs: bool | None = None
    topk_prompt_logprobs: Int64 = 0
    topk_sample_logprobs: Int64 = 0
    target_prompt_logprobs: Any = None
    prompt_alt_tokens_k: int = 0
    prompt_logprobs_last_n: int | None = None
    record_stability_info: bool | None = None


# ---- checkpoints ----


class CheckpointInfo(Wire):
    checkpoint_id: str
    checkpoint_type: Literal["training", "sampler", "external"]
    time: datetime
    tinker_path: str
    size_bytes: int
    public: bool
    user_metadata: dict[str, str]
    expires_at: datetime | None


class Cursor(Wire):
    offset: int
    limit: int
    total_count: int


class CheckpointImported(Wire):
    tinker_path: str
    size_bytes: int


class CheckpointList(Wire):
    checkpoints: list[CheckpointInfo]
    cursor: Cursor | None = None


class TrainingRunInfo(Wire):
    training_run_id: str
    base_model: str
    model_owner: str = "local"
    is_lora: Literal[True] = True
    corrupted: bool = False
    lora_rank: int
    last_request_time: datetime
    last_checkpoint: CheckpointInfo | None
    last_sampler_checkpoint: CheckpointInfo | None
    user_metadata: dict[str, str]


class TrainingRunList(Wire):
    training_runs: list[TrainingRunInfo]
    cursor: Cursor


class WeightsInfoRequest(Wire):
    tinker_path: str


class WeightsInfo(Wire):
    base_model: str
    is_lora: Literal[True] = True
    lora_rank: int
    train_unembed: bool
    train_mlp: bool
    train_attn: bool


class DownloadUrls(Wire):
    urls: dict[str, str]
    expires: datetime


class SetTtl(Wire):
    ttl_seconds: Annotated[int, Field(gt=0, le=10 * 366 * 86400)] | None = None


def parse(kind: type[M], body: bytes) -> M:
    """``body`` as ``kind``. Raises ``InvalidRequestError`` that names the first field that does not fit."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error


def parse_fields(kind: type[M], body: bytes) -> M:
    """As ``parse``, but NaN and infinity are let through as numbers, so that the right place can refuse them."""
    try:
        return kind.model_validate(from_json(body, allow_inf_nan=True))
    except ValidationError as error:
        raise invalid(error) from error
    except ValueError as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from error


def invalid(error: ValidationError) -> InvalidRequestError:
    """pydantic's first complaint in one line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return InvalidRequestError(
        f"{place}: {first['msg']}" if place else f"the body is malformed: {first['msg']}", param=place or None
    )
