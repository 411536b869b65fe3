"""The older dialect of training requests: JSON bodies, as SDKs before 0.25 send them.

Owns telling the two dialects apart and turning JSON into the message of the newer one; refuses to know which values
make sense. Invariant: a JSON body and the protobuf body of the same request become the same command, through the same
checks; once its model and number are known, whatever is wrong with the rest is left to the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from metaclaw.errors import InvalidRequestError
from metaclaw.training.api import wire
from metaclaw.training.api.codec import count_tokens, decode_forward_backward, parse_forward_backward
from metaclaw.training.api.proto import tinker_pb2 as pb
from metaclaw.training.commands import ForwardBackward


class TensorJson(wire.Wire):
    """A tensor: flat values with a shape, or the values of a CSR matrix."""

    data: Any = None
    dtype: Literal["float32", "int64"]
    shape: list[int] | None = None
    sparse_crow_indices: list[int] | None = None
    sparse_col_indices: list[int] | None = None


class DatumJson(wire.Wire):
    model_input: wire.Prompt
    loss_fn_inputs: dict[str, TensorJson]


class PassJson(wire.Wire):
    data: list[DatumJson]
    loss_fn: str
    loss_fn_config: dict[str, float | str] | None = None


class ForwardBackwardJson(wire.Wire):
    """``forward_input`` is what the route ``forward`` takes."""

    model_id: str
    seq_id: int
    forward_backward_input: PassJson | None = None
    forward_input: PassJson | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPass:
    """A forward or forward_backward whose place in the order is known; ``command`` raises what is wrong with it."""

    model_id: str
    seq_id: int
    num_tokens: int  # of its sequences, before anything about them is checked
    command: Callable[[], ForwardBackward]


class _Kind(NamedTuple):
    code: pb.DType
    array: str


_KINDS = {"float32": _Kind(pb.DTYPE_FLOAT32, "<f4"), "int64": _Kind(pb.DTYPE_INT64, "<i8")}


def is_json(content_type: str) -> bool:
    """Whether a body of this type is of the older dialect. The newer one always says that it is protobuf."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def read_pass(body: bytes, content_type: str, *, forward_only: bool) -> AskedPass:
    """A training request of either dialect. Raises ``InvalidRequestError`` when model or number cannot be read."""
    if is_json(content_type):
        asked = wire.parse_fields(wire.Sequenced, body)
        return AskedPass(
            model_id=asked.model_id, seq_id=asked.seq_id, num_tokens=_count_tokens(asked.model_extra or {}),
            command=lambda: decode_forward_backward(json_message(body, forward_only=forward_only)),
        )  # fmt: skip
    message = parse_forward_backward(body)
    message.forward_only |= forward_only
    return AskedPass(
        model_id=message.model_id, seq_id=message.seq_id, num_tokens=count_tokens(message),
        command=lambda: decode_forward_backward(message),
    )  # fmt: skip


def json_message(body: bytes, *, forward_only: bool) -> pb.ForwardBackwardRequest:
    """The JSON ``body`` as the message that newer SDKs send."""
    asked = wire.parse_fields(ForwardBackwardJson, body)
    wanted = asked.forward_input if forward_only else asked.forward_backward_input
    if wanted is None:
        raise InvalidRequestError(f"the body has no {'forward_input' if forward_only else 'forward_backward_input'}")
    message = pb.ForwardBackwardRequest(
        model_id=asked.model_id, seq_id=asked.seq_id, loss_fn=wanted.loss_fn, forward_only=forward_only
    )
    for name, value in (wanted.loss_fn_config or {}).items():
        if isinstance(value, str):
            message.loss_fn_config_v2[name].text = value
        else:
            message.loss_fn_config_v2[name].number = value
    for index, datum in enumerate(wanted.data):
        _add_datum(message.data.add(), datum, f"data[{index}]")
    return message


def _count_tokens(fields: Mapping[str, Any]) -> int:
    """The integers in the sequences of a body of which nothing was checked yet."""
    passes = [fields.get("forward_backward_input"), fields.get("forward_input")]
    data = [datum for each in passes for datum in _list_in(each, "data")]
    chunks = [chunk for datum in data for chunk in _list_in(_value_in(datum, "model_input"), "chunks")]
    return sum(len(_list_in(chunk, "tokens")) for chunk in chunks)


def _list_in(value: object, key: str) -> list[object]:
    inner = _value_in(value, key)
    return cast(list[object], inner) if isinstance(inner, list) else []


def _value_in(value: object, key: str) -> object:
    return cast(dict[str, object], value).get(key) if isinstance(value, dict) else None


