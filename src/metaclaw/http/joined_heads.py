"""A connection on which the head of an answer goes out with the first of its body.

Owns holding back a head until the body begins, at the latest until the next round of the loop; refuses to know HTTP
beyond how a head begins. Invariant: the bytes and their order are those that were written.

A server writes the two one after the other, and each write of its own costs a system call and wakes the client.
"""

from __future__ import annotations

import asyncio
from typing import Any

_HEAD = b"HTTP/1.1 "


class JoinedHeads(asyncio.Transport):
    """Stands before the real transport."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.transport.write(b"".join((held, data)))
        elif isinstance(data, bytes) and data.startswith(_HEAD):
            self._held = data
            self._loop.call_soon(self.release)
        else:
            self.transport.write(data)

    def close(self) -> None:
        self.release()
        self.transport.close()

    def abort(self) -> None:
        self._held = b""
        self.transport.abort()

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    def is_reading(self) -> bool:
        return self.transport.is_reading()

    def get_write_buffer_size(self) -> int:
        return self.transport.get_write_buffer_size() + len(self._held)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.transport.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.transport.get_protocol()

    def release(self) -> None:
        """Write what is held back."""
        if self._held:
            held, self._held = self._held, b""
            self.transport.write(held)
