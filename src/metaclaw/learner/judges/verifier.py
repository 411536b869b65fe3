"""Judging by a Python function of the user's.

Owns loading and calling it; refuses to know what it checks. Invariant: whatever the function does (raise, hang, return
nonsense) becomes a ``JudgeError``, never a score.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

from metaclaw.errors import ConfigError, JudgeError
from metaclaw.learner.judges.judge import Exchange, Verdict, checked_score
from metaclaw.learner.threads import call_in_thread

VerifierFunction = Callable[[Exchange], float | None]


def load_verifier(entry_point: str) -> VerifierFunction:
    """The function that ``package.module:function`` names; raises ``ConfigError``."""
    module_name, _, attribute = entry_point.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"rl.judge.verifier {entry_point!r} is not 'package.module:function'")
    try:
        function: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"rl.judge.verifier {entry_point!r} cannot be loaded: {error}") from error
    if not callable(function):
        raise ConfigError(f"rl.judge.verifier {entry_point!r} is not a function")
    return cast("VerifierFunction", function)


class Verifier:
    """A deterministic judge: it looks at the exchange alone and so needs no follow-up."""

    needs_followup = False

    def __init__(self, function: VerifierFunction, *, name: str, timeout_s: float) -> None:
        self._function = function
        self.name = name
        self._timeout_s = timeout_s

    async def judge(self, exchange: Exchange) -> Verdict:
        try:
            score = await call_in_thread(lambda: self._function(exchange), timeout_s=self._timeout_s)
        except TimeoutError as error:
            raise JudgeError(f"{self.name} took longer than {self._timeout_s:g} s") from error
        except Exception as error:  # a job: this is the user's code
            raise JudgeError(f"{self.name} raised {type(error).__name__}: {error}") from error
        return Verdict(score=None if score is None else checked_score(self.name, score))