def _add_datum(message: pb.Datum, datum: DatumJson, where: str) -> None:
    for chunk in datum.model_input.chunks:
        added = message.model_input.add()
        if chunk.type == "encoded_text":
            added.encoded_text.tokens = _bytes(chunk.tokens, "<i4", f"{where}.model_input")
        else:
            added.image.format = chunk.type[:40]  # whatever it is, it is no text, and refused as that
    for name, tensor in datum.loss_fn_inputs.items():
        _fill(message.loss_fn_inputs[name], tensor, f"{where}.{name}")


def _fill(message: pb.Tensor, tensor: TensorJson, where: str) -> None:
    kind = _KINDS[tensor.dtype]
    message.dtype = kind.code
    values = _array(tensor.data if tensor.data is not None else [], kind.array, where)
    shape = list(values.shape) if tensor.shape is None else tensor.shape
    message.shape.extend(_int64(shape, where))
    if tensor.sparse_crow_indices is None:
        message.dense = values.tobytes()
        return
    message.sparse_csr.values = values.tobytes()
    message.sparse_csr.crow_indices = _bytes(tensor.sparse_crow_indices, "<i8", where)
    message.sparse_csr.col_indices = _bytes(tensor.sparse_col_indices or [], "<i8", where)


def _int64(values: list[int], where: str) -> list[int]:
    _bytes(values, "<i8", where)
    return values


def _bytes(values: list[int], dtype: str, where: str) -> bytes:
    return _array(values, dtype, where).tobytes()


def _array(values: Any, dtype: str, where: str) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and refused as that where it matters
            return np.asarray(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequestError(f"{where} does not hold numbers of one shape: {error}") from error


# ---- answers ----


def forward_backward_json(body: bytes) -> dict[str, Any]:
    """The binary answer to a forward or forward_backward, for a client that asked for JSON."""
    output = pb.ForwardBackwardOutput.FromString(body)
    return {
        "loss_fn_output_type": output.loss_fn_output_type,
        "loss_fn_outputs": [row for record in output.loss_fn_outputs for row in _rows(record)],
        "metrics": {name: _number(value) for name, value in output.metrics.items()},
    }


def sample_json(body: bytes) -> dict[str, Any]:
    """The binary answer to asample, for a client that asked for JSON."""
    response = pb.SampleResponse.FromString(body)
    answer: dict[str, Any] = {"type": "sample", "sequences": [_sequence(each) for each in response.sequences]}
    if response.HasField("prompt_logprobs"):
        answer["prompt_logprobs"] = _numbers(np.frombuffer(response.prompt_logprobs, "<f4"))
    if response.HasField("topk_prompt_logprobs"):
        answer["topk_prompt_logprobs"] = _topk(response.topk_prompt_logprobs)
    return answer


def _rows(record: pb.ArrayRecord) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(record.num_datums)]
    for name, batched in record.fields.items():
        offsets = np.frombuffer(batched.offsets, "<i8") // 4
        values = np.frombuffer(batched.data, "<f4")
        for row, start, end in zip(rows, offsets[:-1], offsets[1:], strict=True):
            part = values[start:end].reshape(-1, *batched.trailing_shape)
            row[name] = {"data": _numbers(part.ravel()), "dtype": "float32", "shape": list(part.shape)}
    return rows


def _sequence(message: pb.SampledSequence) -> dict[str, Any]:
    sequence: dict[str, Any] = {
        "stop_reason": "stop" if message.stop_reason == pb.STOP_REASON_STOP else "length",
        "tokens": np.frombuffer(message.tokens, "<i4").tolist(),
        "logprobs": _numbers(np.frombuffer(message.logprobs, "<f4")),
    }
    if message.HasField("topk_sampled_logprobs"):
        sequence["topk_logprobs"] = _topk(message.topk_sampled_logprobs)
    return sequence


def _topk(message: pb.TopkLogprobs) -> list[list[tuple[int, float]] | None]:
    shape = (message.length, message.k)
    tokens = np.frombuffer(message.token_ids, "<i4").reshape(shape)
    logprobs = np.frombuffer(message.logprobs, "<f4").reshape(shape)
    rows: list[list[tuple[int, float]] | None] = []
    for row_tokens, row_logprobs in zip(tokens.tolist(), logprobs.tolist(), strict=True):
        cells = [(token, value) for token, value in zip(row_tokens, row_logprobs, strict=True) if value > _EMPTY]
        rows.append(cells or None)
    return rows


_EMPTY = -99999.0  # what fills a cell without a value in the binary answer


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON knows neither NaN nor infinity
