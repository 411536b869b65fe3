"""A configuration file as text: its bytes are UTF-8, perhaps with a mark before them.

Owns decoding and what is said of a file that cannot be understood; refuses to know formats. Invariant: the mark comes
back with the text, and an error names the file and says that nothing was changed.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from metaclaw.agents.config_files import read_file
from metaclaw.agents.documents.document import Format
from metaclaw.errors import WiringError

_MARK = b"\xef\xbb\xbf"


def decoded(data: bytes, path: Path) -> str:
    """The text behind the mark. Raises ``WiringError``."""
    try:
        return data.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        raise WiringError(f"{path} is not UTF-8 text (byte {error.start}); nothing was changed") from None


def encoded(text: str, before: bytes | None) -> bytes:
    """``text`` with the mark of what was there before."""
    return (_MARK if before and before.startswith(_MARK) else b"") + text.encode()


@contextmanager
def told_of(path: Path) -> Generator[None]:
    """Say of which file an error of a format is."""
    try:
        yield
    except WiringError as error:
        raise WiringError(f"{path}: {error}; nothing was changed") from None
    except ValueError as error:
        raise WiringError(f"{path} cannot be read: {error}; nothing was changed") from None


def read_config(form: Format, path: Path) -> dict[str, Any]:
    """The data of a file as it is now; an empty object when there is none. Raises ``WiringError``."""
    data = read_file(path)
    if data is None:
        return {}
    with told_of(path):
        read: Any = form.read(decoded(data, path))
    if not isinstance(read, dict):
        raise WiringError(f"{path} holds no settings by name; nothing was changed")
    return cast("dict[str, Any]", read)
