"""Judging by a Python function of the user's.

Owns loading and calling it; refuses to know what it checks. Invariant: whatever the function does (raise, hang, return
nonsense) becomes a ``JudgeError``, never a score.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from typing import Any, cast

from metaclaw.errors import ConfigError, JudgeError
from metaclaw.learner.judges.judge import Exchange, JudgeUnavailableError, Verdict, checked_score
from metaclaw.learner.threads import call_in_thread

# Each holds a thread for ever. More than an exchange has attempts, so that one alone cannot hold up all others.
MAX_HUNG = 8

# What a script's `sys.exit` and an event loop of the function's own raise means its end, never that of the learner.
_ENDINGS = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)

VerifierFunction = Callable[[Exchange], float | None]


def load_verifier(entry_point: str) -> VerifierFunction:
    """The function that ``package.module:function`` names; raises ``ConfigError``."""
    module_name, _, attribute = entry_point.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"rl.judge.verifier {entry_point!r} is not 'package.module:function'")
    try:
        function: Any = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # a module of the user's, which is run to be loaded
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(f"rl.judge.verifier {entry_point!r} cannot be loaded: {said}") from error
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
        self._hung: list[threading.Event] = []  # calls that were given up and have not returned

    async def judge(self, exchange: Exchange) -> Verdict:
        self._hung = [call for call in self._hung if not call.is_set()]
        if len(self._hung) >= MAX_HUNG:
            raise JudgeUnavailableError(
                f"{len(self._hung)} calls of {self.name} hang; it is not called again before one of them returns"
            )
        returned = threading.Event()
        try:
            score = await call_in_thread(lambda: self._call(exchange, returned), timeout_s=self._timeout_s)
        except OSError as error:  # the built-in TimeoutError is one too
            if not returned.is_set():
                self._hung.append(returned)
                raise JudgeError(f"{self.name} took longer than {self._timeout_s:g} s") from error
            raise JudgeUnavailableError(f"{self.name} could not reach what it needs: {error!r}") from error
        except Exception as error:  # a job: this is the user's code
            raise JudgeError(f"{self.name} raised {type(error).__name__}: {error}") from error
        return Verdict(score=None if score is None else checked_score(self.name, score))

    def _call(self, exchange: Exchange, returned: threading.Event) -> float | None:
        try:
            return self._function(exchange)
        except _ENDINGS as error:
            raise JudgeError(f"{self.name} raised {type(error).__name__}: it may not end who calls it") from error
        finally:
            returned.set()
