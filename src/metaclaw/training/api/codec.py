"""The binary bodies of the Tinker protocol, to and from numpy arrays.

Owns protobuf, tensor encodings and compression; refuses to know which values make sense (the engine does).
Invariant: every byte count is checked against its shape before memory is taken for it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import zstandard
from google.protobuf.message import DecodeError

from metaclaw.errors import InvalidRequestError, RequestTooLargeError
from metaclaw.training.api.proto import tinker_pb2 as pb
from metaclaw.training.commands import Datum, ForwardBackward

EMPTY_TOPK_LOGPROB = -99999.0
_DTYPES = {
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_INT64: np.dtype("<i8"),
    pb.DTYPE_INT32: np.dtype("<i4"),
    pb.DTYPE_BFLOAT16: np.dtype("<u2"),  # the upper half of a float32
}
_UNSERVED_LOSSES = {
    "stable_reinforce": "its formula is not published; pass loss_fn='importance_sampling', 'ppo' or 'cispo'",
    "custom": "this server computes no graphs; forward_backward_custom runs the loss in your program",
}
_MAX_SPARSE_CELLS = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledSequence:
    """One sampled continuation, complete."""

    tokens: np.ndarray
    logprobs: np.ndarray
    stop_reason: str
    topk: TopK | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """The k likeliest tokens at each position, ``(T, k)``."""

    tokens: np.ndarray
    logprobs: np.ndarray


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """``body`` without its content encoding (``zstd`` or none); the decoded size is limited too."""
    if encoding in ("", "identity"):
        return body
    if encoding != "zstd":
        raise InvalidRequestError(f"content-encoding {encoding!r} is not supported; send zstd or none")
    try:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)) as reader:
            plain = reader.read(max_bytes + 1)
    except zstandard.ZstdError as error:
        raise InvalidRequestError(f"the body is not valid zstd: {error}") from error
    if len(plain) > max_bytes:
        raise RequestTooLargeError(f"the decompressed request body is larger than the limit of {max_bytes} bytes")
    return plain


def parse_forward_backward(body: bytes) -> pb.ForwardBackwardRequest:
    """The message in ``body``; its tensors are decoded by ``decode_forward_backward``."""
    try:
        return pb.ForwardBackwardRequest.FromString(body)
    except DecodeError as error:
        raise InvalidRequestError(f"the body is not a ForwardBackwardRequest: {error}") from error


def count_tokens(message: pb.ForwardBackwardRequest) -> int:
    """Tokens of its sequences, whether or not they make sense."""
    return sum(len(chunk.encoded_text.tokens) // 4 for datum in message.data for chunk in datum.model_input)


def decode_forward_backward(message: pb.ForwardBackwardRequest) -> ForwardBackward:
    """The engine's command for ``message``. Raises ``InvalidRequestError`` that names the datum and the array."""
    if message.loss_fn in _UNSERVED_LOSSES:
        raise InvalidRequestError(f"loss {message.loss_fn!r} is not served: {_UNSERVED_LOSSES[message.loss_fn]}")
    return ForwardBackward(
        model_id=message.model_id,
        data=tuple(_datum(datum, f"data[{index}]") for index, datum in enumerate(message.data)),
        loss=message.loss_fn,
        config=_config(message),
        forward_only=message.forward_only,
    )


def decode_tensor(message: pb.Tensor, where: str) -> np.ndarray:
    """A dense array, whatever the encoding; bfloat16 is widened to float32."""
    if message.dtype not in _DTYPES:
        raise InvalidRequestError(f"{where} has dtype {message.dtype}, which is not known here")
    shape = tuple(message.shape)
    if any(size < 0 for size in shape):
        raise InvalidRequestError(f"{where} has the shape {shape}")
    sparse = message.WhichOneof("encoding") == "sparse_csr"
    array = _from_csr(message, shape, where) if sparse else _array(message.dense, message.dtype, shape, where)
    return (array.astype(np.uint32) << 16).view(np.float32) if message.dtype == pb.DTYPE_BFLOAT16 else array


def encode_forward_backward(logprobs: Sequence[np.ndarray], metrics: Mapping[str, float]) -> bytes:
    """The answer to forward_backward; neighbours of equal trailing shape share one record."""
    output = pb.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord", metrics=dict(metrics))
    for trailing_shape, group in groupby(logprobs, key=lambda array: array.shape[1:]):
        arrays = [np.ascontiguousarray(array, dtype="<f4") for array in group]
        record = output.loss_fn_outputs.add(type_tag="ArrayRecord", num_datums=len(arrays))
        batched = record.fields["logprobs"]
        batched.data = b"".join(array.tobytes() for array in arrays)
        batched.offsets = np.cumsum([0, *(array.nbytes for array in arrays)], dtype="<i8").tobytes()
        batched.dtype = pb.DTYPE_FLOAT32
        batched.trailing_shape.extend(trailing_shape)
    return output.SerializeToString()


