"""Keys and values of sequences, each in memory of its own.

Owns the storage of one sequence and the copying of its beginning; refuses to know requests, batches and models.
Invariant: ``tokens`` are exactly those whose keys and values lie at places 0..length-1 of every layer; what lies
beyond was never committed, and never reaches a result.

A row's memory is reserved when it begins and never moved: on a CPU the system hands out pages on first touch, so
room that is not used costs nothing, where one rectangle for all rows copied everything whenever it grew.

Shapes: C capacity, N places, H key/value heads, D head size.
"""

# pyright: basic

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

_SLACK = 512  # places beyond what was asked for: the next turn of a conversation then goes on in the same memory
STRIDE = 256  # places; on a GPU what is reserved is a multiple, so that steps can be recorded (fixed_attention)

_numbers = count(1)


class KvRow:
    """One sequence. Layers appear with their first ``write``."""

    __slots__ = ("__weakref__", "capacity", "keys", "number", "tokens", "values")

    def __init__(self, capacity: int) -> None:
        self.number = next(_numbers)  # no other row's, also after this one is gone
        self.capacity = capacity
        self.tokens = array("i")
        self.keys: list[Tensor] = []  # per layer (C, H, D)
        self.values: list[Tensor] = []

    @property
    def length(self) -> int:
        return len(self.tokens)

    def write(self, layer: int, keys_NHD: Tensor, values_NHD: Tensor) -> None:
        """Put keys and values behind what is committed; ``commit`` keeps them."""
        if layer == len(self.keys):
            # A recorded step also multiplies by what was never written; on a CPU zeros would take the memory at once.
            make = keys_NHD.new_empty if keys_NHD.device.type == "cpu" else keys_NHD.new_zeros
            keys = make((self.capacity, *keys_NHD.shape[1:]))
            values = make((self.capacity, *values_NHD.shape[1:]))
            self.keys.append(keys)  # both or, when there is no memory, neither
            self.values.append(values)
        start, count = self.length, keys_NHD.shape[0]
        self.keys[layer].narrow(0, start, count).copy_(keys_NHD)
        self.values[layer].narrow(0, start, count).copy_(values_NHD)

    def commit(self, tokens: Sequence[int]) -> None:
        """All layers hold ``tokens`` behind what was committed before."""
        self.tokens.extend(tokens)

    def truncate(self, length: int) -> None:
        """Forget what is beyond ``length``."""
        del self.tokens[length:]

    def copy_beginning(self, source: KvRow, length: int) -> None:
        """Make this empty row hold the first ``length`` tokens of ``source``."""
        for layer, (keys, values) in enumerate(zip(source.keys, source.values, strict=True)):
            self.write(layer, keys[:length], values[:length])
        self.commit(source.tokens[:length])

    def common_length(self, prompt: np.ndarray) -> int:
        """How many tokens this row and ``prompt`` (int32) have in common from the start."""
        count = min(len(self.tokens), len(prompt))
        if not count or self.tokens[0] != prompt[0]:
            return 0
        differs = np.frombuffer(self.tokens, dtype=np.int32, count=count) != prompt[:count]
        first = int(differs.argmax())
        return first if differs[first] else count


def capacity_for(final_length: int, max_context: int, device: torch.device) -> int:
    """How much to reserve for a sequence that may get ``final_length`` tokens."""
    if device.type != "cpu":
        return -(-final_length // STRIDE) * STRIDE  # there, reserved memory is taken memory
    return min(max_context, 2 * final_length + _SLACK)
