"""Connecting and disconnecting: from a plan to bytes, and back to what was there.

Owns how entries become a change of a file and how they are taken back; refuses to know any program, and asks nobody.
Invariant: nothing is written while a change is made; what is taken back is ours, and what the user wrote since stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from metaclaw.agents import leftovers
from metaclaw.agents.config_files import (
    digest,
    folders_to_make,
    is_read_by_others,
    linked_elsewhere,
    read_file,
    remove_file,
    remove_unfinished,
    require_writable,
    write_file,
)
from metaclaw.agents.documents import document
from metaclaw.agents.documents.document import MISSING, Format
from metaclaw.agents.documents.formats import FORMATS
from metaclaw.agents.ledger import Entry, Ledger, StoredCommand, WiredFile, Wiring, place_as_stored
from metaclaw.agents.program import Connection, FileEdit, Plan, Put
from metaclaw.agents.texts import decoded, encoded, told_of
from metaclaw.errors import WiringError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file before and after; ``None`` is no file. ``original`` is what disconnecting gives back."""

    path: Path
    before: bytes | None
    after: bytes | None
    original: bytes | None = None
    wired: WiredFile | None = None


@dataclass(slots=True, kw_only=True)
class Change:
    """All that would be written, and what to know of it."""

    program: str
    files: list[FileChange] = field(default_factory=list[FileChange])
    remarks: list[str] = field(default_factory=list[str])

    @property
    def is_empty(self) -> bool:
        return all(change.before == change.after for change in self.files)


def connecting(program: str, plan: Plan, wiring: Wiring | None, ledger: Ledger) -> Change:
    """What a plan would change, over what an earlier connection changed. Raises ``WiringError``."""
    change = Change(program=program, remarks=list(plan.notes))
    earlier = {file.path: file for file in wiring.files} if wiring else {}
    for edit in plan.files:
        wired = earlier.pop(edit.path, None)
        change.files.append(_edited(edit, _taken_back(wired, program, ledger, []) if wired else None))
        if is_read_by_others(edit.path):
            change.remarks.append(f"{edit.path} holds a token now, and others can read it: `chmod 600 {edit.path}`")
        if remark := linked_elsewhere(edit.path):
            change.remarks.append(remark)
    for wired in earlier.values():  # a file that this plan no longer needs
        change.files.append(replace(_taken_back(wired, program, ledger, change.remarks), wired=None))
    return change


def disconnecting(wiring: Wiring, ledger: Ledger) -> Change:
    """What taking a connection back would change. Raises ``WiringError``."""
    change = Change(program=wiring.program)
    for wired in wiring.files:
        change.files.append(_taken_back(wired, wiring.program, ledger, change.remarks))
    return change


def connect(change: Change, connection: Connection, plan: Plan, now: float, ledger: Ledger) -> Wiring:
    """Record what is about to be changed, then change it."""
    files = [file.wired for file in change.files if file.wired is not None]
    undo = tuple(StoredCommand(argv=command.argv, why=command.why) for command in plan.undo)
    earlier = ledger.read(change.program)
    wiring = Wiring(
        program=change.program, url=connection.url, agent=connection.agent, token=connection.token, connected_at=now,
        files=tuple(files), undo=undo or (earlier.undo if earlier else ()), known_as=plan.known_as,
    )  # fmt: skip
    for file in change.files:
        if file.original is not None:
            ledger.keep(change.program, file.original)
    ledger.write(wiring)
    for file in change.files:
        remove_unfinished(file.path)
        _write(file)
    return wiring


def disconnect(change: Change, wiring: Wiring, ledger: Ledger) -> None:
    """Take back what was changed, then forget it."""
    for file in change.files:
        remove_unfinished(file.path)
        _write(file)
    for folder in (folder for file in wiring.files for folder in file.folders):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    ledger.forget(wiring.program)


