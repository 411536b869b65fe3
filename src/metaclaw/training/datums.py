"""Datums as the engine takes them: checked, and turned into tensors.

Owns every reason to refuse a datum; refuses to know losses' formulas and models. Invariant: an ``Example`` has one
target list a position, ids inside the vocabulary, and only finite numbers.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaclaw.errors import InvalidRequestError, RequestTooLargeError
from metaclaw.training.commands import Datum
from metaclaw.training.losses import HIGH, LOW, RATIO_MASK, LossSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the base model bears."""

    vocab_size: int
    max_context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A checked datum. ``T`` positions, ``K`` targets a position (1 where ``target_tokens`` came flat)."""

    tokens_T: Tensor
    targets_TK: Tensor
    inputs: dict[str, Tensor]  # float32 (T, K) by name
    graded_T: Tensor  # bool: positions whose loss has a gradient
    needed_T: Tensor  # bool: these, and those whose log-prob the loss reads or the caller wants
    shape: tuple[int, ...]  # of target_tokens as it came, and of the log-probs that go back

    @property
    def length(self) -> int:
        return len(self.tokens_T)


def read_examples(data: Sequence[Datum], settings: LossSettings, limits: Limits) -> list[Example]:
    """Check all of ``data`` for one loss; raises ``InvalidRequestError`` naming the datum by its index."""
    if not data:
        raise InvalidRequestError("data is empty; a forward_backward needs at least one datum", param="data")
    return [_read_example(f"data[{index}]", datum, settings, limits) for index, datum in enumerate(data)]


def _read_example(where: str, datum: Datum, settings: LossSettings, limits: Limits) -> Example:
    _check_names(where, datum, settings)
    tokens = _ids(f"{where}.model_input", datum.tokens, limits)
    if tokens.ndim != 1 or not len(tokens):
        raise _refused(f"{where}.model_input", f"must hold at least one token in one dimension, not {tokens.shape}")
    if len(tokens) > limits.max_context:
        message = f"{where}.model_input has {len(tokens)} tokens; this server takes at most {limits.max_context}"
        raise RequestTooLargeError(message, param=where)
    targets = _ids(f"{where}.target_tokens", datum.inputs["target_tokens"], limits)
    _check_target_shape(f"{where}.target_tokens", targets.shape, len(tokens), settings)
    inputs = {
        name: _numbers(f"{where}.{name}", array, targets.shape)
        for name, array in datum.inputs.items()
        if name != "target_tokens"
    }
    if settings.loss.clip is not None:
        _complete_bounds(where, inputs, settings, len(tokens))
    graded_T = settings.loss.counts(inputs).any(dim=1)
    if RATIO_MASK in inputs and graded_T.any() and not inputs[RATIO_MASK].any():
        raise _refused(f"{where}.{RATIO_MASK}", "marks no position, so the sequence has no ratio")
    return Example(
        tokens_T=tokens, targets_TK=targets.reshape(len(tokens), -1), inputs=inputs, graded_T=graded_T,
        needed_T=_needed(inputs, graded_T, settings), shape=tuple(targets.shape),
    )  # fmt: skip


def _needed(inputs: dict[str, Tensor], graded_T: Tensor, settings: LossSettings) -> Tensor:
    if settings.all_logprobs:
        return torch.ones_like(graded_T)
    return graded_T if settings.loss.reads is None else graded_T | settings.loss.reads(inputs).any(dim=1)


def _check_names(where: str, datum: Datum, settings: LossSettings) -> None:
    known = settings.loss.required + settings.loss.optional
    for name in datum.inputs:
        if name not in known:
            raise _refused(f"{where}.{name}", f"is not an input of loss {settings.name!r}; it takes {', '.join(known)}")
    for name in settings.loss.required:
        if name not in datum.inputs:
            raise _refused(f"{where}.{name}", f"is missing; loss {settings.name!r} needs it")


def _check_target_shape(where: str, shape: torch.Size, length: int, settings: LossSettings) -> None:
    if len(shape) == 1 or (len(shape) == 2 and settings.loss.many_targets and shape[1] > 0):
        if shape[0] == length:
            return
        raise _refused(where, f"has {shape[0]} positions, but the input has {length} tokens")
    wanted = "(T,) or (T, K)" if settings.loss.many_targets else "(T,)"
    raise _refused(where, f"must have the shape {wanted} for loss {settings.name!r}, not {tuple(shape)}")


def _complete_bounds(where: str, inputs: dict[str, Tensor], settings: LossSettings, length: int) -> None:
    """Give every token its ratio's bounds: the datum's own, else the configuration's."""
    low = inputs.setdefault(LOW, torch.full((length, 1), settings.low))
    high = inputs.setdefault(HIGH, torch.full((length, 1), settings.high))
    if (low < 0).any() or (low > high).any():
        raise _refused(where, f"must satisfy 0 <= {LOW} <= {HIGH} at every position")


def _ids(where: str, array: np.ndarray, limits: Limits) -> Tensor:
    if array.dtype.kind != "i":
        raise _refused(where, f"must be integers (int32 or int64), not {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= limits.vocab_size):
        worst = int(array.min()) if array.min() < 0 else int(array.max())
        raise _refused(where, f"holds the token id {worst}; the vocabulary is 0 to {limits.vocab_size - 1}")
    return torch.tensor(array, dtype=torch.int64)  # a copy: what came in a frame is read-only


def _numbers(where: str, array: np.ndarray, shape: torch.Size) -> Tensor:
    if array.dtype.kind != "f":
        raise _refused(where, f"must be float32, not {array.dtype}")
    if array.shape != tuple(shape):
        raise _refused(where, f"has the shape {array.shape}, but target_tokens has {tuple(shape)}")
    numbers = torch.tensor(array, dtype=torch.float32)
    if not torch.isfinite(numbers).all():
        bad = int((~torch.isfinite(numbers)).flatten().nonzero()[0])
        raise _refused(where, f"must be finite numbers; the value at {bad} is {float(numbers.flatten()[bad])}")
    return numbers.reshape(shape[0], -1)


def _refused(where: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"{where} {reason}", param=where)
