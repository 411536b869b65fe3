"""Skills that a person brings from elsewhere.

Owns checking them all before the first is written, and saying in each where it came from; refuses to judge whether
they help: whoever imports a skill has decided that. Invariant: all are sound or none is written, and a skill that is
there already is replaced only when that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.skills.durable_files import replace_file
from metaclaw.skills.front_matter import with_metadata
from metaclaw.skills.history import digest
from metaclaw.skills.packages import Package, PackedFile, read_packages
from metaclaw.skills.skill import FILE_NAME, decode, parse_text
from metaclaw.skills.writer import SkillWriter

_FROM, _AT, _DIGEST = "imported-from", "imported-at", "imported-sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One skill that was brought. ``changed`` is false when the same was there already."""

    owner: str
    name: str
    folder: Path
    where: str
    num_files: int
    changed: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    name: str
    text: str
    there: str | None
    package: Package
    notes: tuple[str, ...]

    @property
    def is_there(self) -> bool:
        """Whether the very same text was imported before."""
        return self.there is not None and _origin_digest(self.there) == digest(self.text)


def import_skills(source: Path, owner: str, *, writer: SkillWriter, now: float, force: bool = False) -> list[Imported]:
    """Bring every skill of ``source`` to where ``writer`` writes, for ``owner``.

    Raises ``SkillError`` before anything is written when one is unsound, or is there already and not ``force``.
    """
    candidates = [_candidate(package, writer, owner) for package in read_packages(source)]
    _refuse_doubles(candidates, source)
    taken = [one.name for one in candidates if one.there is not None and not one.is_there]
    if taken and not force:
        raise SkillError(f"{owner} has {', '.join(taken)} already; --force replaces it and keeps its history")
    return [_bring(one, owner, writer, now) for one in candidates]


def import_package(package: Package, owner: str, *, writer: SkillWriter, now: float, dry: bool = False) -> Imported:
    """Bring one skill, or with ``dry`` only say what would come of it. Raises ``SkillError`` as ``import_skills``."""
    candidate = _candidate(package, writer, owner)
    if candidate.there not in (None, candidate.text) and not candidate.is_there:
        raise SkillError(f"{owner} has another skill {candidate.name} already")
    return _bring(candidate, owner, writer, now, dry=dry or candidate.there is not None)


def _candidate(package: Package, writer: SkillWriter, owner: str) -> _Candidate:
    where = f"{package.where}/{FILE_NAME}"
    text = decode(package.skill_file.content, where)
    skill = parse_text(text, where)
    there = writer.current(owner, skill.name)
    return _Candidate(name=skill.name, text=text, there=there, package=package, notes=skill.notes)


def _refuse_doubles(candidates: list[_Candidate], source: Path) -> None:
    names = [one.name for one in candidates]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise SkillError(f"{source} holds more than one skill {', '.join(double)}; import one folder of them")


def _bring(one: _Candidate, owner: str, writer: SkillWriter, now: float, *, dry: bool = False) -> Imported:
    folder = writer.folder(owner, one.name)
    files = {path: file for path, file in one.package.files.items() if path.name != FILE_NAME or len(path.parts) > 1}
    for path, file in files.items() if not dry else ():
        _place(folder, folder / path, file)
    if not one.is_there and not dry:
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        origin = {_FROM: one.package.where, _AT: at, _DIGEST: digest(one.text)}
        why = f"imported from {one.package.where}"
        writer.write(owner, with_metadata(one.text, origin), by="import", why=why, replaces=one.there)
    return Imported(
        owner=owner,
        name=one.name,
        folder=folder,
        where=one.package.where,
        num_files=len(one.package.files),
        changed=not one.is_there and one.there != one.text,
        notes=one.notes,
    )


def _place(folder: Path, target: Path, file: PackedFile) -> None:
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise SkillError(f"{target} leads out of {folder}, by a link that is there; remove the link")
    replace_file(target, file.content, mode=0o755 if file.executable else 0o644)


def _origin_digest(text: str) -> str:
    return str(parse_text(text, FILE_NAME).metadata.get(_DIGEST, ""))
