"""How a program of ours writes its log: to standard error, a line an event.

Owns the two forms (for people, for programs) and what is left out of them; refuses to know who logs what. Invariant: a
line never holds the message of an exception that may quote its input, nor the words of a model that refused something,
so neither prompts nor keys get into a log by way of a failure; where it happened is always there.

``METACLAW_LOG`` is ``text`` or ``json``; without it, text on a terminal and JSON elsewhere.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import sqlite3
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO, cast

from metaclaw.errors import ConfigError, MetaClawError, UpstreamError

VARIABLE = "METACLAW_LOG"
# What torch and the system say of themselves. Others (ValueError, KeyError, pydantic's ...) quote what they were given.
_SPEAKS_OF_ITSELF = (MemoryError, RuntimeError)
_FORMS = ("json", "text")
_QUIET_S = 60.0

_log = logging.getLogger(__name__)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure_logs(process: str, *, env: Mapping[str, str] = os.environ, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (standard error) as ``process``, Python's warnings too. Raises ``ConfigError``.

    What nobody catches is logged as well, without what it quotes, unless somebody else has taken that over.
    """
    output: TextIO = sys.stderr if stream is None else stream
    form = env.get(VARIABLE) or ("text" if output.isatty() else "json")
    if form not in _FORMS:
        raise ConfigError(f"{VARIABLE} is {form!r}; use 'json' or 'text'")
    handler = logging.StreamHandler(output)
    handler.setFormatter(JsonFormatter(process) if form == "json" else TextFormatter(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn.error").addFilter(_SELDOM)
    if stream is None:
        _log_what_nobody_catches()


def _log_what_nobody_catches() -> None:
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _ended
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_ended
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = lambda told: _log.error("an exception had nowhere to go", exc_info=told.exc_value)


def _thread_ended(told: threading.ExceptHookArgs) -> None:
    if told.exc_type is not SystemExit:
        _log.error("a thread ended", exc_info=told.exc_value)


def _ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("the process ends", exc_info=error)


class _Seldom(logging.Filter):
    """Lets a warning through now and then: of requests that are none uvicorn warns each time, and whoever reaches a
    port can send as many as they like, without a token, until the disk is full of it. An answer that is cut because the
    server is stopped is no failure of ours; that it was stopped is said.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed_at: dict[str, float] = {}  # by what is said before it is filled in

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            return False
        if record.levelno != logging.WARNING:
            return True
        since = record.created - self._passed_at.get(str(record.msg), 0.0)
        if 0 <= since < _QUIET_S:  # a clock that was set back says it anew
            return False
        self._passed_at[str(record.msg)] = record.created
        return True


_SELDOM = _Seldom()


class TextFormatter(logging.Formatter):
    """One line for people; a traceback on the lines behind it."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(_unquoted(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).replace("\n", "\\n")  # nobody writes a line of their own

    def formatException(self, ei: ExcInfo) -> str:
        return "\n".join(_told(ei[1]))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _unquoted(record).getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            line["exception"] = "\n".join(_told(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False)


def _unquoted(record: logging.LogRecord) -> logging.LogRecord:
    """``record`` with exceptions among what it tells as far as they may be told."""
    if record.name == "asyncio" and record.exc_info:  # it adds what the task or the callback was given
        told = copy.copy(record)
        told.msg, told.args = record.getMessage().partition("\n")[0].partition(" in callback")[0], ()
        return told
    if not isinstance(record.args, tuple) or not any(isinstance(arg, BaseException) for arg in record.args):
        return record
    told = copy.copy(record)
    told.args = tuple(_named(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
    return told


def _named(error: BaseException) -> str:
    if not isinstance(error, MetaClawError):
        return f"{type(error).__name__}{_message(error)}"
    text, link = str(error), cast("BaseException | None", error)
    while link is not None:
        if isinstance(link, UpstreamError) and link.said:
            text = text.replace(link.said, "...")
        link = link.__cause__
    return text


def _told(error: BaseException | None) -> Iterator[str]:
    """Where an exception came from and what kind it is, causes first, without what it may quote."""
    if error is None:
        return
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield "then"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
    yield f"{type(error).__name__}{_message(error)}"
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _told(inner)


def _message(error: BaseException) -> str:
    if isinstance(error, sqlite3.Error):  # a question to a full text index is quoted where it makes no sense
        return f" ({getattr(error, 'sqlite_errorname', 'unknown')})"
    if isinstance(error, OSError):
        return f": {error.strerror}" if error.strerror else ""  # without the file's name
    if isinstance(error, MetaClawError):
        return f" ({error.code})"  # its text is for the caller, and names what the caller sent
    return f": {error}" if isinstance(error, _SPEAKS_OF_ITSELF) else ""
