"""What a log line says, and what it never says."""

from __future__ import annotations

import io
import json
import logging
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from metaclaw.errors import ConfigError, InvalidRequestError, JournalError, JudgeError, UpstreamError
from metaclaw.logs import configure_logs

CANARY = "canary-of-a-prompt"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def logged(form: str, raises: Exception) -> str:
    stream = io.StringIO()
    configure_logs("api", env={"METACLAW_LOG": form}, stream=stream)
    try:
        raise raises
    except Exception:
        logging.getLogger("metaclaw.test").exception("the job %d failed", 7)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "error",
    [ValueError(CANARY), KeyError(CANARY), InvalidRequestError(CANARY), FileNotFoundError(2, "No such file", CANARY)],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_that_may_quote_its_input_is_placed_and_not_quoted(form: str, error: Exception):
    text = logged(form, error)
    assert CANARY not in text
    assert type(error).__name__ in text
    assert "test_logs.py" in text


def test_what_torch_or_the_system_say_of_themselves_is_told():
    assert "CUDA error: out of memory" in logged("text", RuntimeError("CUDA error: out of memory"))
    assert "No space left on device" in logged("json", OSError(28, "No space left on device"))


def test_causes_are_told_and_not_quoted_either():
    stream = io.StringIO()
    configure_logs("api", env={"METACLAW_LOG": "json"}, stream=stream)
    try:
        try:
            int(CANARY)
        except ValueError as error:
            raise RuntimeError("it broke") from error
    except RuntimeError:
        logging.getLogger("metaclaw.test").exception("no")
    line = json.loads(stream.getvalue())
    assert "ValueError\nthen" in line["exception"]
    assert line["exception"].endswith("RuntimeError: it broke")
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_failure_is_told_without_what_it_quotes(form: str):
    """PITFALLS S7. Models that refuse a request quote it, and so do errors of the standard library and of SQLite."""
    stream = io.StringIO()
    configure_logs("learner", env={"METACLAW_LOG": form}, stream=stream)
    log = logging.getLogger("metaclaw.test")
    refused = UpstreamError(f"judge answered 400: {CANARY} is odd", status=400, said=f"{CANARY} is odd")
    wrapped = JudgeError(f"it failed: {refused}; see rl.judge.url")
    wrapped.__cause__ = refused
    log.warning("%s failed: %s", "judging", wrapped)
    log.warning("failed: %s", KeyError(CANARY))
    with pytest.raises(sqlite3.OperationalError) as asked:
        sqlite3.connect(":memory:").execute(f"SELECT {CANARY}".replace("-", "_"))
    log.warning("failed: %s", asked.value)
    log.warning("failed: %s", JournalError("turns.db is locked"))
    told = stream.getvalue()
    assert CANARY not in told
    assert CANARY.replace("-", "_") not in told
    for said in (
        "judging failed: it failed: judge answered 400: ...; see rl.judge.url", "failed: KeyError",
        "failed: OperationalError (SQLITE_ERROR)", "failed: turns.db is locked",
    ):  # fmt: skip
        assert said in told


UNCAUGHT = """
import asyncio, gc, sys, threading
from metaclaw.logs import configure_logs

canary = sys.argv[1]
configure_logs("gateway")

async def fails():
    (b"\\xff" + canary.encode()).decode()

async def main():
    task = asyncio.create_task(fails())
    await asyncio.sleep(0.01)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(int, canary)
    await asyncio.sleep(0.01)

asyncio.run(main())
thread = threading.Thread(target=int, args=(canary,))
thread.start()
thread.join()

class Odd:
    def __del__(self):
        int(canary)

Odd()
int(canary)
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_nobody_catches_is_told_without_what_it_quotes(form: str):
    child = subprocess.run(
        [sys.executable, "-c", UNCAUGHT, CANARY],
        env={**os.environ, "METACLAW_LOG": form}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert child.returncode == 1
    assert CANARY not in child.stderr
    assert (child.stderr.count("ValueError"), child.stderr.count("UnicodeDecodeError")) == (4, 1)
    for told in ("Task exception was never retrieved", "a thread ended", "had nowhere to go", "the process ends"):
        assert told in child.stderr


def test_what_strangers_send_fills_no_log():
    stream = io.StringIO()
    configure_logs("gateway", env={"METACLAW_LOG": "json"}, stream=stream)
    log = logging.getLogger("uvicorn.error")
    for _ in range(100):
        log.warning("Invalid HTTP request received.")
        log.error("Exception in ASGI application")
    lines = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert lines.count("Invalid HTTP request received.") == 1
    assert lines.count("Exception in ASGI application") == 100


def test_a_json_line_is_one_object_whatever_is_in_it():
    stream = io.StringIO()
    configure_logs("engine", env={"METACLAW_LOG": "json"}, stream=stream)
    logging.getLogger("metaclaw.test").warning("two\nlines and %s", "“quotes”")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("something is old", DeprecationWarning, stacklevel=1)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["level"], first["process"], first["message"]) == ("warning", "engine", "two\nlines and “quotes”")
    assert first["time"].endswith("+00:00")
    assert "something is old" in second["message"]


def test_nobody_writes_a_line_of_their_own_into_a_text_log():
    stream = Terminal()
    configure_logs("api", env={}, stream=stream)
    logging.getLogger("metaclaw.test").info("name\n2026-01-01 00:00:00 INFO api metaclaw: all is well")
    assert len(stream.getvalue().splitlines()) == 1


def test_a_terminal_gets_text_and_everything_else_json():
    for stream, is_json in ((Terminal(), False), (io.StringIO(), True)):
        configure_logs("api", env={}, stream=stream)
        logging.getLogger("metaclaw.test").info("hello")
        assert stream.getvalue().startswith("{") is is_json
    with pytest.raises(ConfigError, match="use 'json' or 'text'"):
        configure_logs("api", env={"METACLAW_LOG": "xml"})
