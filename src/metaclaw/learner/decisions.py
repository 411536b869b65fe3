"""What a person decides about an agent's policy.

Owns carrying it out on the journal; refuses to know how it was asked for. Invariant: what serves changes only to what
was committed and still has its weights, and each change is recorded as a person's.
"""

from __future__ import annotations

from contextlib import suppress

from metaclaw.errors import ConflictError, InvalidRequestError, NotFoundError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.learner.versions import roll_back

KINDS = ("policy_promote", "policy_rollback", "policy_pin", "policy_unpin")


class PolicyDecisions:
    """Carries decisions out, in the one process that may write ``learning.db``."""

    def __init__(self, journal: LearningJournal, holds: PolicyHolds) -> None:
        self._journal = journal
        self._holds = holds

    def carry_out(self, kind: str, agent: str, subject: str) -> str:
        """Do it; return what was done, in a sentence. Raises a ``MetaClawError`` that says why not."""
        if kind == "policy_promote":
            return self._promote(agent, _number(subject))
        if kind == "policy_rollback" and not subject and (canary := self._journal.canary(agent)):
            self._journal.end_canary(
                canary, f"version {canary.version} is withdrawn: asked for by the user", serves=False
            )
            return f"{agent}: version {canary.version} is tried no more; {_called(self._journal.serving(agent))} serves"
        if kind == "policy_rollback":
            version = roll_back(self._journal, agent, _number(subject) if subject else None)
            return f"{agent}: {_called(version)} serves new sessions"
        if kind == "policy_pin":
            return self._pin(agent, subject or "asked for by the user")
        if kind == "policy_unpin":
            if not (self._holds.release(agent, "pin") | self._holds.release(agent, "cooldown")):
                raise NotFoundError(f"{agent} is not pinned")
            return f"{agent} may be updated again"
        raise InvalidRequestError(f"this release cannot {kind!r}")

    def _pin(self, agent: str, why: str) -> str:
        # The hold comes first: no update that runs can commit from then on, so a canary that is ended is the last one.
        self._holds.hold(agent, "pin", why)
        ended = ""
        if canary := self._journal.canary(agent):
            with suppress(ConflictError):  # it came to serve, or was withdrawn, in this moment
                self._journal.end_canary(canary, f"version {canary.version} is withdrawn: pinned, {why}", serves=False)
                ended = f"version {canary.version} is tried no more, and "
        serving = _called(self._journal.serving(agent))
        return f"{agent} stays with {serving}: {ended}it is not updated before `metaclaw policy unpin`"

    def _promote(self, agent: str, number: int) -> str:
        serving = self._journal.serving(agent)
        if number == serving:
            raise ConflictError(f"{_called(number)} of {agent} serves already")
        self._journal.serve(agent, number, f"promoted from {serving}: asked for by the user")
        return f"{agent}: {_called(number)} serves new sessions, whatever the gate thought of it"


def _number(subject: str) -> int:
    try:
        return int(subject)
    except ValueError as error:
        raise InvalidRequestError(f"{subject!r} is not the number of a version") from error


def _called(number: int) -> str:
    return "the base model" if number == BASE_VERSION else f"version {number}"
