"""Binary bodies, against the official SDK's own reader and writer where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tinker.proto.response_conv import deserialize_forward_backward_output, deserialize_sample_response

from metaclaw.errors import InvalidRequestError, RequestTooLargeError
from metaclaw.training.api import codec
from metaclaw.training.api.proto import tinker_pb2 as pb

COLUMN_2_OF_2 = pb.SparseCsr(
    values=bytes(8), crow_indices=np.array([0, 1], "<i8").tobytes(), col_indices=np.array([2], "<i8").tobytes()
)
SHAPES = st.lists(st.tuples(st.integers(1, 5), st.sampled_from([(), (2,), (3,)])), min_size=1, max_size=8)


@given(SHAPES)
def test_log_probs_of_any_shapes_come_back_whole_and_in_order(shapes):
    arrays = [np.random.default_rng(i).random((n, *rest), dtype=np.float32) for i, (n, rest) in enumerate(shapes)]
    output = deserialize_forward_backward_output(codec.encode_forward_backward(arrays, {"loss:sum": 1.5}))
    assert output.metrics == {"loss:sum": 1.5}
    assert len(output.loss_fn_outputs) == len(arrays)
    for array, got in zip(arrays, output.loss_fn_outputs, strict=True):
        assert tuple(got["logprobs"].shape) == array.shape
        np.testing.assert_array_equal(np.asarray(got["logprobs"].data).reshape(array.shape), array)


def test_samples_and_prompt_log_probs_are_read_by_the_sdk():
    sequence = codec.SampledSequence(
        tokens=np.array([5, 6]), logprobs=np.array([-1.0, -2.0], np.float32), stop_reason="stop",
        topk=codec.TopK(tokens=np.array([[5], [6]]), logprobs=np.array([[-1.0], [-2.0]])),
    )  # fmt: skip
    topk = codec.TopK(tokens=np.array([[0, 0], [7, 8]]), logprobs=np.array([[np.nan, np.nan], [-0.5, -1.5]]))
    body = codec.encode_samples([sequence], np.array([np.nan, -0.5], np.float32), topk)
    response = deserialize_sample_response(body)
    assert response.sequences[0].tokens == [5, 6]
    assert response.sequences[0].stop_reason == "stop"
    assert response.prompt_logprobs == [None, -0.5]
    assert response.topk_prompt_logprobs == [None, [(7, -0.5), (8, -1.5)]]


def test_a_sparse_tensor_is_filled_with_zeros():
    message = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2, 3])
    message.sparse_csr.values = np.array([1.5, 2.5], "<f4").tobytes()
    message.sparse_csr.crow_indices = np.array([0, 1, 2], "<i8").tobytes()
    message.sparse_csr.col_indices = np.array([2, 0], "<i8").tobytes()
    assert codec.decode_tensor(message, "x").tolist() == [[0, 0, 1.5], [2.5, 0, 0]]


def test_bfloat16_is_widened_exactly():
    message = pb.Tensor(dtype=pb.DTYPE_BFLOAT16, shape=[2], dense=np.array([0x3FC0, 0xC000], "<u2").tobytes())
    assert codec.decode_tensor(message, "x").tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2], dense=b"1234"), "4 bytes"),
        (pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[1 << 40], dense=b""), "0 bytes"),
        (pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[-1, -4], dense=b"1234" * 4), "shape"),
        (pb.Tensor(shape=[0]), "dtype"),
        (pb.Tensor(dtype=pb.DTYPE_INT64, shape=[0, 1 << 62]), "no array"),
        (pb.Tensor(dtype=pb.DTYPE_INT64, shape=[1] * 70, dense=bytes(8)), "no array"),
        (pb.Tensor(dtype=pb.DTYPE_INT64, shape=[0, 1 << 62], sparse_csr=pb.SparseCsr()), "sensible size"),
        (pb.Tensor(dtype=pb.DTYPE_INT64, shape=[1 << 20, 1 << 20], sparse_csr=pb.SparseCsr()), "sensible size"),
        (pb.Tensor(dtype=pb.DTYPE_INT64, shape=[1, 2], sparse_csr=COLUMN_2_OF_2), "outside"),
    ],
)
def test_a_tensor_that_lies_about_itself_is_refused_by_name(message, reason):
    with pytest.raises(InvalidRequestError, match=reason) as refused:
        codec.decode_tensor(message, "data[3].weights")
    assert "data[3].weights" in str(refused.value)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise_than_by_refusing(body):
    try:
        codec.decode_forward_backward(codec.parse_forward_backward(body))
    except InvalidRequestError:
        return


def test_a_small_compressed_body_that_unpacks_beyond_the_limit_is_refused():
    bomb = zstandard.compress(bytes(10_000_000))
    with pytest.raises(RequestTooLargeError, match="decompressed"):
        codec.decompress(bomb, "zstd", 1000)


def test_a_broken_or_unknown_encoding_is_a_clear_error():
    with pytest.raises(InvalidRequestError, match="zstd"):
        codec.decompress(b"not zstd", "zstd", 1000)
    with pytest.raises(InvalidRequestError, match="'br'"):
        codec.decompress(b"", "br", 1000)
