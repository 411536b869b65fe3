"""What the checks see in answers, and what they do not mind."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from metaclaw.config import GateSettings
from metaclaw.learner.gate.answers import Drawn
from metaclaw.learner.gate.checks.languages import language_of
from metaclaw.learner.gate.checks.refusals import is_refusal
from metaclaw.learner.gate.limits import CHECKS, measure_limits
from metaclaw.learner.gate.pairs import AnsweredPair, Scored

ASKED = "What is the capital of France, and why do people like it so much?"
ANSWER = "The capital of France is Paris, and it is liked for its food and for what you can see there."
PROMPT = tuple(range(100, 140))
LIMITS = GateSettings()


def scored(
    text: str = ANSWER, tokens: tuple[int, ...] | None = None, *, own: float = -1.5, serving: float = -1.5,
    base: float = -1.6,
) -> Scored:  # fmt: skip
    tokens = tuple(range(30)) if tokens is None else tokens
    return Scored(
        drawn=Drawn(tokens=tokens, text=text, finish_reason="stop"),
        own=(own,) * len(tokens), serving=(serving,) * len(tokens), base=(base,) * len(tokens),
    )  # fmt: skip


def broken(candidate: Scored) -> list[str]:
    pairs = [AnsweredPair(prompt=PROMPT, asked=ASKED, served=scored(), candidate=candidate)] * 4
    measured = measure_limits(pairs, LIMITS)
    assert set(measured.numbers) == {check.name for check in CHECKS}, "a check that is not reported"
    settings = {check.setting: check.name for check in CHECKS}
    return sorted(name for said in measured.broken for setting, name in settings.items() if f"{setting})" in f"{said} "
                  or f"{setting} (" in said)  # fmt: skip


@pytest.mark.parametrize(
    ("what", "candidate", "seen"),
    [
        ("the same", scored(), []),
        ("a bit different", scored("Paris is the capital of France, and people like its food.", tuple(range(22))), []),
        ("empty", scored(" \n", (0,)), ["empty_rise", "length_ratio"]),
        ("as long as it can be", scored(tokens=tuple(range(80))), ["length_ratio"]),
        ("cut short", scored(tokens=tuple(range(10))), ["length_ratio"]),
        ("in circles", scored(tokens=(1, 2, 3, 4, 5) * 6), ["repetition_rise"]),
        ("the prompt again", scored(tokens=PROMPT[:30]), ["copying_rise"]),
        ("refusing", scored("I'm sorry, but I can't help you with what you are asking for."), ["refusal_rise"]),
        ("in German", scored("Die Hauptstadt ist Paris, und sie ist für das Essen und die Kunst sehr beliebt."),
         ["language_rise"]),
        ("far from the serving version", scored(serving=-2.2), ["kl"]),
        ("far from the base", scored(own=-1.3, serving=-1.3, base=-3.4), ["kl_base", "nll_rise"]),
        ("falling apart", scored(own=-1.9, serving=-1.9, base=-1.95), ["nll_rise"]),
        ("sure of itself", scored(own=-0.9, serving=-1.0, base=-1.2), ["entropy_fall"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_kind_of_damage_is_named_by_its_own_limit(what, candidate, seen):
    assert broken(candidate) == seen, what


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_cannot_be_measured_is_not_kept(number):
    assert {"kl", "kl_base"} <= set(broken(scored(own=number)))
    assert set(broken(replace(scored(tokens=()), drawn=Drawn(tokens=(), text=ANSWER, finish_reason="stop")))) >= {
        "kl", "kl_base", "nll_rise", "entropy_fall",
    }  # fmt: skip


def test_equal_policies_are_rarely_over_a_limit():
    """Answers of one policy against others of the same: lengths and entropies vary, nothing else does."""
    chance = Random(4)
    refused = 0
    for _ in range(60):
        pairs = []
        for _ in range(LIMITS.min_answers):

            def answer() -> Scored:
                tokens = tuple(chance.choices(range(500), k=1 + int(min(120.0, chance.expovariate(1 / 40)))))
                logprobs = tuple(-chance.expovariate(1.0) for _ in tokens)
                drawn = Drawn(tokens=tokens, text=ANSWER, finish_reason="stop")
                return Scored(drawn=drawn, own=logprobs, serving=logprobs, base=logprobs)

            pairs.append(AnsweredPair(prompt=PROMPT, asked=ASKED, served=answer(), candidate=answer()))
        refused += bool(measure_limits(pairs, LIMITS).broken)
    assert refused <= 3


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ASKED, "english"),
        ("Ich weiß nicht, was das mit der Sache zu tun hat, aber wir werden sehen.", "german"),
        ("Je ne sais pas ce que vous voulez dire, mais nous verrons dans la journée.", "french"),
        ("Не знаю, что сказать, но посмотрим.", "cyrillic"),
        ("東京は日本の首都です。とても大きな街です。", "japanese"),
        ("我不知道你在说什么,但是我们看看吧。", "han"),
        ("Paris", None),
        ("def f(x): return x + 1", None),
    ],
)  # fmt: skip
def test_the_language_of_a_text_is_told_where_it_can_be(text, language):
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "I cannot help with that.", "Es tut mir leid, aber ich kann dir dabei nicht helfen.", "Lo siento, pero no.",
        "Je ne peux pas répondre à cette question.", "Извините, я не могу помочь.", "申し訳ありませんが、できません。",
        "抱歉，我无法回答。", "죄송합니다만 도와드릴 수 없습니다.", "As an AI, I am unable to do this.",
    ],
)  # fmt: skip
def test_refusals_are_known_in_several_languages(text):
    assert is_refusal(text)
    assert not is_refusal(ANSWER + "\n" * 200 + text), "only the beginning counts"
