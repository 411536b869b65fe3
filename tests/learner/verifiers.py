"""Verifiers as a user would write them."""

from __future__ import annotations

import re
import time

from metaclaw.learner.judges.judge import Exchange

NOT_A_FUNCTION = 3


def share_of_lower_case(exchange: Exchange) -> float:
    letters = sum(character.isascii() and character.islower() for character in exchange.answer)
    return letters / max(1, len(exchange.answer))


def raises(exchange: Exchange) -> float:
    raise ZeroDivisionError("of the verifier's own")


def stops_iterating(exchange: Exchange) -> float:
    raise StopIteration


def hangs(exchange: Exchange) -> float:
    time.sleep(60)
    return 1.0


def answers_what_the_prompt_says(exchange: Exchange) -> object:
    return {"none": None, "nan": float("nan"), "two": 2, "text": "1", "true": True, "half": 0.5}[exchange.prompt]


def is_right(exchange: Exchange) -> float:
    return 1.0 if exchange.answer == "right" else -1.0


_UNITS = """ambers birches cedars dunes embers fjords groves herons
    islets junipers kelps larches mosses nettles otters"""
FACTORS = {unit: 3 + number for number, unit in enumerate(_UNITS.split())}
UNIT = re.compile(r"(\d+) (\w+)\?")


def converts_rightly(exchange: Exchange) -> float:
    number, unit = UNIT.findall(exchange.prompt)[0]
    return 1.0 if exchange.answer == str(int(number) * FACTORS[unit]) else -1.0
