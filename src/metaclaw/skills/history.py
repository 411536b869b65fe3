"""Every version that a skill ever had: ``.history`` of the skills folder.

Owns the log and the kept texts; refuses to know when a version is made (``writer``). Invariant: a text is on the
disk before the log names it, nothing is ever changed or taken out, and a line that a crash cut off is passed over.

``.history/<owner>/<name>/0001.md`` is a version, ``.history/log.jsonl`` says who made each, when and why.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from metaclaw.errors import SkillError
from metaclaw.skills.durable_files import append_line, replace_file
from metaclaw.skills.layout import HISTORY

Author = Literal["human", "model", "import"]
Action = Literal["write", "found", "rollback", "remove"]
_LOG = "log.jsonl"


class Version(BaseModel):
    """A line of the log. ``found`` is a text that somebody wrote with an editor, noticed before it was replaced.

    ``restores`` is the earlier version that a rollback brought back; ``sha256`` is that of the text.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    owner: str
    name: str
    number: int
    action: Action
    by: Author
    at: datetime
    why: str = ""
    restores: int | None = None
    sha256: str = ""

    @property
    def content_number(self) -> int:
        """The number of the version that had this text first."""
        return self.restores or self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a new version is, before it has a number."""

    owner: str
    name: str
    action: Action
    by: Author
    at: float
    why: str = ""
    restores: int | None = None


class SkillHistory:
    """Reads and extends the history of one skills folder. Whoever extends it holds the folder's lock."""

    def __init__(self, root: Path) -> None:
        self._folder = root / HISTORY

    def log(self, owner: str | None = None, name: str | None = None) -> list[Version]:
        """What happened, oldest first; to one owner's skills, or to one skill."""
        try:
            lines = (self._folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SkillError(f"{self._folder / _LOG}: cannot be read: {error.strerror}") from error
        versions = [version for line in lines if (version := _parsed(line)) is not None]
        return [one for one in versions if owner in (None, one.owner) and name in (None, one.name)]

    def text(self, version: Version) -> str:
        """The text of a version. Raises ``SkillError`` when it is gone or not what the log names."""
        path = self._path(version.owner, version.name, version.number)
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise SkillError(f"{path}: cannot be read: {error.strerror}") from error
        if digest(text) != version.sha256:
            raise SkillError(f"{path}: its content is not that of version {version.number}; somebody changed it")
        return text

    def add(self, change: Change, text: str) -> Version:
        """Keep ``text`` as the next version."""
        number = self._last_number(change.owner, change.name) + 1
        replace_file(self._path(change.owner, change.name, number), text.encode())
        version = Version(
            owner=change.owner,
            name=change.name,
            number=number,
            action=change.action,
            by=change.by,
            at=datetime.fromtimestamp(change.at, UTC),
            why=change.why,
            restores=change.restores,
            sha256=digest(text),
        )
        append_line(self._folder / _LOG, version.model_dump_json(exclude_none=True))
        return version

    def _last_number(self, owner: str, name: str) -> int:
        # From the files, not from the log: a crash may have kept a text that the log does not name.
        kept = self._path(owner, name, 1).parent.glob("*.md")
        return max((int(path.stem) for path in kept if path.stem.isdecimal()), default=0)

    def _path(self, owner: str, name: str, number: int) -> Path:
        return self._folder / owner / name / f"{number:04}.md"


def digest(text: str) -> str:
    """What tells one text from another."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _parsed(line: str) -> Version | None:
    try:
        return Version.model_validate_json(line)
    except ValidationError:
        return None
