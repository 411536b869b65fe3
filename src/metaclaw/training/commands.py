"""What the API process asks of the engine and the sampler, and what they answer.

Owns the messages and their encoding; refuses to know torch, HTTP and processes. Invariant: both directions are
plain data (msgpack frames, arrays as raw bytes), so that any rank could replay a recorded stream of commands.

A frame from the API is ``{"id": n, "op": name, "share": tenant, ...fields}``. The worker answers with any number of
``{"id": n, "event": ...}`` and ends with ``{"id": n, "ok": {...}}`` or ``{"id": n, "error": {"code", "message",
"caller_fault"}}``. The first frame of a worker has id 0: ``ok`` describes the loaded model (``WorkerReady``), or
``error`` says why it could not start.
"""

# msgpack has no type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_ARRAY = 1  # msgpack extension type of a numpy array


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """One training sequence.

    ``tokens`` is the model's input, int32 ``(T,)``. ``inputs`` holds the loss's arrays by name: ``target_tokens``
    int64 ``(T,)`` or ``(T, K)`` aligned with the input (already shifted by the caller), and float32 arrays of the
    same shape such as ``weights``, ``advantages``, ``logprobs``.
    """

    tokens: Array
    inputs: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateModel:
    """Answer: ``{"num_trainable": int}``."""

    op: ClassVar[str] = "create_model"
    model_id: str
    rank: int
    alpha: float = 32.0
    seed: int | None = None
    train_mlp: bool = True
    train_attn: bool = True
    train_unembed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """Fill ``model_id`` (made when it does not exist) from a training checkpoint.

    Answer: ``{"rank", "alpha", "train_mlp", "train_attn", "train_unembed", "num_trainable"}``.
    """

    op: ClassVar[str] = "load_model"
    model_id: str
    directory: str
    with_optimizer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardBackward:
    """Answer: ``{"logprobs": [float32 array of target_tokens' shape per datum], "metrics": {"loss:sum": float, ...}}``.

    Gradients add up over calls until ``OptimStep``; nothing is divided by anything.
    """

    op: ClassVar[str] = "forward_backward"
    model_id: str
    data: tuple[Datum, ...]
    loss: str
    config: dict[str, float] = field(default_factory=dict[str, float])
    forward_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimStep:
    """AdamW with decoupled decay. Answer: ``{"metrics": {"grad_norm", "step", ...}}``. Zeroes the gradients."""

    op: ClassVar[str] = "optim_step"
    model_id: str
    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0  # 0 is no clipping


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveState:
    """Write adapter and optimiser state to the new ``directory``. Answer: ``{"size_bytes": int}``."""

    op: ClassVar[str] = "save_state"
    model_id: str
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveSampler:
    """Write the adapter alone, in PEFT's format, to the new ``directory``. Answer: ``{"size_bytes": int}``.

    ``kind`` ``external`` is for programs beyond this server: the same files, with ``base_name`` in the adapter's
    configuration as the base's name (the base's folder here when it is empty).
    """

    op: ClassVar[str] = "save_sampler"
    model_id: str
    directory: str
    kind: Literal["sampler", "external"] = "sampler"
    base_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadModel:
    """Forget a model and free its memory. Answer: ``{}``."""

    op: ClassVar[str] = "unload_model"
    model_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAdapter:
    """Read an adapter directory into the sampler under a name never used before. Answer: ``{}``."""

    op: ClassVar[str] = "load_adapter"
    adapter_id: str
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadAdapter:
    """Forget an adapter; running generations keep it until they end. Answer: ``{}``."""

    op: ClassVar[str] = "unload_adapter"
    adapter_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Sample ``num_samples`` continuations of ``prompt`` (int32 ``(T,)``).

    ``stop_tokens`` of ``None`` is the model's own end tokens; ``()`` with no ``stop_strings`` never stops before
    ``max_tokens``. A stop token is part of the answer. ``max_tokens`` 0 scores the prompt and samples nothing.

    Events: ``{"event": "prompt", "logprobs": float32 (T,) with NaN first, "topk_tokens"/"topk_logprobs": (T, k)}``
    when asked; ``{"event": "tokens", "sample": i, "tokens": int32 (n,), "logprobs": float32 (n,),
    "logprobs_full": float32 (n,)[, "topk_tokens", "topk_logprobs": (n, k)]}``;
    ``{"event": "finished", "sample": i, "stop_reason": "stop" | "length"[, "cached_tokens": n]}``,
    ``n`` being how many of the prompt's tokens were known from an earlier request. Answer: ``{}``.

    ``logprobs`` are those of the distribution that was drawn from (after temperature, top_k and top_p),
    ``logprobs_full`` and the likeliest tokens those at temperature 1 over the whole vocabulary. ``full_logprobs``
    says when the former are needed, as a sampler may have to score the answer again for them: ``live`` with the
    tokens; ``end``, then they may be NaN there and come whole in the ``finished`` event as its ``logprobs_full``;
    ``none``, then they may be NaN.
    """

    op: ClassVar[str] = "generate"
    adapter_id: str | None
    prompt: Array
    num_samples: int = 1
    max_tokens: int = 16
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0
    seed: int | None = None
    stop_tokens: tuple[int, ...] | None = None
    stop_strings: tuple[str, ...] = ()
    prompt_logprobs: bool = False
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    full_logprobs: Literal["live", "end", "none"] = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop the generation with frame id ``target``; it ends with ``{"cancelled": True}``. Answer: ``{}``."""

    op: ClassVar[str] = "cancel"
    target: int


