"""The engine as a process: frames in, one command at a time, frames out.

Owns the order of commands (that of arrival) and the job boundary; refuses to know what a command does. Invariant:
every frame is answered exactly once, and no failure of a job ends the process.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

from metaclaw.errors import InvalidRequestError, MetaClawError
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.channel import Channel, Frame
from metaclaw.training.commands import Command, parse_command
from metaclaw.training.engine import Engine, EngineOptions
from metaclaw.training.failures import error_body

_log = logging.getLogger(__name__)


class EngineLoop:
    """Runs an engine on the frames of a channel."""

    def __init__(self, base: LoadedBase, config: dict[str, Any], channel: Channel) -> None:
        known = {field.name for field in fields(EngineOptions)}
        self._engine = Engine(base, EngineOptions(**{key: value for key, value in config.items() if key in known}))
        self._channel = channel

    def run(self) -> None:
        """Serve until the process ends, which the channel does when the parent is gone."""
        while True:
            frame = self._channel.receive()
            if frame is not None:
                self._channel.send({"id": frame["id"]} | self._answer(frame))

    def _answer(self, frame: Frame) -> dict[str, Any]:
        try:
            return {"ok": self._engine.execute(_parse(frame))}
        except MetaClawError as error:
            return {"error": error_body(error)}
        except Exception as error:  # noqa: BLE001 - the job boundary: this job fails, the next one runs
            _log.exception("%s failed", frame.get("op"))
            return {"error": error_body(error)}


def _parse(frame: Frame) -> Command:
    try:
        return parse_command(frame)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(f"the frame is not a command: {error}", param="op") from error
