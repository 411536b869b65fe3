"""What a change of a file looks like to a person.

Owns the diff; refuses to show a secret, ours or the user's. Invariant: a line that names a key, a token or a password
shows no value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from metaclaw.agents.texts import decoded
from metaclaw.agents.wiring import Change, FileChange

_SECRET = re.compile(
    r"""(?ix)
        (?P<name> ["']? [\w.-]* (?: api_?-?key | token(?!s) | secret | password | authorization ) [\w-]* ["']?
        \s* [:=] \s* )
        (?P<value> "(?:[^"\\]|\\.)*" | '[^']*' | [^\s,}\]]+ )"""
)


def shown(change: Change, secret: str) -> Iterator[str]:
    """The diffs of all files that change, line by line."""
    for file in change.files:
        if file.before != file.after:
            yield from _file(file, secret)


def _file(file: FileChange, secret: str) -> Iterator[str]:
    before, after = (_lines(file, data) for data in (file.before, file.after))
    yield f"--- {file.path}" if file.before is not None else "--- (no file)"
    yield f"+++ {file.path}" if file.after is not None else "+++ (no file)"
    for line in list(difflib.unified_diff(before, after, n=2, lineterm=""))[2:]:
        yield masked(line, secret)


def masked(line: str, secret: str) -> str:
    """A line without what is secret in it."""
    hidden = line.replace(secret, "***") if secret else line
    return _SECRET.sub(lambda found: f"{found['name']}***", hidden)


def _lines(file: FileChange, data: bytes | None) -> list[str]:
    return decoded(data or b"", file.path).splitlines()
