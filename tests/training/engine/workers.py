"""A real worker process, spoken to over its standard streams."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaclaw.training.commands import Command, command_frame, decode_frame, encode_frame
from tests.training.device import DEVICE

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


class WorkerProcess:
    """One child. ``ready`` is its first answer."""

    def __init__(
        self, folder: Path, *, role: str = "engine", code: str | None = None, arguments: Sequence[str] = (),
        **options: Any,
    ) -> None:  # fmt: skip
        command = ["-m", "metaclaw.training.worker", role] if code is None else ["-c", code, *arguments]
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
        )  # fmt: skip
        self._last_id = 0
        self.send(
            {"id": 0, "op": "start", "base_model": str(folder), "device": DEVICE, "dtype": "float32", "threads": 1}
            | options
        )
        self.ready = self.receive()

    def send(self, frame: dict[str, Any]) -> None:
        body = encode_frame(frame)
        assert self.process.stdin is not None
        self.process.stdin.write(struct.pack("<I", len(body)) + body)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        (length,) = struct.unpack("<I", self.process.stdout.read(4))
        return decode_frame(self.process.stdout.read(length))

    def post(self, command: Command) -> int:
        self._last_id += 1
        self.send(command_frame(self._last_id, command))
        return self._last_id

    def call(self, command: Command) -> dict[str, Any]:
        frame_id = self.post(command)
        answer = self.receive()
        assert answer["id"] == frame_id
        return answer

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.kill()
        self.process.wait(timeout=10)


@contextmanager
def worker(folder: Path, **options: Any) -> Iterator[WorkerProcess]:
    child = WorkerProcess(folder, **options)
    try:
        yield child
    finally:
        child.close()
