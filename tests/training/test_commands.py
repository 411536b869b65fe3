"""Frames between the API process and its workers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metaclaw.training.commands import (
    Datum,
    ForwardBackward,
    Generate,
    command_frame,
    decode_frame,
    encode_frame,
    parse_command,
)

ARRAYS = st.sampled_from(["<i4", "<i8", "<f4", "<f8"]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(ARRAYS)
def test_an_array_keeps_its_bits_its_type_and_its_shape(array: np.ndarray):
    back = decode_frame(encode_frame({"array": array}))["array"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_a_transposed_array_arrives_in_its_own_order():
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    assert np.array_equal(decode_frame(encode_frame({"array": array}))["array"], array)


def test_commands_come_back_as_they_went():
    datum = Datum(tokens=np.arange(3, dtype=np.int32), inputs={"target_tokens": np.arange(3)})
    sent = ForwardBackward(model_id="m", data=(datum,), loss="ppo", config={"temperature": 0.7})
    back = parse_command(decode_frame(encode_frame(command_frame(7, sent))))
    assert isinstance(back, ForwardBackward)
    assert (back.model_id, back.loss, back.config, back.forward_only) == ("m", "ppo", {"temperature": 0.7}, False)
    assert np.array_equal(back.data[0].inputs["target_tokens"], np.arange(3))
    generate = Generate(adapter_id=None, prompt=np.arange(2, dtype=np.int32), stop_tokens=(), stop_strings=("x",))
    again = parse_command(decode_frame(encode_frame(command_frame(8, generate))))
    assert isinstance(again, Generate)
    assert (again.stop_tokens, again.stop_strings, again.seed) == ((), ("x",), None)
