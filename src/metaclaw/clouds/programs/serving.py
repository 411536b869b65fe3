"""The side of the SDK's interpreter: requests in by standard input, answers out by standard output.

Owns the frames and the threads; refuses to know any SDK. Runs in interpreters that are not ours, of Python 3.10 or
newer, so it imports nothing but the standard library. Invariant: every request is answered exactly once; what the SDK
prints never lands between answers; the process ends when its input does.

A frame is four bytes of length and JSON: ``{"id", "op", ...}`` in, ``{"id", "ok": {...}}`` or
``{"id", "error": {"kind", "message"}}`` out. Arrays are base64 of little-endian float32 or int32.
"""

from __future__ import annotations

import array
import base64
import json
import os
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

LENGTH = struct.Struct("<I")
Operation = Callable[..., "dict[str, Any]"]
# What an error means to whoever asked: the key was not taken, the data can never be taken, there is no such thing, this
# Python has no such SDK.
KINDS = ("key", "data", "absent", "not installed", "failed")


class SdkProblem(Exception):
    """A failure of a known kind."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def serve(make: Callable[[dict[str, Any]], Mapping[str, Operation]], kind_of: Callable[[Exception], str]) -> None:
    """Answer requests until standard input ends, which ends the process.

    ``make`` takes the first frame and returns the operations by name.
    """
    source, sink = sys.stdin.buffer, _own_output()
    lock = threading.Lock()
    operations: Mapping[str, Operation] = {}

    def answer(frame: dict[str, Any], operation: Operation) -> None:
        asked = {key: value for key, value in frame.items() if key not in ("id", "op")}
        try:
            reply: dict[str, Any] = {"ok": operation(**asked)}
        except Exception as error:  # noqa: BLE001 - a job: SDKs raise whatever they like, and who asked is told
            kind = error.kind if isinstance(error, SdkProblem) else kind_of(error)
            reply = {"error": {"kind": kind, "message": str(error) or type(error).__name__}}
        data = json.dumps({"id": frame["id"], **reply}).encode()
        with lock:
            sink.write(LENGTH.pack(len(data)) + data)
            sink.flush()

    def start(**settings: Any) -> dict[str, Any]:
        nonlocal operations
        try:
            operations = make(settings)
        except ImportError as error:
            raise SdkProblem("not installed", str(error)) from error
        return {}

    while (frame := _read(source)) is not None:
        if frame["op"] == "start":
            answer(frame, start)
            continue
        operation = operations.get(frame["op"], _unknown)
        threading.Thread(target=answer, args=(frame, operation), daemon=True).start()
    os._exit(0)  # the SDK's threads may hang in native code, and there is nobody left to tell


def packed(values: Any, code: str) -> str:
    """Numbers as text: ``code`` is ``f`` for float32, ``i`` for int32."""
    numbers = array.array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def unpacked(text: str, code: str) -> list[Any]:
    """The numbers that ``packed`` wrote."""
    numbers: array.array[Any] = array.array(code)
    numbers.frombytes(base64.b64decode(text))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _unknown(**_asked: Any) -> dict[str, Any]:
    raise SdkProblem("failed", "this SDK has no such operation")


def _own_output() -> BinaryIO:
    # Whatever the SDK prints goes to standard error.
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


def _read(source: BinaryIO) -> dict[str, Any] | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    data = source.read(size)
    return json.loads(data) if len(data) == size else None
