"""A worker's end of the frames that it exchanges with the API process.

Owns the two private descriptors, the framing (four bytes little-endian length, then one msgpack frame) and the
thread that reads; refuses to know what a frame means. Invariant: nothing but frames is ever written to the
parent, and a worker never outlives its parent.
"""

from __future__ import annotations

import os
import queue
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from metaclaw.training.commands import decode_frame, encode_frame

Frame = dict[str, Any]

_LENGTH = struct.Struct("<I")
_BAD_FRAME_EXIT = 70  # EX_SOFTWARE: the two ends disagree about the protocol


class Channel:
    """Frames in, through a queue; frames out, one writer at a time.

    When the input ends, or the parent no longer reads, ``end_process`` is called from whichever thread noticed.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO, *, end_process: Callable[[int], object] = os._exit) -> None:
        self._source = source
        self._sink = sink
        self._end_process = end_process
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._write_lock = threading.Lock()

    def start(self) -> Channel:
        """Begin reading; returns itself."""
        threading.Thread(target=self._read, name="frames", daemon=True).start()
        return self

    def receive(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame, in order of arrival; ``None`` if none came in time (``timeout_s`` 0 never waits)."""
        try:
            if timeout_s == 0:
                return self._frames.get_nowait()
            return self._frames.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def send(self, frame: Frame) -> None:
        """Write ``frame`` whole. Safe from any thread."""
        body = encode_frame(frame)
        try:
            with self._write_lock:
                self._sink.write(_LENGTH.pack(len(body)) + body)
                self._sink.flush()
        except (BrokenPipeError, ValueError):  # ValueError: the sink was closed under us
            self._end_process(0)

    def end(self, code: int) -> None:
        """End the process at once. What was sent is with the parent."""
        self._end_process(code)

    def _read(self) -> None:
        while (frame := self._read_frame()) is not None:
            self._frames.put(frame)

    def _read_frame(self) -> Frame | None:
        header = self._source.read(_LENGTH.size)
        body = self._source.read(_LENGTH.unpack(header)[0]) if len(header) == _LENGTH.size else b""
        if len(header) < _LENGTH.size or len(body) < _LENGTH.unpack(header)[0]:
            # The parent is gone. Ending at once is safe: a checkpoint becomes visible only by its final rename.
            self._end_process(0)
            return None
        try:
            return decode_frame(body)
        except ValueError as error:
            print(f"metaclaw worker: cannot read a frame of {len(body)} bytes: {error}", file=sys.stderr)  # noqa: T201
            self._end_process(_BAD_FRAME_EXIT)
            return None


def claim_standard_streams() -> Channel:
    """Take standard input and output for frames.

    The descriptors move to private, non-inherited numbers; descriptor 1 becomes standard error and descriptor 0
    the null device, so that a library that prints or reads cannot corrupt the stream.
    """
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return Channel(source, sink).start()
