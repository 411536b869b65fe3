"""A sampler loop in this process, driven step by step: frames go in and out through lists."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaclaw.training.base_model import load_base
from metaclaw.training.commands import Command, Generate, LoadAdapter, command_frame, decode_frame, encode_frame
from metaclaw.training.samplers.process import SamplerLoop
from tests.training.device import DEVICE
from tests.training.samplers.adapters import publish

Frame = dict[str, Any]


@dataclass
class Answer:
    """Everything that one command was told."""

    events: list[Frame] = field(default_factory=list)
    end: Frame | None = None

    def tokens(self, sample: int = 0) -> list[int]:
        return [int(token) for event in self._tokens(sample) for token in event["tokens"]]

    def column(self, name: str, sample: int = 0) -> np.ndarray:
        parts = [event[name] for event in self._tokens(sample)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def stop_reason(self, sample: int = 0) -> str:
        (event,) = (e for e in self.events if e["event"] == "finished" and e["sample"] == sample)
        return event["stop_reason"]

    @property
    def prompt(self) -> Frame:
        (event,) = (event for event in self.events if event["event"] == "prompt")
        return event

    @property
    def error(self) -> Frame:
        assert self.end is not None, "still running"
        return self.end["error"]

    def _tokens(self, sample: int) -> list[Frame]:
        return [event for event in self.events if event["event"] == "tokens" and event["sample"] == sample]


class Answers:
    """Sorts a worker's frames by the command that they answer, and holds each to the protocol."""

    def __init__(self) -> None:
        self.by_id: dict[int, Answer] = defaultdict(Answer)

    def take(self, frame: Frame) -> None:
        answer = self.by_id[frame["id"]]
        assert answer.end is None, f"a frame after the end of {frame['id']}: {frame}"
        if "event" in frame:
            answer.events.append(frame)
        else:
            answer.end = frame


class LocalLoop:
    """``SamplerLoop`` without a process. Every frame goes through the real encoding."""

    def __init__(self, base: Path, **config: Any) -> None:
        self.answers = Answers()
        self.order: list[int] = []  # ids of the frames as they were sent
        self._inbox: deque[bytes] = deque()
        self._ids = count(1)
        self.base = load_base(base, device=DEVICE, dtype="float32")
        self.loop = SamplerLoop(self.base, config, self)

    def receive(self, timeout_s: float | None = None) -> Frame | None:
        assert self._inbox or timeout_s == 0, "the loop would wait for ever"
        return decode_frame(self._inbox.popleft()) if self._inbox else None

    def send(self, frame: Frame) -> None:
        self.order.append(frame["id"])
        self.answers.take(decode_frame(encode_frame(frame)))

    def post(self, command: Command) -> int:
        frame_id = next(self._ids)
        self.post_frame(command_frame(frame_id, command))
        return frame_id

    def post_frame(self, frame: Frame) -> None:
        self._inbox.append(encode_frame(frame))

    def turn(self, times: int = 1) -> None:
        with torch.inference_mode():
            for _ in range(times):
                self.loop.turn()

    def run(self, *frame_ids: int, until: Callable[[], bool] | None = None) -> list[Answer]:
        """Turn until the commands have ended (or ``until``)."""
        for _ in range(3000):
            if until() if until else all(self.answers.by_id[i].end for i in frame_ids):
                return [self.answers.by_id[i] for i in frame_ids]
            self.turn()
        raise AssertionError("the loop does not come to an end")

    def ask(self, command: Command) -> Answer:
        return self.run(self.post(command))[0]

    def load(self, adapter_id: str, adapter: Path, folder: Path) -> Answer:
        directory = publish(adapter, folder / adapter_id, self.base.ready.base_digest)
        return self.ask(LoadAdapter(adapter_id=adapter_id, directory=str(directory)))


def generate(prompt: str | list[int] | np.ndarray, adapter_id: str | None = None, **options: Any) -> Generate:
    """A greedy ``Generate`` that never stops early unless ``options`` say otherwise. Text is its bytes."""
    tokens = list(prompt.encode()) if isinstance(prompt, str) else prompt
    settings = {"temperature": 0.0, "stop_tokens": (), **options}
    return Generate(adapter_id=adapter_id, prompt=np.asarray(tokens, dtype=np.int32), **settings)
