"""Skills for other programs: a folder that any of them reads.

Owns what a portable skill looks like and which files in the target are ours; refuses to know where a program keeps
its skills. Invariant: a file that we did not put there, or that was changed since, is never overwritten or removed
unless that was asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from metaclaw.errors import SkillError
from metaclaw.skills.durable_files import replace_file
from metaclaw.skills.layout import checked_name
from metaclaw.skills.packages import PackedFile, read_packages
from metaclaw.skills.skill import FILE_NAME, Skill, parse_text, render_skill

MANIFEST = ".metaclaw-export.json"


class Manifest(BaseModel):
    """What we put into a target: the digest of each file, by skill and path."""

    skills: dict[str, dict[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What became of one skill. ``foreign`` are the files that stood in the way."""

    name: str
    folder: Path
    state: Literal["written", "unchanged", "refused"]
    foreign: tuple[str, ...] = field(default=())


def export_skills(
    folders: Sequence[Path], target: Path, *, for_openclaw: bool = False, force: bool = False
) -> list[Exported]:
    """Put the skills in ``folders`` below ``target``, each with all its files. Raises ``SkillError``."""
    manifest = _read_manifest(target)
    exported: list[Exported] = []
    for folder in folders:
        files = _portable(folder, for_openclaw)
        exported.append(_export(folder.name, files, target, manifest, force))
        replace_file(target / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return exported


def portable_text(skill: Skill, *, for_openclaw: bool = False) -> str:
    """``SKILL.md`` with the fields of the standard alone.

    OpenClaw's own check refuses all but name, description, license and metadata, and ``<`` and ``>`` in a description.
    """
    if for_openclaw:
        also = {"compatibility": skill.compatibility, "allowed-tools": skill.allowed_tools}
        metadata: dict[str, Any] = {**skill.metadata, **{key: value for key, value in also.items() if value}}
        description = skill.description.replace("<", "(").replace(">", ")")
        skill = replace(skill, description=description, metadata=metadata, compatibility="", allowed_tools="")
    return render_skill(skill)


def _portable(folder: Path, for_openclaw: bool) -> dict[PurePosixPath, PackedFile]:
    package = next(iter(read_packages(folder)))
    text = package.skill_file.content.decode("utf-8-sig", "replace")
    skill = parse_text(text, str(folder / FILE_NAME))
    head = PackedFile(content=portable_text(skill, for_openclaw=for_openclaw).encode())
    return {**package.files, PurePosixPath(FILE_NAME): head}


def _export(
    name: str, files: Mapping[PurePosixPath, PackedFile], target: Path, manifest: Manifest, force: bool
) -> Exported:
    folder = target / checked_name(name)
    known = manifest.skills.get(name, {})
    wanted = {path.as_posix(): _digest(file.content) for path, file in files.items()}
    there = {path: _digest_of(folder, path) for path in {*known, *wanted} if _is_plain(path)}
    foreign = tuple(sorted(_foreign(folder, there, known, wanted)))
    if foreign and not force:
        return Exported(name=name, folder=folder, state="refused", foreign=foreign)
    changed = False
    for path, file in files.items():
        if force or there[path.as_posix()] != wanted[path.as_posix()]:
            replace_file(folder / path, file.content, mode=0o755 if file.executable else 0o644)
            changed = True
    for path in known.keys() - wanted.keys():  # of a file that the skill no longer has
        if there.get(path) == known[path]:
            (folder / path).unlink()
            changed = True
    manifest.skills[name] = wanted
    return Exported(name=name, folder=folder, state="written" if changed else "unchanged")


def _foreign(
    folder: Path, there: Mapping[str, str], known: Mapping[str, str], wanted: Mapping[str, str]
) -> Iterator[str]:
    if folder.is_symlink():
        yield "."
    for path in wanted:
        if there[path] not in ("", known.get(path), wanted[path]):
            yield path


def _is_plain(path: str) -> bool:
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and "\\" not in path


def _read_manifest(target: Path) -> Manifest:
    path = target / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Manifest()
    except (ValidationError, OSError) as error:
        raise SkillError(f"{path} is not the list of what was exported; remove it, and export with --force") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(folder: Path, name: str) -> str:
    path = folder / name
    try:
        return _digest(path.read_bytes()) if path.resolve() == folder.resolve() / name else "a link"
    except FileNotFoundError:
        return ""
    except OSError:
        return "unreadable"
