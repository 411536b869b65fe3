"""The engine as a process: frames in, steps of commands in fair order, frames out.

Owns the job boundary and what becomes of abandoned jobs; refuses to know what a command does and whose turn it is.
Invariant: every frame is answered exactly once, and no failure of a job ends the process, unless the device is lost.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import torch

from metaclaw.errors import InvalidRequestError, MetaClawError
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.channel import Channel, Frame
from metaclaw.training.commands import Cancel, Command, ForwardBackward, parse_command
from metaclaw.training.engine import Engine, EngineOptions
from metaclaw.training.failures import error_body
from metaclaw.training.fair_queue import FairQueue, Job
from metaclaw.training.shared_device import IDLE_S, check_device, give_back

_SHORT_COST = 64  # in tokens: about what a step of a rank-16 adapter, or saving it, takes beside a pass on a CPU

_log = logging.getLogger(__name__)


class _CancelledError(Exception):
    """Raised inside the work that is to be abandoned."""


class EngineLoop:
    """Runs an engine on the frames of a channel."""

    def __init__(
        self, base: LoadedBase, config: dict[str, Any], channel: Channel,
        *, check: Callable[[torch.device], None] = check_device, rest: Callable[[torch.device], None] = give_back,
    ) -> None:  # fmt: skip
        known = {field.name for field in fields(EngineOptions)}
        self.engine = Engine(base, EngineOptions(**{key: value for key, value in config.items() if key in known}))
        self._channel = channel
        self._check, self._rest = partial(check, base.device), partial(rest, base.device)
        self._queue = FairQueue()
        self._running: Job | None = None
        self._early: deque[Frame] = deque()  # taken in during a step, to be accepted after it
        self.engine.interrupt = self._look_for_its_end

    def run(self) -> None:
        """Serve until the process ends, which the channel does when the parent is gone. Raises ``DeviceLostError``."""
        while True:
            self.advance()

    def advance(self) -> None:
        """Take in the frames that came, waiting for one if there is nothing to do; then one step of one job."""
        frame = self._receive(0 if len(self._queue) else IDLE_S)
        if frame is None and not len(self._queue):
            self._rest()
            frame = self._receive(None)
        while frame is not None:
            self._accept(frame)
            frame = self._receive(0)
        job = self._queue.next()
        if job is not None:
            self._step(job, lambda: next(job.work))

    def _receive(self, timeout_s: float | None) -> Frame | None:
        return self._early.popleft() if self._early else self._channel.receive(timeout_s)

    def _look_for_its_end(self) -> None:
        """Called in the middle of a micro-batch: end the pass that runs if a frame says so."""
        job = self._running
        if job is None or job.is_short:
            return
        while (frame := self._channel.receive(0)) is not None:
            self._early.append(frame)
            if frame.get("op") == Cancel.op and frame.get("target") == job.frame_id:
                raise _CancelledError

    def _accept(self, frame: Frame) -> None:
        try:
            command = _parse(frame)
        except MetaClawError as error:
            self._channel.send({"id": frame["id"], "error": error_body(error)})
            return
        if isinstance(command, Cancel):
            self._cancel(command.target)
            self._channel.send({"id": frame["id"], "ok": {}})
            return
        job = Job(
            frame_id=frame["id"],
            share=str(frame.get("share", "")),
            model_id=str(getattr(command, "model_id", "")),
            is_short=not isinstance(command, ForwardBackward),
            op=command.op,
            work=self.engine.work(command),
        )
        self._queue.add(job)

    def _cancel(self, target: int) -> None:
        """Abandon a pass. Short commands run to their end: they would be done before it is clear that they are not."""
        job = self._queue.find(target)
        if job is not None and not job.is_short:
            self._step(job, lambda: job.work.throw(_CancelledError()))

    def _step(self, job: Job, step: Callable[[], int]) -> None:
        self._running, has_failed = job, False
        try:
            self._queue.charge(job, step())
            return
        except StopIteration as end:
            answer: dict[str, Any] = {"ok": end.value}
        except _CancelledError:
            answer = {"ok": {"cancelled": True}}
        except MetaClawError as error:
            answer = {"error": error_body(error)}
        except Exception as error:  # noqa: BLE001 - the job boundary: this job fails, the next one runs
            _log.exception("%s failed", job.op)
            answer, has_failed = {"error": error_body(error)}, True
        finally:
            self._running = None
        self._queue.charge(job, _SHORT_COST)
        self._queue.remove(job)
        self._channel.send({"id": job.frame_id} | answer)
        if has_failed:
            self._check()


def _parse(frame: Frame) -> Command:
    try:
        return parse_command(frame)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(f"the frame is not a command: {error}", param="op") from error
