"""The preference that the demonstration's user has: begin with one short sentence.

Owns the reward; refuses to know models and processes. Invariant: the reward cannot be won by saying nothing: an
answer whose first sentence is unfinished, shorter than four words, a question, or an echo of what was asked earns 0,
and so does one that is repetitive or beside the question.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Protocol

from demo.prompts import HELD_OUT, LEARNING, Prompt

MIN_WORDS = 4
MIN_NEW_WORDS = 3  # that the question did not have
LONG_WORDS = 20  # a first sentence of so many words earns nothing
WORD_RANGE = 12

_PROMPTS = {prompt.text: prompt for prompt in LEARNING + HELD_OUT}
_SENTENCE = re.compile(r"[^\n]*?[.!?](?=[\s\"')\]]|$)")
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|etc)|\d)\.$")


class Exchange(Protocol):
    """What of an exchange the verifier looks at."""

    @property
    def prompt(self) -> str: ...
    @property
    def answer(self) -> str: ...


def judge(exchange: Exchange) -> float | None:
    """The reward in [0, 1] of one exchange; ``None`` for a question that is not one of the demonstration's."""
    prompt = _PROMPTS.get(exchange.prompt.strip())
    return None if prompt is None else reward(prompt, exchange.answer)


def reward(prompt: Prompt, answer: str) -> float:
    """1 for a first sentence of at most eight words, falling to 0 at twenty; 0 for what is no real answer."""
    sentence = first_sentence(answer)
    words = sentence.split()
    if len(words) < MIN_WORDS or sentence.endswith("?") or is_echo(prompt, sentence):
        return 0.0
    if is_repetitive(answer) or not is_on_topic(prompt, sentence):  # a stock opener is no answer
        return 0.0
    return min(1.0, max(0.0, (LONG_WORDS - len(words)) / WORD_RANGE))


def first_sentence(answer: str) -> str:
    """The first finished sentence, or ``''`` when the answer ends or breaks the line before one is finished."""
    text = answer.strip()
    end = 0
    while match := _SENTENCE.match(text, end):
        end = match.end()
        if not _ABBREVIATION.search(text[:end]):
            return text[:end]
    return ""


def is_echo(prompt: Prompt, sentence: str) -> bool:
    """Whether the sentence says next to nothing that the question did not say."""
    return len(set(_words(sentence)) - set(_words(prompt.text))) < MIN_NEW_WORDS


def is_repetitive(answer: str) -> bool:
    """Whether fewer than 60 % of the words differ, or one follows itself."""
    words = _words(answer)
    doubled = any(first == second for first, second in pairwise(words))
    return doubled or (len(words) >= MIN_WORDS and len(set(words)) < 0.6 * len(words))


def is_on_topic(prompt: Prompt, answer: str) -> bool:
    """Whether the answer mentions one of the words that an answer to this question needs."""
    return any(word.startswith(stem) for word in _words(answer) for stem in prompt.stems)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
