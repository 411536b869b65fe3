"""Where skills lie.

Owns the folders of the layers and whose they are; refuses to read them. Invariant: an owner and a name that passed
here are one path segment each, whoever made them up.

``<skills>/<agent>/<name>/`` is an agent's own, unless it has a folder elsewhere (``own``, by agent), which then is the
only one that is looked into for it; ``<skills>/_shared/<name>/`` and ``<skills>/<name>/`` are everybody's;
the starter skills lie in the package and are never copied. What begins with a dot is no skill.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from metaclaw.errors import InvalidRequestError, SkillError
from metaclaw.identity import agent_id
from metaclaw.skills.skill import FILE_NAME, is_skill_name

SHARED = "_shared"
STARTER = "_starter"
HISTORY = ".history"
LOCK_FILE = f"{HISTORY}/.lock"  # whoever writes below the folder holds it
STARTER_FOLDER = Path(__file__).parent / "starter"

_log = logging.getLogger(__name__)
Stamp = tuple[int, int]  # time of change in ns, size
Own = Mapping[str, Path]
NOWHERE_ELSE: Own = {}


def checked_owner(owner: str) -> str:
    """``owner`` when it is ``_shared`` or an agent. Raises ``SkillError``."""
    if owner == SHARED or is_agent(owner):
        return owner
    raise SkillError(f"{owner[:80]!r} owns no skills: name an agent (a-z, 0-9, '.', '_', '-'), or {SHARED!r} for all")


def checked_name(name: str) -> str:
    """``name`` when a skill may have it. Raises ``SkillError``."""
    if is_skill_name(name):
        return name
    raise SkillError(f"name {name[:80]!r} must be 1-64 of a-z, 0-9 and single hyphens")


def is_agent(name: str) -> bool:
    """Whether ``name`` is an agent's, spelled as we spell it."""
    try:
        return agent_id(name) == name
    except InvalidRequestError:
        return False


def skill_folder(root: Path, owner: str, name: str, own: Own = NOWHERE_ELSE) -> Path:
    """The folder of a skill, there or not yet. Raises ``SkillError`` for what is no owner or no name."""
    if checked_owner(owner) in own:
        return own[owner] / checked_name(name)
    place = root / owner
    if owner != SHARED and (place / FILE_NAME).exists():
        raise SkillError(f"{place} is a skill for everybody, so the agent {owner!r} can have no skills there; move it")
    folder, flat = place / checked_name(name), root / name
    if owner == SHARED and not (folder / FILE_NAME).exists() and (flat / FILE_NAME).exists():
        return flat
    return folder


def skill_folders(root: Path, own: Own = NOWHERE_ELSE) -> Iterator[tuple[Path, str, Stamp]]:
    """Every folder below ``root``, or an agent's own place, with a ``SKILL.md``; its owner, and when it changed."""
    for folder in _folders(root):
        stamp = _stamp(folder)
        if stamp is not None:
            yield folder, SHARED, stamp
        elif folder.name == SHARED or (is_agent(folder.name) and folder.name not in own):
            yield from _skills_of(folder.name, folder)
    for owner, folder in own.items():
        yield from _skills_of(owner, folder)


def starter_folders(root: Path = STARTER_FOLDER) -> Iterator[tuple[Path, str, Stamp]]:
    """The starter skills, likewise."""
    yield from _skills_of(STARTER, root)


def _skills_of(owner: str, place: Path) -> Iterator[tuple[Path, str, Stamp]]:
    for folder in _folders(place):
        stamp = _stamp(folder)
        if stamp is not None:
            yield folder, owner, stamp


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        _log.warning("the skills folder %s cannot be read: %s", root, error.strerror)
        return []
    return [root / name for name in names]


def _stamp(folder: Path) -> Stamp | None:
    try:
        status = (folder / FILE_NAME).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
