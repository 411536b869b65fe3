"""The spool: what is to be journalled, on its way to the database.

Owns the segment files and the frames in them; refuses to know what a record says. Invariant: a record is appended whole
or not at all, records come back in the order of their appending, and a number of a segment is never used twice.

A frame is two lengths and a CRC-32, then a header (JSON) and the parts, whose lengths are in the header. An append is
one write, so it survives the death of the process; a power cut may take the last ones.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from metaclaw.chat.messages import JsonObject
from metaclaw.fixed import fixed

SEGMENT_BYTES = 4 * 1024 * 1024
_MAGIC = b"MetaClaw spool 1\n"
_FRAME = struct.Struct("<III")  # bytes of the header, bytes of the parts, CRC-32 of both
_LENGTHS = "parts"
_HEADER = b'{"'  # what each begins with
_HAS_WRITEV = hasattr(os, "writev")  # Windows has none
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends


@fixed
class SpoolRecord:
    """A small header and some bytes. ``known`` is what the parts say, if somebody read them; it is not spooled."""

    header: JsonObject
    parts: tuple[bytes, ...] = ()
    known: Any = None

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.parts)) + 512  # the header's own, about

    def without_parts(self) -> SpoolRecord:
        return SpoolRecord(header=self.header)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies."""

    segment: int
    start: int
    end: int


class Spool:
    """The appending end. One thread appends; ``discard_before`` and reading may happen on another."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._handle: int | None = None
        self._end = 0
        self._is_torn = False
        self.segment = 0

    def begin_after(self, last_segment: int) -> None:
        """Use numbers above ``last_segment`` and above those of the files that are there. Raises ``OSError``."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)  # a copy of a home may have lost it, and what lies in there was said to a model
        self.segment = max([last_segment, *self.segments()])

    def append(self, record: SpoolRecord) -> Place:
        """Write ``record``. Raises ``OSError``, and then nothing of it will be read back."""
        header, lengths = record.header, list(map(len, record.parts))
        encoded = _encoded({**header, _LENGTHS: lengths} if lengths else header)
        crc = zlib.crc32(encoded)
        for part in record.parts:
            crc = zlib.crc32(part, crc)
        num_bytes = sum(lengths)
        frame = (_FRAME.pack(len(encoded), num_bytes, crc), encoded, *record.parts)
        return self._write(frame, _FRAME.size + len(encoded) + num_bytes)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def segments(self) -> list[int]:
        """The numbers of the segments that exist, in order."""
        return sorted(int(path.stem) for path in self.folder.glob("*.log") if path.stem.isdecimal())

    def path(self, segment: int) -> Path:
        return self.folder / f"{segment:08d}.log"

    def read(self, place: Place) -> SpoolRecord:
        """The record at ``place``. Raises ``OSError`` or ``ValueError``."""
        with self.path(place.segment).open("rb") as file:
            file.seek(place.start)
            frame = file.read(place.end - place.start)
        found = _record(frame, 0)
        if found is None:
            raise ValueError(f"{self.path(place.segment)} is damaged at byte {place.start}")
        return found[0]

    def scan(self, segment: int, start: int = 0) -> Iterator[tuple[Place, SpoolRecord | None]]:
        """What is in a segment that nobody appends to, from byte ``start``; ``None`` for what is no whole record.

        Raises ``OSError``.
        """
        data = self.path(segment).read_bytes()
        offset = max(start, len(_MAGIC)) if data.startswith(_MAGIC) else start
        while offset < len(data):
            begin, found = _next_record(data, offset)
            if begin > offset:
                yield Place(segment, offset, begin), None
            if found is None:
                return
            record, offset = found
            yield Place(segment, begin, offset), record

    def discard(self, segment: int) -> None:
        """Delete a segment whose records are all in the database."""
        self.path(segment).unlink(missing_ok=True)

    def begin_segment(self) -> None:
        """What is appended from now on lies in a new segment. Raises ``OSError``."""
        if self._is_torn:
            self._cut()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # somebody may have tidied it away
        path = self.path(self.segment + 1)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _BINARY, 0o600)
        try:
            _write_all(handle, (_MAGIC,), len(_MAGIC))
        except OSError:
            os.close(handle)
            path.unlink()
            raise
        self.close()
        self._handle, self._end = handle, len(_MAGIC)
        self.segment += 1

    def take_out(self, first: Place, last: Place) -> None:
        """Delete what was appended from ``first`` to ``last``, which ends a segment that nobody appends to any more.

        Raises ``OSError``.
        """
        for segment in range(last.segment, first.segment, -1):
            self.discard(segment)
        os.truncate(self.path(first.segment), first.start)

    def _write(self, frame: Sequence[bytes], num_bytes: int) -> Place:
        if self._is_torn:
            self._cut()
        if self._handle is None or self._end >= self._segment_bytes:
            self.begin_segment()
        assert self._handle is not None
        start = self._end
        self._is_torn = True  # until all of it is there
        try:
            _write_all(self._handle, frame, num_bytes)
        except OSError:
            with suppress(OSError):  # then before the next one
                self._cut()
            raise
        self._is_torn = False
        self._end += num_bytes
        return Place(self.segment, start, self._end)

    def _cut(self) -> None:
        if self._handle is not None:
            os.ftruncate(self._handle, self._end)
        self._is_torn = False


def _encoded(header: JsonObject) -> bytes:
    try:
        return to_json(header)  # a fifth of what the standard library takes, in the way of every turn, twice
    except PydanticSerializationError:  # half a surrogate pair in a model's name, which JSON can carry and UTF-8 cannot
        return json.dumps(header, separators=(",", ":")).encode()


def _write_all(handle: int, pieces: Sequence[bytes], num_bytes: int) -> None:
    # One write either way: together they are in the page cache, or the piece that is there is cut off again.
    written = os.writev(handle, pieces) if _HAS_WRITEV else os.write(handle, b"".join(pieces))
    if written != num_bytes:
        raise OSError(errno.ENOSPC, f"only {written} of {num_bytes} bytes could be written")


def _next_record(data: bytes, offset: int) -> tuple[int, tuple[SpoolRecord, int] | None]:
    """Where the first whole record from ``offset`` on begins, and it with its end; the end of ``data`` and ``None``."""
    begin = offset
    while begin >= 0:
        if (found := _record(data, begin)) is not None:
            return begin, found
        begin = data.find(_HEADER, begin + _FRAME.size + 1) - _FRAME.size  # below 0 where there is none
    return len(data), None


def _record(data: bytes, offset: int) -> tuple[SpoolRecord, int] | None:
    """The record that begins at ``offset``, and its end; ``None`` when there is no whole one."""
    if len(data) < offset + _FRAME.size:
        return None
    num_header, num_parts, crc = _FRAME.unpack_from(data, offset)
    begin = offset + _FRAME.size
    end = begin + num_header + num_parts
    if not num_header or end > len(data) or zlib.crc32(data[begin:end]) != crc:
        return None
    header: JsonObject = json.loads(data[begin : begin + num_header])
    parts: list[bytes] = []
    place = begin + num_header
    for length in header.pop(_LENGTHS, []):
        parts.append(data[place : place + length])
        place += length
    return SpoolRecord(header=header, parts=tuple(parts)), end
