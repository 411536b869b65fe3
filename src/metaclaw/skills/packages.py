"""Skills in a folder or a zip that somebody brings.

Owns finding them and their files, within limits; refuses to write anything. Invariant: a file that leaves here has a
plain relative path below its skill's folder, and what is no ordinary file (a link, a device, a path with ``..``)
is refused with its name, never followed.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from metaclaw.errors import SkillError
from metaclaw.skills.skill import FILE_NAME

MAX_FILE_BYTES = 5 * 2**20
MAX_BYTES = 50 * 2**20
MAX_FILES = 2000
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """One file's content, and whether it is a program."""

    content: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One skill as it was found: ``where`` names its place, ``files`` are by path below its folder."""

    where: str
    files: Mapping[PurePosixPath, PackedFile]

    @property
    def skill_file(self) -> PackedFile:
        return self.files[PurePosixPath(FILE_NAME)]


def read_packages(source: Path) -> list[Package]:
    """Every skill in ``source``: a folder of a skill, one that holds several, or a zip of either.

    Raises ``SkillError`` for what cannot be read, holds no skill, is too large or leads elsewhere.
    """
    if source.is_dir():
        files = _limited(_in_folder(source), source)
    elif source.name == FILE_NAME:
        return read_packages(source.resolve().parent)
    elif source.is_file() and zipfile.is_zipfile(source):
        with _open_zip(source) as archive:
            files = _limited(_in_zip(archive, source), source)
    else:
        raise SkillError(f"{source} is neither a folder nor a zip with a {FILE_NAME} in it")
    packages = _grouped(files, source)
    if not packages:
        raise SkillError(f"{source} holds no {FILE_NAME}")
    return packages


def _limited(found: Iterator[tuple[PurePosixPath, PackedFile]], source: Path) -> dict[PurePosixPath, PackedFile]:
    files: dict[PurePosixPath, PackedFile] = {}
    num_bytes = 0
    for path, file in found:
        num_bytes += len(file.content)
        if path in files:
            raise SkillError(f"{source}: {path} is in it twice")
        if len(files) >= MAX_FILES or num_bytes > MAX_BYTES:
            raise SkillError(f"{source}: more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB; import fewer at once")
        files[path] = file
    return files


def _in_folder(root: Path) -> Iterator[tuple[PurePosixPath, PackedFile]]:
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(place)
        for name in [*folders, *sorted(names)]:
            if (here / name).is_symlink():
                raise SkillError(f"{here / name} is a link; links are not followed, put a copy there")
        for name in sorted(name for name in names if not name.startswith(".")):
            path = here / name
            if path.is_file():
                executable = bool(path.stat().st_mode & stat.S_IXUSR)
                with path.open("rb") as file:
                    content = _bounded(file.read(MAX_FILE_BYTES + 1), path)
                relative = _checked(path.relative_to(root).as_posix(), root)
                yield relative, PackedFile(content=content, executable=executable)


def _open_zip(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError) as error:
        raise SkillError(f"{source}: not a zip that can be read: {error}") from error


def _in_zip(archive: zipfile.ZipFile, source: Path) -> Iterator[tuple[PurePosixPath, PackedFile]]:
    for entry in archive.infolist():
        path = _checked(entry.filename, source)
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SkillError(f"{source}: {entry.filename!r:.200} is a link or a device; only files are imported")
        if entry.is_dir() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            continue
        try:
            with archive.open(entry) as file:  # what it unpacks to counts, not what it says of itself
                content = _bounded(file.read(MAX_FILE_BYTES + 1), source / path)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
            raise SkillError(f"{source}: {entry.filename!r:.200} cannot be unpacked: {error}") from error
        yield path, PackedFile(content=content, executable=bool(mode & stat.S_IXUSR))


def _bounded(content: bytes, path: Path) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise SkillError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB")
    return content


def _checked(name: str, source: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    absolute = path.is_absolute() or name[1:2] == ":"
    if not path.parts or absolute or ".." in path.parts or "\\" in name or not name.isprintable():
        raise SkillError(f"{source}: {name!r:.200} is a path that leads elsewhere; nothing was imported")
    return path


def _grouped(files: Mapping[PurePosixPath, PackedFile], source: Path) -> list[Package]:
    roots = sorted({path.parent for path in files if path.name == FILE_NAME}, key=lambda root: len(root.parts))
    chosen: list[PurePosixPath] = []
    for root in roots:  # a SKILL.md below another skill's folder is a file of that skill
        if len(root.parts) <= _MAX_DEPTH and not any(root.is_relative_to(above) for above in chosen):
            chosen.append(root)
    return [
        Package(
            where=f"{source.name}/{root}" if root.parts else source.name,
            files={path.relative_to(root): file for path, file in files.items() if path.is_relative_to(root)},
        )
        for root in sorted(chosen)
    ]
