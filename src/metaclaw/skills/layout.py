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
    for path, (owner, stamp) in stamps_of_skills(root, own).items():
        yield Path(path), owner, stamp


def starter_folders(root: Path = STARTER_FOLDER) -> Iterator[tuple[Path, str, Stamp]]:
    """The starter skills, likewise."""
    for path, (owner, stamp) in stamps_of_starters(root).items():
        yield Path(path), owner, stamp


def stamps_of_skills(root: Path, own: Own = NOWHERE_ELSE) -> dict[str, tuple[str, Stamp]]:
    """As ``skill_folders``, by path: for who looks every second, at thousands of them."""
    stamps: dict[str, tuple[str, Stamp]] = {}
    for name, path in _folders(os.fspath(root)):
        stamp = _stamp(path)
        if stamp is not None:
            stamps[path] = SHARED, stamp
        elif name == SHARED or (is_agent(name) and name not in own):
            stamps |= _skills_of(name, path)
    for owner, folder in own.items():
        stamps |= _skills_of(owner, os.fspath(folder))
    return stamps


def stamps_of_starters(root: Path) -> dict[str, tuple[str, Stamp]]:
    """As ``starter_folders``, by path."""
    return _skills_of(STARTER, os.fspath(root))


def _skills_of(owner: str, place: str) -> dict[str, tuple[str, Stamp]]:
    return {path: (owner, stamp) for _, path in _folders(place) if (stamp := _stamp(path)) is not None}


def _folders(root: str) -> list[tuple[str, str]]:
    # Texts, not paths: of those each takes as long as asking the system about it.
    try:
        with os.scandir(root) as entries:
            return sorted(
                (entry.name, entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir()
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        _log.warning("the skills folder %s cannot be read: %s", root, error.strerror)
        return []


def _stamp(folder: str) -> Stamp | None:
    try:
        status = os.stat(f"{folder}/{FILE_NAME}")  # noqa: PTH116 - as above
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
