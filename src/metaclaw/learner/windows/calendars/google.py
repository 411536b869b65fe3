"""Busy time from Google Calendar.

Owns the one question that is asked of it (`freeBusy`: no titles, no guests) and its token; refuses to know when it is
asked. Invariant: the token is in a file of mode 0600 and allows reading calendars alone.

Needs the `scheduler` extra; loaded through ``metaclaw.extras``.
"""

# pyright: basic

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from google_auth_oauthlib.flow import InstalledAppFlow

from metaclaw.errors import ConfigError, UpstreamError
from metaclaw.learner.windows.spans import Span, joined
from metaclaw.upstreams.proxies import ProxyFailedError

SCOPES = ["https://www.googleapis.com/auth/calendar.readonly"]  # what tokens of older releases are for
URL = "https://www.googleapis.com/calendar/v3/freeBusy"
_TIMEOUT = aiohttp.ClientTimeout(total=30.0)


class GoogleCalendar:
    """The primary calendar of whoever logged in."""

    source = "Google Calendar"

    def __init__(self, session: aiohttp.ClientSession, *, token: Path, url: str = URL) -> None:
        self._session = session
        self._token = token
        self._url = url

    async def busy(self, since: float, until: float) -> list[Span]:
        """When it is busy. Raises ``ConfigError`` before a login, ``UpstreamError`` when Google does not answer."""
        credentials = await asyncio.to_thread(self._credentials)
        query = {"timeMin": _stamp(since), "timeMax": _stamp(until), "items": [{"id": "primary"}]}
        headers = {"Authorization": f"Bearer {credentials.token}"}
        try:
            async with self._session.post(self._url, json=query, headers=headers, timeout=_TIMEOUT) as answer:
                if answer.status != 200:
                    raise UpstreamError(f"{self.source} answers {answer.status}", status=502)
                found = await answer.json()
            spans = found["calendars"]["primary"]["busy"]
            return joined(Span(start=_moment(span["start"]), end=_moment(span["end"])) for span in spans)
        except ProxyFailedError as error:
            raise UpstreamError(f"{self.source} cannot be read: {error}", status=502) from None
        except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError) as error:
            raise UpstreamError(f"{self.source} cannot be read: {type(error).__name__}", status=502) from None

    def _credentials(self) -> Credentials:
        if not self._token.exists():
            raise ConfigError(f"{self.source}: nobody logged in; run `metaclaw scheduler login`")
        try:
            credentials = Credentials.from_authorized_user_file(str(self._token), SCOPES)
            if not credentials.valid:
                credentials.refresh(Request())
                keep(credentials, self._token)
        except (GoogleAuthError, ValueError) as error:
            raise ConfigError(
                f"{self.source}: the login of {self._token} is no longer good ({type(error).__name__}); "
                "run `metaclaw scheduler login`"
            ) from None
        return credentials


def log_in(client: Path, token: Path) -> None:
    """Ask the user, in a browser, for leave to read the calendar. Raises ``ConfigError`` without the client's file."""
    try:
        flow = InstalledAppFlow.from_client_secrets_file(str(client), SCOPES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"scheduler.calendar.credentials_path: {client} is no OAuth client's file: {error}") from None
    keep(flow.run_local_server(host="127.0.0.1", port=0), token)


def keep(credentials: Any, token: Path) -> None:
    """Write ``credentials`` down."""
    temporary = token.with_name(f".{token.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(credentials.to_json())
    temporary.replace(token)


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