EngineCommand = CreateModel | LoadModel | ForwardBackward | OptimStep | SaveState | SaveSampler | UnloadModel
SamplerCommand = LoadAdapter | UnloadAdapter | Generate | Cancel
Command = EngineCommand | SamplerCommand

_COMMANDS: dict[str, type[Command]] = {
    cls.op: cls
    for cls in (
        CreateModel, LoadModel, ForwardBackward, OptimStep, SaveState, SaveSampler, UnloadModel,
        LoadAdapter, UnloadAdapter, Generate, Cancel,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady:
    """What a worker says of the base model once it is loaded."""

    vocab_size: int
    max_context: int
    end_tokens: tuple[int, ...]
    architecture: str
    base_digest: str  # identity of the base weights, as stored in checkpoints
    tied_embeddings: bool
    device: str
    dtype: str


def encode_frame(frame: dict[str, Any]) -> bytes:
    """Pack a frame; numpy arrays keep dtype and shape."""
    return cast(bytes, msgpack.packb(frame, default=_pack_special))


def decode_frame(data: bytes) -> dict[str, Any]:
    """Unpack a frame. Arrays are read-only views of ``data``."""
    return cast("dict[str, Any]", msgpack.unpackb(data, ext_hook=_unpack_special, strict_map_key=False))


def command_frame(frame_id: int, command: Command, *, share: str = "") -> dict[str, Any]:
    """The frame that carries ``command``. Workers divide their time evenly between ``share``s, not between commands."""
    body = {f.name: getattr(command, f.name) for f in fields(command)}
    return {"id": frame_id, "op": command.op, "share": share, **body}


def parse_command(frame: dict[str, Any]) -> Command:
    """The command in ``frame``; raises ``ValueError`` for an unknown operation."""
    body = {key: value for key, value in frame.items() if key not in ("id", "op", "share")}
    if frame["op"] not in _COMMANDS:
        raise ValueError(f"unknown command {frame['op']!r}")
    command = _COMMANDS[frame["op"]]
    if command is ForwardBackward:
        body["data"] = tuple(Datum(**datum) for datum in body["data"])
    if command is Generate:
        body["stop_strings"] = tuple(body["stop_strings"])
        body["stop_tokens"] = None if body["stop_tokens"] is None else tuple(body["stop_tokens"])
    return command(**body)


def _pack_special(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = cast(Array, value)
        header = f"{array.dtype.str} {' '.join(map(str, array.shape))}\n".encode()
        return cast(Any, msgpack.ExtType(_ARRAY, header + array.tobytes()))
    if isinstance(value, Datum):
        return {"tokens": value.tokens, "inputs": value.inputs}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot pack {type(value).__name__}")


def _unpack_special(code: int, data: bytes) -> Array:
    if code != _ARRAY:
        raise ValueError(f"unknown extension type {code}")
    end = data.index(b"\n")
    dtype, *shape = data[:end].decode().split()
    flat: Array = np.frombuffer(data, dtype=dtype, offset=end + 1)
    return flat.reshape([int(size) for size in shape])
