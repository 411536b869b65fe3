"""What the engine is measured on: datums whose tokens are random, but shaped like an agent's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metaclaw.training.commands import Datum

Data = tuple[Datum, ...]


def unrelated(vocab_size: int, *, number: int, longest_prompt: int = 1500) -> Data:
    """(a) Prompts of 200 tokens and more with answers of 20-200, spread evenly, in no order."""
    rng = np.random.default_rng(1)
    prompts = rng.permutation(np.linspace(200, longest_prompt, number).astype(int))
    answers = rng.permutation(np.linspace(20, 200, number).astype(int))
    return tuple(_datum(rng.integers(0, vocab_size, p + a), a) for p, a in zip(prompts, answers, strict=True))


def sessions(vocab_size: int, *, number: int, turns: int = 8) -> Data:
    """(b) Each turn sends the whole history again: 150 tokens more of the user and tools, then 40 of the answer."""
    rng = np.random.default_rng(2)
    data: list[Datum] = []
    for _ in range(number):
        history = rng.integers(0, vocab_size, turns * 190)
        data += [_datum(history[: 190 * turn], 40) for turn in range(1, turns + 1)]
    return tuple(data)


def answers(vocab_size: int, *, number: int, prompt: int = 600, answer: int = 80) -> Data:
    """(b2) Eight answers to each prompt."""
    rng = np.random.default_rng(3)
    data: list[Datum] = []
    for _ in range(number):
        asked = rng.integers(0, vocab_size, prompt)
        data += [_datum(np.concatenate([asked, rng.integers(0, vocab_size, answer)]), answer) for _ in range(8)]
    return tuple(data)


def single(vocab_size: int, *, length: int = 1500, answer: int = 150) -> Data:
    return (_datum(np.random.default_rng(4).integers(0, vocab_size, length), answer),)


def num_tokens(data: Sequence[Datum]) -> int:
    """As the client sent them."""
    return sum(len(datum.tokens) for datum in data)


def _datum(tokens: np.ndarray, answer: int) -> Datum:
    weights = np.zeros(len(tokens) - 1, np.float32)
    weights[-answer:] = 1 / answer
    return Datum(
        tokens=tokens[:-1].astype(np.int32),
        inputs={"target_tokens": tokens[1:].astype(np.int64), "weights": weights},
    )
