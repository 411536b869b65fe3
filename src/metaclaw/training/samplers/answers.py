"""The frames that answer requests.

Owns which requests are open and what they are told; refuses to know batches and memory. Invariant: a request is
answered exactly once, by ``ok`` or ``error``, and ``on_end`` is called exactly then.
"""

# pyright: basic

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from metaclaw.errors import EngineError
from metaclaw.training.failures import error_body
from metaclaw.training.samplers.draw import draw
from metaclaw.training.samplers.requests import Request, Sample
from metaclaw.training.samplers.token_events import TokenEvents
from metaclaw.training.shared_device import is_out_of_memory

Frame = dict[str, Any]

_log = logging.getLogger(__name__)


class Answers:
    """Open requests, and the frames that wait to be sent."""

    def __init__(self, on_end: Callable[[Request], None]) -> None:
        self._on_end = on_end
        self._open: dict[int, Request] = {}
        self._frames: list[Frame] = []
        self.has_ended = False  # some request ended since this was last reset
        self.has_failed = False  # some request failed since this was last reset

    @property
    def is_any_open(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._open)

    def open(self, request: Request) -> None:
        """Expect an answer to ``request``."""
        self._open[request.frame_id] = request

    def find(self, frame_id: int) -> Request | None:
        """An open request."""
        return self._open.get(frame_id)

    def collect(self) -> list[Frame]:
        """The frames made since the last call."""
        frames, self._frames = self._frames, []
        return frames

    def tell_prompt(self, request: Request, event: Frame) -> None:
        """Send the ``prompt`` event."""
        self._frames.append({"id": request.frame_id, **event})

    def take_tokens(self, samples: Sequence[Sample], logits_BV: Tensor) -> list[bool]:
        """Draw a token for every sample and send it; returns which samples have ended."""
        settings = [sample.request.settings for sample in samples]
        try:
            draws = draw(logits_BV, settings, [sample.uniform() for sample in samples])
            tokens = TokenEvents(draws, logits_BV, samples)
        except Exception as error:  # noqa: BLE001 - the job boundary: the loop serves what comes next
            _log.exception("drawing for %d rows failed", len(samples))
            for sample in samples:
                self.fail(sample.request, error)
            return [True] * len(samples)
        return [self._take_token(sample, tokens, row) for row, sample in enumerate(samples)]

    def _take_token(self, sample: Sample, tokens: TokenEvents, row: int) -> bool:
        request = sample.request
        if request.is_over:  # another sample of it has just failed
            return True
        if tokens.is_broken(row):
            self.fail_broken(request)
            return True
        try:
            reason = sample.take(tokens.token(row))
        except Exception as error:  # noqa: BLE001 - the job boundary: a tokenizer may choke on one answer
            self.fail(request, error)
            return True
        self._frames.append({"id": request.frame_id, **tokens.event(row)})
        if reason is not None:
            self.end_sample(sample, reason)
        return reason is not None

    def end_all_samples(self, request: Request) -> None:
        """No sample of ``request`` gets a token."""
        for sample in request.samples:
            self.end_sample(sample, "length")

    def end_sample(self, sample: Sample, reason: str) -> None:
        """Say why ``sample`` ended; the last one ends its request."""
        request = sample.request
        self._frames.append({
            "id": request.frame_id, "event": "finished", "sample": sample.index, "stop_reason": reason,
            "cached_tokens": request.num_cached,
        })  # fmt: skip
        request.num_open -= 1
        if request.num_open == 0:
            self.end(request, {"ok": {}})

    def fail(self, request: Request, error: Exception) -> None:
        """End ``request`` with an error, unless it is over."""
        if not request.is_over:
            _log.warning("generation %d failed: %s: %s", request.frame_id, type(error).__name__, error)
            request.has_failed = self.has_failed = True
            self.end(request, {"error": error_body(_told(error))})

    def fail_broken(self, request: Request) -> None:
        """End ``request`` because its adapter gives no usable logits."""
        who = f"adapter {request.adapter_id!r}" if request.adapter_id else "the base model"
        self.fail(
            request, EngineError(f"{who} gave logits that are not numbers; its weights have diverged or overflow")
        )

    def end(self, request: Request, answer: Frame) -> None:
        """Send the last frame of ``request``."""
        request.is_over = True
        self.has_ended = True
        del self._open[request.frame_id]
        self._frames.append({"id": request.frame_id, **answer})
        self._on_end(request)


def _told(error: Exception) -> Exception:
    if not is_out_of_memory(error):
        return error
    return EngineError(
        "not enough memory for this generation; use a shorter prompt, fewer samples or a smaller max_tokens"
    )
