"""How much of a request is taken that nobody has asked for, and how long it may take.

Owns the limits on what comes before a body, and on what comes of it after the answer, at the one place where it can be
cut off: while it is being read; and how long an answer may lie unread. Refuses to know what a header means.

Invariant: a connection costs no more memory than ``MAX_HEAD_BYTES`` and lives no longer than ``HEAD_TIMEOUT_S`` before
a whole head has come, whoever it is from; the rest of a request that is answered already, because it is too large for
example, is read and dropped within limits; and a client that reads nothing for ``UNREAD_TIMEOUT_S`` has left.
"""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from itertools import chain

from metaclaw.http.declined_upgrades import DecliningHttpProtocol
from metaclaw.http.patient_closing import PatientTransport

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
HEAD_TIMEOUT_S = 20.0
MAX_REST_BYTES = 64 * 1024 * 1024
REST_TIMEOUT_S = 5.0
# Longer than any client keeps an idle connection (httpx: 5 s, which is uvicorn's default as well: whoever closes first
# by a hair cuts off the other's next request).
KEEP_ALIVE_S = 75
UNREAD_TIMEOUT_S = 300.0  # a program that stands at a breakpoint may come back

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Dropped(list[tuple[bytes, bytes]]):
    """Where fields after a chunked body go: uvicorn takes them for headers, and there may be any number of them."""

    def append(self, _field: tuple[bytes, bytes], /) -> None:
        """Forget it: who asks was said before the body, and was looked at then."""


class LimitedHttpProtocol(DecliningHttpProtocol):
    """Ours, with limits."""

    _head_bytes = 0
    _is_in_head = True  # also before the first byte of a connection
    _is_in_request = False
    _head_timer: TimerHandle | None = None
    _rest_bytes = 0
    _rest_timer: TimerHandle | None = None
    _unread_timer: TimerHandle | None = None
    _patient: PatientTransport

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._patient = PatientTransport(transport, self.loop, self._begin_rest)
        super().connection_made(self._patient)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What is sent lies unread: it is more than the system and the transport hold."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self._stop_waiting_for_reader()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._rest_timer is not None:
            self._rest_bytes += len(data)
            if self._rest_bytes > MAX_REST_BYTES:
                self._patient.finish()
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse()
            elif self._head_timer is None:  # it has begun, and nearly always it is whole at once
                self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._is_in_request, self._head_bytes = True, True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_timers()
        num_bytes = len(self.url) + sum(map(len, chain.from_iterable(self.headers)))
        if len(self.headers) > MAX_HEADERS or num_bytes > MAX_HEAD_BYTES:
            self._refuse()
        else:
            super().on_headers_complete()
        self.headers = _Dropped()  # the scope has its own

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_request = False
        if not self.transport.is_closing():
            self._stop_timers()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._begin_rest()
        super().on_response_complete()

    def _begin_rest(self) -> bool:
        """Whether a part of the request is still to come; it has some time for that."""
        if self._is_in_request and self._rest_timer is None:
            self._rest_bytes = 0
            self._rest_timer = self.loop.call_later(REST_TIMEOUT_S, self._patient.finish)
        return self._is_in_request

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _give_up(self) -> None:
        self._head_timer = None
        self._patient.finish()

    def _wait_for_reader(self) -> None:
        unread = self._patient.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self._look_at_reader, unread)

    def _look_at_reader(self, unread_before: int) -> None:
        # Writing goes on only when nearly all of it was read: of a large answer, by a slow line, that takes long.
        if self._patient.get_write_buffer_size() < unread_before:
            self._wait_for_reader()
        else:
            self._patient.abort()

    def _stop_waiting_for_reader(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _stop_timers(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
