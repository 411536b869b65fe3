"""The learner's process: ``python -m metaclaw.learner``, with one line of settings on standard input.

Owns what lives as long as the process; refuses to know how anything is learned. Invariant: it ends when its standard
input does, because then its parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from metaclaw.config import Settings
from metaclaw.config_file import parse_settings
from metaclaw.errors import MetaClawError, ProcessError
from metaclaw.journal.database import may_pass_by_itself
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.paid_calls import CallBook
from metaclaw.learner.assembly import Shared, jobs_for
from metaclaw.learner.jobs import run_jobs
from metaclaw.learner.judges.loading import load_judge, spending_of
from metaclaw.learner.threads import call_in_thread
from metaclaw.locks import LockedError, exclusive_lock
from metaclaw.logs import configure_logs
from metaclaw.processes.instance import ready_path
from metaclaw.proxy_variables import exempt_this_machine
from metaclaw.upstreams.session import new_session

_log = logging.getLogger("metaclaw.learner")

_LAST_CALLS_S = 10.0


def main() -> int:
    """Learn until standard input ends; 0 then, 2 when the settings cannot work, 1 when the disk does not now."""
    try:
        configure_logs("learner")
        exempt_this_machine(os.environ)  # for the Tinker SDK
        logging.getLogger("tinker").setLevel(logging.WARNING)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        asyncio.run(_until_parent_is_gone(parse_settings(sys.stdin.readline())))
    except MetaClawError as error:
        _log.error("%s", error)
        return 1 if may_pass_by_itself(error) else 2
    return 0


async def _until_parent_is_gone(settings: Settings) -> None:
    learning = asyncio.create_task(_learn(settings))
    parent = asyncio.create_task(call_in_thread(_read_to_end, timeout_s=None))
    await asyncio.wait({learning, parent}, return_when=asyncio.FIRST_COMPLETED)
    if parent.done():
        learning.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await learning


async def _learn(settings: Settings) -> None:
    with _only_learner(settings.learning_db), LearningJournal.open(settings.learning_db) as journal:
        recovery = journal.recover()
        if recovery.updates:
            _log.warning("%d unfinished updates aborted, %d samples pending again", recovery.updates, recovery.samples)
        if recovery.weights:
            _log.info("what %d unfinished updates saved at the trainer, if they did, is deleted", recovery.weights)
        async with new_session() as session, contextlib.AsyncExitStack() as closing:
            book = CallBook.open(settings.learning_db)
            closing.callback(book.close)
            spending = spending_of(settings.rl.judge, book, settings.home)
            shared = Shared(
                settings=settings,
                journal=journal,
                session=session,
                judge=load_judge(settings.rl.judge, session, home=settings.home, spending=spending),
                closing=closing,
                spending=spending,
            )
            jobs = jobs_for(shared)
            async with _calls_in_threads():
                with exclusive_lock(ready_path(settings.home), wait=True):  # the settings can work: all of it is made
                    await run_jobs(jobs)


@contextlib.asynccontextmanager
async def _calls_in_threads() -> AsyncGenerator[None]:
    """Leaving it waits for the calls that jobs began in threads.

    What they use is closed next, and SQLite ends the process when a connection is closed under a call.
    """
    loop, calls = asyncio.get_running_loop(), ThreadPoolExecutor(thread_name_prefix="job")
    loop.set_default_executor(calls)
    try:
        yield
    finally:
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="closing"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CALLS_S):
                await asyncio.to_thread(calls.shutdown, cancel_futures=True)


@contextlib.contextmanager
def _only_learner(learning_db: Path) -> Generator[None]:
    # The supervisor allows one instance a home, but not everyone who starts this module by hand asks it. A second
    # learner would take the updates of the first for unfinished ones, and train their samples again.
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(learning_db.with_suffix(".lock"), wait=False))
        except LockedError:
            raise ProcessError(f"another learner already writes {learning_db}; end it first") from None
        yield


def _read_to_end() -> None:
    # Not through sys.stdin: a thread that waits in its lock would abort the interpreter's shutdown.
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    # Not sys.exit: the SDK's native threads may still run, and a daemon thread that Python unwinds inside native code
    # aborts the process ("FATAL: exception not rethrown"). Everything durable was committed and closed above.
    os._exit(exit_code)
