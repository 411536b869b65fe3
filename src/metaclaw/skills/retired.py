"""Skills that are switched off: the file ``.retired`` of the skills folder.

Owns its lines, ``agent/name`` or ``*/name`` for everybody; refuses to know why. Invariant: a name that is listed is
served from no layer, so that a retired skill does not come back as the one below it; a line that cannot be read
switches nothing off and is said.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.locks import exclusive_lock
from metaclaw.skills.durable_files import replace_file
from metaclaw.skills.layout import LOCK_FILE, checked_name, is_agent
from metaclaw.skills.skill import is_skill_name

RETIRED_FILE = ".retired"
EVERYBODY = "*"
_HEAD = "# Skills that are not served: agent/name, or */name for everybody. A change counts at once."

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """Pairs of an agent, or everybody, and a skill's name."""

    pairs: frozenset[tuple[str, str]] = frozenset()

    def covers(self, agent: str, name: str) -> bool:
        """Whether ``agent`` is not served the skill of this name."""
        return (agent, name) in self.pairs or (EVERYBODY, name) in self.pairs


def read_retired_text(root: Path) -> str:
    """The file as it is; empty when there is none."""
    try:
        return (root / RETIRED_FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SkillError(f"{root / RETIRED_FILE}: cannot be read: {error.strerror}") from error


def parse_retired(text: str, root: Path) -> Retired:
    """What the lines of the file say."""
    pairs: set[tuple[str, str]] = set()
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.split("#")[0].strip()
        if not entry:
            continue
        agent, _, name = entry.partition("/")
        if (agent == EVERYBODY or is_agent(agent)) and is_skill_name(name):
            pairs.add((agent, name))
        else:
            _log.warning("%s:%d: %r is not agent/name or */name", root / RETIRED_FILE, number, entry[:80])
    return Retired(pairs=frozenset(pairs))


def set_retired(root: Path, agent: str, name: str, *, retired: bool) -> bool:
    """Switch a skill off or on for ``agent`` (``*``: for everybody); returns whether that changed anything."""
    if agent != EVERYBODY and not is_agent(agent):
        raise SkillError(f"{agent[:80]!r} is no agent; use {EVERYBODY!r} for everybody")
    entry = f"{agent}/{checked_name(name)}"
    with exclusive_lock(root / LOCK_FILE, wait=True):
        text = read_retired_text(root)
        lines = text.splitlines() or [_HEAD]
        kept = [line for line in lines if line.split("#")[0].strip() != entry]
        changed = (len(kept) == len(lines)) if retired else (len(kept) < len(lines))
        if changed:
            after = [*lines, entry] if retired else kept
            replace_file(root / RETIRED_FILE, ("\n".join(after) + "\n").encode())
    return changed