def _edited(edit: FileEdit, earlier: FileChange | None) -> FileChange:
    before = earlier.before if earlier else read_file(edit.path)
    original = earlier.after if earlier else before
    require_writable(edit.path)
    text = decoded(original or b"", edit.path)
    entries: list[Entry] = []
    with told_of(edit.path):
        if not isinstance(edit.form.read(text), dict):
            raise WiringError("it holds no settings by name")
        for put in edit.puts:
            text, entry = _put(edit.form, text, put)
            entries.append(entry)
    after = encoded(text, original)
    wired = WiredFile(
        path=edit.path,
        form=edit.form.name,
        before=None if original is None else digest(original),
        after=digest(after),
        entries=tuple(entries),
        is_ours=edit.is_ours,
        folders=(*folders_to_make(edit.path), *(earlier.wired.folders if earlier and earlier.wired else ())),
    )
    return FileChange(path=edit.path, before=before, after=after, original=original, wired=wired)


def _put(form: Format, text: str, put: Put) -> tuple[str, Entry]:
    data = form.read(text)
    was = document.value_at(data, put.place)
    entry = Entry(
        place=place_as_stored(put.place),
        wrote=put.value,
        before=None if was is MISSING else form.source(text, put.place),
        was=None if was is MISSING else was,
        made=len(put.place) - document.depth_there(data, put.place),
        is_ours=put.is_ours,
    )
    return (text if was == put.value else document.put(form, text, put.place, put.value)), entry


def _taken_back(wired: WiredFile, program: str, ledger: Ledger, remarks: list[str]) -> FileChange:
    """A file without our entries: byte for byte what it was, unless somebody wrote to it since."""
    now = read_file(wired.path)
    if now is None:
        remarks.append(f"{wired.path} is gone; nothing of it is put back")
        return FileChange(path=wired.path, before=None, after=None, wired=wired)
    name = digest(now)
    if name == wired.after:
        after = None if wired.before is None else ledger.kept(program, wired.before)
    elif name == wired.before:
        after = now
    elif wired.is_ours and wired.before is None:
        after = None
    else:
        after = _without_entries(now, wired, _as_it_was(wired, program, ledger), remarks)
    if after != now:
        require_writable(wired.path)
    return FileChange(path=wired.path, before=now, after=after, wired=wired)


def _as_it_was(wired: WiredFile, program: str, ledger: Ledger) -> str | None:
    """The text before; ``None`` when there was none, or when its copy is lost, which costs some layout alone."""
    if wired.before is None:
        return None
    try:
        return decoded(ledger.kept(program, wired.before), wired.path)
    except WiringError:
        return None


def _without_entries(now: bytes, wired: WiredFile, original: str | None, remarks: list[str]) -> bytes | None:
    form, text = FORMATS[wired.form], decoded(now, wired.path)
    with told_of(wired.path):
        for entry in reversed(wired.entries):
            text = _without(form, text, entry, wired.path, remarks)
        if original is not None:
            places = [entry.where for entry in wired.entries]
            text = leftovers.as_written_before(form, text, decoded(now, wired.path), original, places)
    if wired.before is None and text.strip() in ("", "{}"):
        return None  # the file was of our making
    return encoded(text, now)


def _without(form: Format, text: str, entry: Entry, path: Path, remarks: list[str]) -> str:
    data, place = form.read(text), entry.where
    value = document.value_at(data, place)
    if value is MISSING:
        return text
    if value != entry.wrote and not (entry.is_ours and entry.before is None):
        remarks.append(f"{document.shown(place)} in {path} was changed since, and stays as it is")
        return text
    if entry.before is not None:
        return document.put_source(form, text, place, entry.before, entry.was)
    depth = len(place)
    while depth - 1 > len(place) - entry.made and _holds_one(document.value_at(data, place[: depth - 1])):
        depth -= 1
    return document.remove(form, text, place[:depth])


def _holds_one(group: Sequence[object] | dict[str, object] | object) -> bool:
    return isinstance(group, dict | list) and len(group) == 1  # pyright: ignore[reportUnknownArgumentType]


def _write(change: FileChange) -> None:
    if change.after == change.before:
        return
    if change.after is None:
        assert change.before is not None, "there is something to remove"
        remove_file(change.path, expected=change.before)
    else:
        write_file(change.path, change.after, expected=change.before)
