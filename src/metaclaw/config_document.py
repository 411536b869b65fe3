"""The YAML of ``config.yaml``: read with errors that say where, edited in place, written whole.

Owns the text of the file and its permissions; refuses to know any key. Invariant: a file that cannot be understood is
never written, and an edit replaces the file whole (0600) or not at all, with the user's comments and order kept, and
with what others write at the same moment.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Generator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from metaclaw.errors import ConfigError
from metaclaw.locks import LockedError, exclusive_lock

# A list whose dashes stand right below the key, as some people write them.
_FLAT_LIST = re.compile(rb"^( *)[^\s#-][^\n]*:[ ]*(?:#[^\n]*)?\n(?: *#[^\n]*\n)*\1- ", re.MULTILINE)

Document = MutableMapping[str, Any]


def read_document(path: Path) -> Mapping[str, Any]:
    """What the file holds; empty when there is nothing in it. Raises ``ConfigError`` that says where it is wrong."""
    return _parse(path, YAML(typ="safe", pure=True))


class OpenDocument:
    """A document that is being edited: ``data`` is changed in place, ``save`` writes it. A missing file is empty.

    Raises ``ConfigError`` for a file that cannot be understood.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._editor = _editor(path)
        self.data: Document = _parse(path, self._editor) if path.exists() else CommentedMap()

    def put(self, steps: Sequence[str], value: Any) -> None:
        """Set the value at ``steps``; ``None`` takes it away, and the groups that become empty with it."""
        _put(self.data, steps, value)

    def save(self) -> None:
        """Replace the file."""
        out = StringIO()
        self._editor.dump(self.data, out)  # pyright: ignore[reportUnknownMemberType]
        _write_whole(self._path, out.getvalue())


@contextmanager
def one_writer(path: Path) -> Generator[None]:
    """Whoever edits ``path`` does so in here. Raises ``ConfigError`` where that cannot be."""
    # Two edits at the same moment would each read the file without the other's.
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive_lock(path.parent / ".config.lock", wait=True):
            yield
    except LockedError as error:
        raise ConfigError(f"{path} cannot be locked: {error.__cause__}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def keep_copy(path: Path) -> Path:
    """Copy the file beside itself (0600), under a name that is free; where it is. Raises ``ConfigError``."""
    for number in count(1):
        copy = path.with_name(f"{path.name}.{number}")
        try:
            handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"{copy} cannot be written: {error.strerror}") from error
        with os.fdopen(handle, "wb") as file:
            file.write(path.read_bytes())
        return copy
    raise AssertionError  # it counts for ever


def _parse(path: Path, yaml: YAML) -> Document:
    try:
        document: object = yaml.load(path.read_text(encoding="utf-8"))  # pyright: ignore[reportUnknownMemberType]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except YAMLError as error:
        raise ConfigError(_yaml_problem(path, error)) from None
    except ValueError:  # `from None`: the parser's own text may show a secret
        raise ConfigError(
            f"{path} holds a date or a number that cannot be; put quotes around what is meant as text. "
            "Nothing was changed"
        ) from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply. Nothing was changed") from None
    if document is None:
        return CommentedMap()
    if not isinstance(document, MutableMapping):
        raise ConfigError(f"{path} must hold 'key: value' lines, not a {type(document).__name__}")
    return cast("Document", document)


def _yaml_problem(path: Path, error: YAMLError) -> str:
    if not isinstance(error, MarkedYAMLError):
        return f"{path} is not valid YAML: {' '.join(str(error).split())}"
    marked = cast("Any", error)  # ruamel.yaml does not annotate these
    mark = marked.problem_mark or marked.context_mark
    where = f"{path}, line {mark.line + 1}" if mark else str(path)
    problem = " ".join(str(marked.problem or marked.context).split())
    if isinstance(error, DuplicateKeyError):
        # The parser's own text shows both values, and one may be a secret.
        return f"{where}: {problem.split(' with value')[0]}; keep one of them"
    hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
    return f"{where}: not valid YAML: {problem}{hint}. Nothing was changed"


def _put(document: Document, steps: Sequence[str], value: Any) -> None:
    head, *rest = steps
    if rest:
        if document.get(head) is None:
            document[head] = CommentedSeq() if rest[0].isdecimal() and head != "agents" else CommentedMap()
        put = _put_into_entry if isinstance(document[head], list) else _put
        put(document[head], rest, value)
        value = document[head] or None  # a group that became empty goes
    if value is None:
        document.pop(head, None)
    elif not rest:
        document[head] = value


def _put_into_entry(entries: list[Any], steps: Sequence[str], value: Any) -> None:
    number, *rest = steps
    while len(entries) <= int(number):
        entries.append(CommentedMap())
    _put(entries[int(number)], rest, value)


def _editor(path: Path) -> YAML:
    yaml = YAML()
    yaml.width = 10_000  # a long line of the user's stays one line
    yaml.preserve_quotes = True
    if not (path.exists() and _FLAT_LIST.search(path.read_bytes())):
        yaml.indent(mapping=2, sequence=4, offset=2)  # pyright: ignore[reportUnknownMemberType]
    return yaml


def _write_whole(path: Path, text: str) -> None:
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-", suffix=".tmp")  # mkstemp makes it 0600
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}. It is as it was") from error