def encode_samples(
    sequences: Sequence[SampledSequence], prompt_logprobs: np.ndarray | None, topk_prompt: TopK | None,
    num_cached: int = 0,
) -> bytes:  # fmt: skip
    """The answer to asample. ``num_cached`` tokens of the prompt were known from an earlier request."""
    response = pb.SampleResponse(prompt_cache_hit_tokens=num_cached)
    for sequence in sequences:
        message = response.sequences.add(
            stop_reason=pb.STOP_REASON_STOP if sequence.stop_reason == "stop" else pb.STOP_REASON_LENGTH,
            tokens=sequence.tokens.astype("<i4").tobytes(),
            logprobs=sequence.logprobs.astype("<f4").tobytes(),
        )
        if sequence.topk is not None:
            message.topk_sampled_logprobs.CopyFrom(_encode_topk(sequence.topk))
    if prompt_logprobs is not None:
        response.prompt_logprobs = prompt_logprobs.astype("<f4").tobytes()
    if topk_prompt is not None:
        response.topk_prompt_logprobs.CopyFrom(_encode_topk(topk_prompt))
    return response.SerializeToString()


def _encode_topk(topk: TopK) -> pb.TopkLogprobs:
    # A cell without a value (the first prompt position has none) is token 0 at a log-prob nothing can have.
    empty = ~np.isfinite(topk.logprobs)
    tokens, logprobs = np.where(empty, 0, topk.tokens), np.where(empty, EMPTY_TOPK_LOGPROB, topk.logprobs)
    length, k = logprobs.shape
    return pb.TopkLogprobs(
        token_ids=tokens.astype("<i4").tobytes(), logprobs=logprobs.astype("<f4").tobytes(), k=k, length=length
    )


def _config(message: pb.ForwardBackwardRequest) -> dict[str, float]:
    # The second map is complete where it is used at all. No loss of ours takes text.
    if not message.loss_fn_config_v2:
        return dict(message.loss_fn_config)
    for name, value in message.loss_fn_config_v2.items():
        if value.WhichOneof("value") != "number":
            raise InvalidRequestError(f"loss_fn_config[{name!r}] must be a number on this server")
    return {name: value.number for name, value in message.loss_fn_config_v2.items()}


def _datum(message: pb.Datum, where: str) -> Datum:
    tokens = [_chunk_tokens(chunk, where) for chunk in message.model_input]
    inputs = {name: decode_tensor(tensor, f"{where}.{name}") for name, tensor in message.loss_fn_inputs.items()}
    return Datum(tokens=np.concatenate(tokens) if tokens else np.empty(0, np.int32), inputs=inputs)


def _chunk_tokens(chunk: pb.Chunk, where: str) -> np.ndarray:
    kind = chunk.WhichOneof("chunk")
    if kind != "encoded_text":
        raise InvalidRequestError(f"{where} holds a chunk of kind {kind!r}; this model is trained on text tokens only")
    data = chunk.encoded_text.tokens
    if len(data) % 4:
        raise InvalidRequestError(f"{where} holds {len(data)} bytes of tokens, which is not a number of int32")
    return np.frombuffer(data, dtype="<i4")


def _from_csr(message: pb.Tensor, shape: tuple[int, ...], where: str) -> np.ndarray:
    if len(shape) != 2 or math.prod(max(1, size) for size in shape) > _MAX_SPARSE_CELLS:
        raise InvalidRequestError(f"{where} is sparse with shape {shape}; two dimensions of a sensible size are needed")
    num_rows, num_columns = shape
    csr = message.sparse_csr
    rows_end = _array(csr.crow_indices, pb.DTYPE_INT64, (num_rows + 1,), f"{where} (row indices)")
    num_values = len(csr.col_indices) // 8
    columns = _array(csr.col_indices, pb.DTYPE_INT64, (num_values,), f"{where} (column indices)")
    values = _array(csr.values, message.dtype, (num_values,), where)
    counts = np.diff(rows_end)
    if rows_end[0] != 0 or rows_end[-1] != num_values or (counts < 0).any():
        raise InvalidRequestError(f"{where} has row indices that do not describe {num_values} values")
    if num_values and (columns.min() < 0 or columns.max() >= num_columns):
        raise InvalidRequestError(f"{where} has a column index outside its shape {shape}")
    dense = np.zeros(shape, dtype=values.dtype)
    dense[np.repeat(np.arange(num_rows), counts), columns] = values
    return dense


def _array(data: bytes, dtype: pb.DType, shape: tuple[int, ...], where: str) -> np.ndarray:
    kind = _DTYPES[dtype]
    if len(data) != math.prod(shape) * kind.itemsize:
        raise InvalidRequestError(
            f"{where} holds {len(data)} bytes, which is not shape {shape} of {kind.itemsize} bytes each"
        )
    try:
        return np.frombuffer(data, dtype=kind).reshape(shape)
    except ValueError as error:  # nothing of 2**62 columns, or a hundred dimensions
        raise InvalidRequestError(f"{where} has a shape that no array has: {error}") from error
