"""Skills of an older system's folder, as the Agent Skills standard has them.

Owns finding them, whose they are, and what is done to each so that it is a skill here; refuses to write anything.
Invariant: every folder with a ``SKILL.md`` comes out once, as a package to be imported or with the reason why not.

Theirs lie in ``<name>/`` (everybody's), ``_shared/<name>/`` and ``<agent>/<name>/``. Their front matter was read line
by line, not as YAML, and a name could be anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from metaclaw.errors import InvalidRequestError, SkillError
from metaclaw.identity import agent_id
from metaclaw.skills import front_matter
from metaclaw.skills.layout import SHARED
from metaclaw.skills.packages import Package, PackedFile, read_packages
from metaclaw.skills.skill import DEFAULT_CATEGORY, FILE_NAME, STANDARD_FIELDS, Skill, decode, parse_text, render_skill

_MAX_NAME, _MAX_DESCRIPTION = 64, 1024
_NO_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderSkill:
    """One of theirs: ``package`` to be imported, or ``why_not``. ``notes`` say what was changed of it."""

    where: str
    owner: str
    name: str = ""
    package: Package | None = None
    notes: tuple[str, ...] = ()
    why_not: str = ""
    is_copy: bool = False  # an agent's, of one that is everybody's


def read_older(root: Path, *, owner: str | None = None) -> list[OlderSkill]:
    """Every skill below ``root``; all of ``owner`` when that is given, as in an agent's own folder."""
    found = [_read(folder, root, whose) for folder, whose in _folders(root, owner)]
    taken: dict[tuple[str, str], OlderSkill] = {}
    for one in sorted(found, key=lambda one: one.where.rpartition("/")[2] != one.name):  # whose folder is called so
        if one.package is not None:
            taken.setdefault((one.owner, one.name), one)
    return [one if one.package is None else _apart(one, taken) for one in found]


def _apart(one: OlderSkill, taken: Mapping[tuple[str, str], OlderSkill]) -> OlderSkill:
    first, shared = taken[one.owner, one.name], taken.get((SHARED, one.name))
    if first is not one:
        return replace(one, package=None, why_not=f"is named {one.name} as {first.where} is")
    return replace(one, is_copy=one.owner != SHARED and shared is not None and _files(shared) == _files(one))


def _files(one: OlderSkill) -> Mapping[PurePosixPath, PackedFile]:
    return one.package.files if one.package is not None else {}


def _folders(root: Path, owner: str | None) -> Iterator[tuple[Path, str]]:
    for folder in _below(root):
        if (folder / FILE_NAME).is_file():
            yield folder, owner or SHARED
        elif owner is None:
            yield from ((inner, folder.name) for inner in _below(folder) if (inner / FILE_NAME).is_file())


def _below(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read(folder: Path, root: Path, owner: str) -> OlderSkill:
    where = folder.relative_to(root).as_posix()
    read = OlderSkill(where=where, owner=owner)
    try:
        read = replace(read, owner=owner if owner == SHARED else agent_id(owner))
        (package,) = read_packages(folder)
        text, notes = _converted(decode(package.skill_file.content, where), folder.name)
        name = parse_text(text, where).name
    except (SkillError, InvalidRequestError) as error:
        return replace(read, why_not=str(error))
    files = {**package.files, PurePosixPath(FILE_NAME): PackedFile(content=text.encode())}
    return replace(read, name=name, package=Package(where=where, files=files), notes=notes)


def _converted(text: str, folder_name: str) -> tuple[str, tuple[str, ...]]:
    """``text`` with the fields of the standard alone, and what was changed. Raises ``SkillError``."""
    try:
        head = front_matter.split(text, folder_name)
        fields, body = head.fields, head.body
        if set(fields) <= set(STANDARD_FIELDS) and not parse_text(text, folder_name).notes:
            return text, ()
    except SkillError:
        fields, body = _loose(text)
    notes: list[str] = []
    name = _name(str(fields.get("name") or ""), folder_name, notes)
    description = " ".join(str(fields.get("description") or "").split())
    if not description or not body:
        raise SkillError(f"has no {'description' if not description else 'text after its front matter'}")
    if len(description) > _MAX_DESCRIPTION:
        description = f"{description[: _MAX_DESCRIPTION - 1].rsplit(' ', 1)[0]}\u2026"
        notes.append(f"its description was cut to {_MAX_DESCRIPTION} characters")
    skill = Skill(
        name=name,
        description=description,
        body=body,
        license=str(fields.get("license") or ""),
        compatibility=str(fields.get("compatibility") or "")[:500],
        allowed_tools=_tools(fields.get("allowed-tools")),
        metadata=_metadata(fields, notes),
        category=str(fields.get("category") or "").strip() or DEFAULT_CATEGORY,
    )
    return render_skill(skill), tuple(notes)


def _loose(text: str) -> tuple[Mapping[str, Any], str]:
    start, fence, rest = text.removeprefix("\ufeff").lstrip().partition("---")
    head, closed, body = rest.partition("\n---")
    if start or not fence or not closed:
        raise SkillError("does not begin with a name and a description between two lines '---'")
    pairs = (line.partition(":") for line in head.splitlines() if ":" in line and not line.startswith((" ", "\t", "#")))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}, body.lstrip("-").strip()


def _name(given: str, folder_name: str, notes: list[str]) -> str:
    for candidate in (given, folder_name):
        name = _NO_NAME.sub("-", candidate.lower()).strip("-")[:_MAX_NAME].strip("-")
        if name:
            if name != given:
                notes.append(f"its name {given[:80]!r} became {name}")
            return name
    raise SkillError(f"has a name of which nothing is left in a-z, 0-9 and hyphens: {given[:80]!r}")


def _tools(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")  # pyright: ignore


def _metadata(fields: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    given: object = fields.get("metadata")
    others = {key: value for key, value in fields.items() if key not in (*STANDARD_FIELDS, "category")}
    entries: dict[Any, Any] = {**(given if isinstance(given, dict) else {}), **others}  # pyright: ignore
    kept = {str(key): str(value) for key, value in entries.items() if isinstance(value, str | int | float)}
    if lost := sorted(str(key) for key in entries if str(key) not in kept):
        notes.append(f"what it says under {', '.join(lost)} has no place in the standard and is left out")
    return kept
