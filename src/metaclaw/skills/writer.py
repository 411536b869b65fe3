"""Writing skills.

Owns how a ``SKILL.md`` comes into the skills folder and goes out of it; refuses to know whether it helps. Invariant:
a text is checked before it is written and kept in the history before it is served; a file is replaced whole; one
process writes at a time; and an owner or a name, whoever made it up, never leads out of the folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.locks import exclusive_lock
from metaclaw.skills.durable_files import replace_file
from metaclaw.skills.history import Author, Change, SkillHistory, Version, digest
from metaclaw.skills.layout import LOCK_FILE, NOWHERE_ELSE, Own, checked_name, skill_folder
from metaclaw.skills.skill import FILE_NAME, decode, parse_text, read_text

ANYTHING = "*"  # of ``replaces``


class SkillWriter:
    """Writes below one skills folder, or for some agents into ``own`` ones, with a history of every version."""

    def __init__(self, root: Path, *, own: Own = NOWHERE_ELSE, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._own = own
        self._clock = clock
        self.history = SkillHistory(root)

    def folder(self, owner: str, name: str) -> Path:
        """Where a skill lies, or would. Raises ``SkillError`` for what is no owner or no name."""
        return skill_folder(self._root, owner, name, self._own)

    def current(self, owner: str, name: str) -> str | None:
        """The text of a skill as it lies there; ``None`` when there is none."""
        path = self.folder(owner, name) / FILE_NAME
        return read_text(path) if path.exists() else None

    def write(
        self, owner: str, text: str, *, by: Author, why: str = "", replaces: str | None = ANYTHING
    ) -> Version | None:
        """Put ``text`` where the skill that it spells belongs; ``None`` when that lies there already.

        ``replaces`` is the text that it was made from, or ``None`` for a new skill: when something else lies there
        by now, nothing is written. Raises ``SkillError`` for that, and for a text that is no skill; a model's is held
        to the letter of the standard.
        """
        name = _checked_text(text, f"{owner}/{FILE_NAME}", strict=by == "model")
        folder = self.folder(owner, name)
        with exclusive_lock(self._root / LOCK_FILE, wait=True):
            there = self.current(owner, name)
            if replaces != ANYTHING and there != replaces:
                raise SkillError(_why_not(owner, name, there))
            if there == text:
                return None
            return self._put(folder, text, self._change(owner, name, by, why), there)

    def rollback(self, owner: str, name: str, *, to: int | None = None, by: Author = "human", why: str = "") -> Version:
        """Bring back version ``to``, or the one before that which lies there; that is a new version of its own."""
        with exclusive_lock(self._root / LOCK_FILE, wait=True):
            there = self.current(owner, name)
            past = [one for one in self.history.log(owner, checked_name(name)) if one.action != "remove"]
            target = _earlier(past, there, owner, name) if to is None else _numbered(past, to, owner, name)
            text = self.history.text(target)
            parse_text(text, f"{owner}/{name}/{FILE_NAME}")
            change = self._change(owner, name, by, why, restores=target.content_number)
            return self._put(self.folder(owner, name), text, change, there)

    def remove(self, owner: str, name: str, *, by: Author, why: str = "") -> Version:
        """Take a skill out. Its other files stay, and so does its history: a rollback brings it back."""
        folder = self.folder(owner, name)
        with exclusive_lock(self._root / LOCK_FILE, wait=True):
            there = self.current(owner, name)
            if there is None:
                raise SkillError(f"{owner} has no skill {name!r}")
            self._keep_found(owner, name, there)
            change = Change(owner=owner, name=name, action="remove", by=by, at=self._clock(), why=why)
            version = self.history.add(change, there)
            (folder / FILE_NAME).unlink()
            return version

    def _put(self, folder: Path, text: str, change: Change, there: str | None) -> Version:
        place = self._own.get(change.owner, self._root)
        if change.by == "model" and not folder.resolve().is_relative_to(place.resolve()):
            raise SkillError(f"{folder} leads out of the skills folder; a model does not write there")
        if there is not None:
            self._keep_found(change.owner, change.name, there)
        version = self.history.add(change, text)
        for cut_off in folder.glob(f".{FILE_NAME}.*"):  # by a kill; the lock is ours, so nobody writes there now
            cut_off.unlink()
        replace_file(folder / FILE_NAME, text.encode())
        return version

    def _keep_found(self, owner: str, name: str, text: str) -> None:
        # What a person wrote with an editor is in no version yet, and would be lost.
        if digest(text) not in {one.sha256 for one in self.history.log(owner, name)}:
            change = Change(
                owner=owner, name=name, action="found", by="human", at=self._clock(), why="was edited by hand"
            )
            self.history.add(change, text)

    def _change(self, owner: str, name: str, by: Author, why: str, *, restores: int | None = None) -> Change:
        action = "write" if restores is None else "rollback"
        return Change(owner=owner, name=name, action=action, by=by, at=self._clock(), why=why, restores=restores)


def _checked_text(text: str, where: str, *, strict: bool) -> str:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise SkillError(f"{where}: half a character at {error.start}, which no file can hold") from error
    return parse_text(decode(raw, where), where, strict=strict).name


def _earlier(past: list[Version], there: str | None, owner: str, name: str) -> Version:
    if there is None:
        earlier = past
    else:
        same = [one for one in past if one.sha256 == digest(there)]
        number = same[-1].content_number if same else max((one.number for one in past), default=0) + 1
        earlier = [one for one in past if one.content_number == one.number < number]
    if not earlier:
        raise SkillError(f"{owner}/{name} has no earlier version; see `metaclaw skills log {name}`")
    return earlier[-1]


def _numbered(past: list[Version], number: int, owner: str, name: str) -> Version:
    for version in past:
        if version.number == number:
            return version
    raise SkillError(f"{owner}/{name} has no version {number}; see `metaclaw skills log {name}`")


def _why_not(owner: str, name: str, there: str | None) -> str:
    if there is None:
        return f"{owner}/{name} was removed meanwhile; nothing was written"
    return f"{owner}/{name} is there already, and not as it was read; nothing was written"
