"""Telling the learner that a client said of a session that nothing more comes in it.

Owns what is written down for that; refuses to know what the learner makes of it. Invariants: a word is heard once, and
one that nobody hears is dropped after an hour: whoever waits for silence needs it no more by then.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.requests import RequestStore

_KIND = "session_end"
_KEPT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSession:
    """What was said in ``session`` of ``agent`` until ``at`` is all of it."""

    agent: str
    session: str
    at: float


class EndedSessions:
    """Those in one ``requests.db``. Every method opens and closes it, and may raise ``JournalError``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, ended: EndedSession) -> None:
        """Tell the learner."""
        with closing(RequestStore.open(self._path)) as store:
            store.remove(_KIND, before=ended.at - _KEPT_S)
            store.ask(_KIND, agent=ended.agent, subject=ended.session, now=ended.at)

    def heard(self) -> list[EndedSession]:
        """What was noted since it was last asked, oldest first."""
        if not self._path.exists():
            return []
        with closing(RequestStore.open(self._path)) as store:
            rows = [row for row in store.waiting() if row.kind == _KIND]
            if rows:
                store.remove(_KIND, up_to=rows[-1].id)
        return [EndedSession(agent=row.agent, session=row.subject, at=row.asked_at) for row in rows]
