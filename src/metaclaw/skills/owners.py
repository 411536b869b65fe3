"""The skills of an owner under another name, or gone.

Owns the folders, the history and the list of what is switched off, as far as an owner's name is in them; refuses to
know who asks. Invariant: under the lock that all writers hold, and done again it changes nothing more.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.locks import exclusive_lock
from metaclaw.skills.durable_files import replace_file
from metaclaw.skills.layout import HISTORY, LOCK_FILE, NOWHERE_ELSE, SHARED, Own, checked_owner, is_agent, skill_folders
from metaclaw.skills.retired import RETIRED_FILE
from metaclaw.skills.skill import FILE_NAME
from metaclaw.skills.writer import SkillWriter

_LOG = "log.jsonl"


def owned_by(root: Path, owner: str, own: Own = NOWHERE_ELSE) -> dict[str, Path]:
    """The folders of an owner's skills, by name."""
    return {folder.name: folder for folder, whose, _ in skill_folders(root, own) if whose == owner}


def agent_folders(root: Path) -> set[str]:
    """The agents that have a folder for skills, with a skill in it or without."""
    if not root.is_dir():
        return set()
    return {path.name for path in root.iterdir() if is_agent(path.name) and path.is_dir() and not _is_skill(path)}


def rename_owner(root: Path, old: str, new: str) -> int:
    """Make the skills of ``old`` those of ``new``, with their history; how many."""
    number = len(owned_by(root, checked_owner(old)))
    if not root.exists():
        return 0
    with exclusive_lock(root / LOCK_FILE, wait=True):
        for before, after in ((root / old, root / checked_owner(new)), (root / HISTORY / old, root / HISTORY / new)):
            if before.is_dir() and not _is_skill(before):
                before.rename(after)
        _edit_history(root, old, new)
        _edit_retired(root, old, new)
    return number


def remove_owner(root: Path, owner: str, own: Own = NOWHERE_ELSE) -> int:
    """Remove the skills of ``owner``, their history too; how many. A folder elsewhere stays, without its skills."""
    skills = owned_by(root, checked_owner(owner), own)
    number = len(skills)
    for folder in skills.values() if owner in own else ():
        shutil.rmtree(folder)
    if not root.exists():
        return 0
    with exclusive_lock(root / LOCK_FILE, wait=True):
        for folder in (root / owner, root / HISTORY / owner):
            if folder.is_dir() and not _is_skill(folder):
                shutil.rmtree(folder)
        _edit_history(root, owner, None)
        _edit_retired(root, owner, None)
    return number


def share_skill(root: Path, name: str, agent: str, own: Own = NOWHERE_ELSE) -> Path:
    """Give everybody a copy of the skill ``name`` of ``agent``; its folder. Raises ``SkillError``.

    The agent keeps its own, which stands before that of everybody.
    """
    folder = owned_by(root, agent, own).get(name)
    if folder is None:
        raise SkillError(
            f"agent {agent!r} has no skill {name!r} of its own; see `metaclaw skills list --agent {agent}`"
        )
    writer = SkillWriter(root, own=own)
    text = writer.current(agent, name)
    there = writer.current(SHARED, name)
    if text is None or there not in (None, text):
        raise SkillError(f"everybody has another skill {name!r} already; `metaclaw skills show {name}`")
    writer.write(SHARED, text, by="human", why=f"shared by {agent}", replaces=there)
    target = root / SHARED / name
    for file in sorted(folder.rglob("*")):
        beside = file.relative_to(folder)
        if file.is_file() and not file.is_symlink() and beside.as_posix() != FILE_NAME:
            replace_file(target / beside, file.read_bytes(), mode=file.stat().st_mode & 0o777)
    return target


def _is_skill(folder: Path) -> bool:
    return (folder / FILE_NAME).exists()


def _edit_history(root: Path, old: str, new: str | None) -> None:
    path = root / HISTORY / _LOG
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in (_line_of(line, old, new) for line in lines) if line is not None]
    if kept != lines:
        replace_file(path, "".join(f"{line}\n" for line in kept).encode())


def _line_of(line: str, old: str, new: str | None) -> str | None:
    try:
        version: object = json.loads(line)
    except ValueError:
        return line
    if not isinstance(version, dict) or version.get("owner") != old:  # pyright: ignore[reportUnknownMemberType]
        return line
    return None if new is None else json.dumps({**version, "owner": new}, ensure_ascii=False)


def _edit_retired(root: Path, old: str, new: str | None) -> None:
    path = root / RETIRED_FILE
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    beginning = f"{old}/"
    kept = [
        line if not line.startswith(beginning) else f"{new}/{line.removeprefix(beginning)}"
        for line in lines
        if new is not None or not line.startswith(beginning)
    ]
    if kept != lines:
        replace_file(path, "".join(f"{line}\n" for line in kept).encode())
