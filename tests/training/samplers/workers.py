"""A sampler as a child process, talked to as the API process does."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

from metaclaw.training.commands import Command, LoadAdapter, command_frame, decode_frame, encode_frame
from tests.training.device import DEVICE
from tests.training.samplers.adapters import publish
from tests.training.samplers.loops import Answer, Answers

_LENGTH = struct.Struct("<I")
_PATIENCE_S = 60


class SamplerProcess:
    """``python -m metaclaw.training.worker sampler``; frames by standard input and output."""

    def __init__(self, base: Path, **config: Any) -> None:
        self.answers = Answers()
        self._news = threading.Condition()
        self._ids = count(1)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metaclaw.training.worker", "sampler"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._write({"id": 0, "op": "start", "base_model": str(base), "device": DEVICE, "dtype": "float32", **config})
        self.ready = self.wait(0).end["ok"]

    def post(self, command: Command) -> int:
        frame_id = next(self._ids)
        self._write(command_frame(frame_id, command))
        return frame_id

    def wait(self, frame_id: int) -> Answer:
        return self.wait_until(frame_id, lambda answer: answer.end is not None)

    def wait_until(self, frame_id: int, condition) -> Answer:
        with self._news:
            arrived = self._news.wait_for(lambda: condition(self.answers.by_id[frame_id]), timeout=_PATIENCE_S)
            assert arrived, f"nothing came for {frame_id}"
            return self.answers.by_id[frame_id]

    def ask(self, command: Command) -> Answer:
        return self.wait(self.post(command))

    def load(self, adapter_id: str, adapter: Path, folder: Path) -> Answer:
        directory = publish(adapter, folder / adapter_id, self.ready["base_digest"])
        return self.ask(LoadAdapter(adapter_id=adapter_id, directory=str(directory)))

    def close(self) -> int:
        """End the child as its parent's death would; returns its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(timeout=_PATIENCE_S)
        self._reader.join(timeout=_PATIENCE_S)
        self.process.stdout.close()
        return code

    def _write(self, frame: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        body = encode_frame(frame)
        self.process.stdin.write(_LENGTH.pack(len(body)) + body)
        self.process.stdin.flush()

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while len(header := stream.read(_LENGTH.size)) == _LENGTH.size:
            frame = decode_frame(stream.read(_LENGTH.unpack(header)[0]))
            with self._news:
                self.answers.take(frame)
                self._news.notify_all()
