"""Whether a round was answered well.

Owns how an answer is graded; refuses to know who asks. Invariants: a score is from 0 to 1 (the reference system's could
be negative); a checker that could not say gives no score, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from metaclaw.bench.days import ChoiceEval, FileEval
from metaclaw.processes.sandbox import Outcome

_BOXED = re.compile(r"\\(?:bbox|boxed)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+")  # \text, \mathrm
_WORD = re.compile(r"[A-Z0-9]+")
_NOT_RUN = (126, 127)  # what a shell says of a command that is not there, or not a program
_MAX_SHOWN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """``score`` is from 0 to 1, ``None`` where nobody can say; ``said`` is what the check printed, or why it could not.

    ``chosen`` are the options that the answer named, ``None`` where it named none in the form that was asked for.
    """

    score: float | None
    said: str = ""
    chosen: frozenset[str] | None = None

    @property
    def is_right(self) -> bool:
        return self.score == 1.0


def chosen_options(answer: str, options: Collection[str]) -> frozenset[str] | None:
    r"""The options in the last ``\bbox{A,C}`` (or ``\boxed``) of ``answer``; ``None`` where there is none.

    The last one, since a model that thinks aloud corrects itself. ``ACD`` is three options; what is neither an option
    nor made of them, as in "A and C", is passed over.
    """
    boxes = _BOXED.findall(answer)
    if not boxes:
        return None
    chosen = set[str]()
    for word in _WORD.findall(_COMMAND.sub(" ", boxes[-1]).upper()):
        if word in options:
            chosen.add(word)
        elif all(letter in options for letter in word):
            chosen.update(word)
    return frozenset(chosen) or None


def graded_choice(answer: str, asked: ChoiceEval) -> Grade:
    """One minus the share of options that were wrongly chosen or wrongly left out."""
    chosen = chosen_options(answer, asked.options)
    return Grade(score=choice_score(chosen, asked), chosen=chosen)


def choice_score(chosen: frozenset[str] | None, asked: ChoiceEval) -> float:
    """The score of a choice, whoever makes it; 0 for none."""
    if chosen is None:
        return 0.0
    return max(0.0, 1.0 - len(chosen ^ asked.answer) / len(asked.options))


def graded_check(outcome: Outcome, asked: FileEval) -> Grade:
    """Done or not, by the status and what was printed."""
    printed = outcome.stdout.decode("utf-8", "replace")
    said = (printed.strip() or outcome.stderr.decode("utf-8", "replace").strip())[-_MAX_SHOWN:]
    if outcome.ending != "exit":
        return Grade(score=None, said=f"the check took too much {outcome.ending}")
    if outcome.status in _NOT_RUN and outcome.status != asked.expect_exit:
        return Grade(score=None, said=f"the check could not be run: {said}")
    is_done = outcome.status == asked.expect_exit and _is_printed(printed, asked)
    return Grade(score=1.0 if is_done else 0.0, said=said)


def _is_printed(printed: str, asked: FileEval) -> bool:
    if asked.expect_stdout is None:
        return True
    if asked.expect_stdout_regex:
        return re.search(asked.expect_stdout, printed) is not None
    return asked.expect_stdout in printed
