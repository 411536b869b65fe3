"""The teacher of the rows with ``/opd``: the base model after it read the best of its own answers.

Owns how it is made; refuses to know recipes. Invariant: it is the same for every row and seed, and never saw a
held-out question.
"""

from __future__ import annotations

from random import Random

from benchmarks.learning_lab import Ask, Lab
from demo.prompts import LEARNING
from demo.verifier import reward

TEACHER = "teacher"
_SYSTEM = "You are a helpful assistant."
_DRAWN = 8  # answers to each question, of which the best is read
_LEAST = 0.5  # what is no better is not read
_ROUNDS = 4
_TOGETHER = 8
_RATE = 3e-4


def taught(lab: Lab) -> str:
    """The teacher's name in ``lab``; made when it is first asked for."""
    if not lab.has(TEACHER):
        pairs = _best(lab)
        lab.create(TEACHER, seed=0)
        for number in range(_ROUNDS):
            Random(number).shuffle(pairs)
            for start in range(0, len(pairs), _TOGETHER):
                lab.read(TEACHER, pairs[start : start + _TOGETHER])
                lab.optim_step(TEACHER, learning_rate=_RATE, grad_clip_norm=1.0)
    return TEACHER


def _best(lab: Lab) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of each question with a good answer, the prompt and the best of those drawn."""
    pairs = list[tuple[tuple[int, ...], tuple[int, ...]]]()
    for question in LEARNING:
        prompt = lab.prompt([{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question.text}])
        asks = [Ask(prompt=prompt, seed=seed) for seed in range(_DRAWN)]
        answers = lab.draw(None, asks, temperature=0.7, max_tokens=24)
        best = max(answers, key=lambda answer: reward(question, answer.text))
        if reward(question, best.text) > _LEAST:
            pairs.append((best.prompt, best.tokens))
    return pairs
