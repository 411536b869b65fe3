"""Calendars at a URL: an ICS file, or a CalDAV collection (RFC 4791).

Owns the requests; refuses to know what is in a calendar. Invariant: nothing is asked but the configured URL, and its
text is in no error, because such an address often is the key itself.

One `calendar-query` is all that is needed of CalDAV, so there is no library for it: the usual one brings a package that
takes the place of urllib3 in everybody's environment.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from xml.etree import ElementTree

import aiohttp
from pydantic import SecretStr

from metaclaw.errors import UpstreamError
from metaclaw.upstreams.proxies import ProxyFailedError

_TIMEOUT = aiohttp.ClientTimeout(total=30.0)
_MAX_BYTES = 32 << 20
_DATA = "{urn:ietf:params:xml:ns:caldav}calendar-data"
_QUERY = """<?xml version="1.0" encoding="utf-8"?>
<c:calendar-query xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav">
  <d:prop><c:calendar-data/></d:prop>
  <c:filter><c:comp-filter name="VCALENDAR"><c:comp-filter name="VEVENT">
    <c:time-range start="{start}" end="{end}"/>
  </c:comp-filter></c:comp-filter></c:filter>
</c:calendar-query>
"""


class WebCalendar:
    """One address. Whether it is a file or a collection is what the server says when it is asked first."""

    source = "the calendar at scheduler.calendar.url"

    def __init__(self, session: aiohttp.ClientSession, *, url: SecretStr, username: str, password: SecretStr) -> None:
        self._session = session
        self._url = url.get_secret_value()
        self._headers = {"Accept": "text/calendar, application/xml", "Depth": "1"}
        if username:
            pair = f"{username}:{password.get_secret_value()}".encode()
            self._headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
        self._is_collection: bool | None = None

    async def texts(self, since: float, until: float) -> list[bytes]:
        """The iCalendar data of events between two moments, or more. Raises ``UpstreamError``."""
        try:
            if not self._is_collection:
                body = await self._ask("GET", is_expected=self._is_collection is False)
                self._is_collection = not body.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"BEGIN:VCALENDAR")
                if not self._is_collection:
                    return [body]
            return await self._collected(since, until)
        except ProxyFailedError as error:
            raise UpstreamError(f"{self.source} cannot be read: {error}", status=502) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UpstreamError(f"{self.source} cannot be read: {type(error).__name__}", status=502) from None

    async def _collected(self, since: float, until: float) -> list[bytes]:
        query = _QUERY.format(start=_stamp(since), end=_stamp(until))
        try:
            found = ElementTree.fromstring(await self._ask("REPORT", query))
        except ElementTree.ParseError:
            raise UpstreamError(f"{self.source} is neither an ICS file nor a CalDAV collection", status=502) from None
        return [data.text.encode() for data in found.iter(_DATA) if data.text]

    async def _ask(self, method: str, body: str | None = None, *, is_expected: bool = True) -> bytes:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/xml; charset=utf-8"}
        async with self._session.request(method, self._url, data=body, headers=headers, timeout=_TIMEOUT) as answer:
            if answer.status >= 400:
                if not is_expected and answer.status not in (401, 403, 404):
                    return b""  # a collection that is not to be had as a file
                raise UpstreamError(f"{self.source} answers {answer.status}", status=502)
            read = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                read += chunk
                if len(read) > _MAX_BYTES:
                    raise UpstreamError(f"{self.source} is larger than {_MAX_BYTES >> 20} MB", status=502)
            return bytes(read)


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")
