"""Who teaches: with ``/opd`` the base model after it read the best of its own answers, with ``/self`` the policy
itself, told what the user says next.

Owns how these are made and what the user says; refuses to know recipes. Invariant: the teacher of ``/opd`` is the same
for every row and seed, and no teacher ever saw a held-out question.
"""

from __future__ import annotations

from random import Random

from benchmarks.learning_lab import Ask, Lab
from demo.prompts import LEARNING, Prompt
from demo.verifier import reward
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import attach
from metaclaw.learner.distillation.hindsight import HINT

TEACHER = "teacher"
SYSTEM = "You are a helpful assistant."
_CONTENT = 0.5  # an answer that earns less makes the user say so
_SAYS = "That is not what I like: begin with one short sentence about what I asked."
_DRAWN = 8  # answers to each question, of which the best is read
_LEAST = 0.5  # what is no better is not read
_ROUNDS = 4
_TOGETHER = 8
_RATE = 3e-4


def hinted(question: Prompt, earned: float) -> list[JsonObject] | None:
    """What was asked, with what the user says next; ``None`` where the answer was good and nothing is said."""
    if earned >= _CONTENT:
        return None
    asked: list[JsonObject] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question.text}]
    return [asked[0], attach(asked[1], HINT.format(followup=_SAYS))]


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
        prompt = lab.prompt([{"role": "system", "content": SYSTEM}, {"role": "user", "content": question.text}])
        asks = [Ask(prompt=prompt, seed=seed) for seed in range(_DRAWN)]
        answers = lab.draw(None, asks, temperature=0.7, max_tokens=24)
        best = max(answers, key=lambda answer: reward(question, answer.text))
        if reward(question, best.text) > _LEAST:
            pairs.append((best.prompt, best.tokens))
    return pairs
