"""Requests that offer another protocol, answered in the one that they are written in.

Owns taking the offer out of a head before the parser sees it; refuses to know what is asked. Invariant: nothing but the
name of one header changes, its length does not, and of a body nothing does.

Java's own HTTP client offers HTTP/2 (``Upgrade: h2c``) with each request that is not encrypted. A server may ignore
that (RFC 9110, 7.8), but httptools takes the offer as accepted and loses the body, which left such clients with a 400
(https://github.com/Kludex/uvicorn/issues/2722). None of our servers speaks anything else, WebSockets included.
"""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HINT = b"pgrade"  # nearly no head holds it, and to see that takes some two microseconds
_OFFER = re.compile(rb"(?<=\n)upgrade(?=[ \t]*:)", re.IGNORECASE)
_IGNORED = b"x-offer"  # as long as what it replaces
_HEAD_END = b"\r\n\r\n"


class DecliningHttpProtocol(HttpToolsProtocol):
    """uvicorn's, which takes no upgrade."""

    _is_in_body = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data if self._is_in_body else without_offer(data))

    def on_headers_complete(self) -> None:
        self._is_in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_body = False
        super().on_message_complete()


def without_offer(data: bytes) -> bytes:
    """``data``, which begins within a head, without the offer of another protocol in that head."""
    end = data.find(_HEAD_END)
    end = len(data) if end < 0 else end
    if data.find(_HINT, 0, end) < 0:
        return data
    return _OFFER.sub(_IGNORED, data[:end]) + data[end:]
