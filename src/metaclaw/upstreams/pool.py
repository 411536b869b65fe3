"""Several upstreams, each with one or more keys, as one.

Owns who is asked next, after how long, and when to give up; refuses to know what is asked. Invariant: nothing is asked
again once the first byte of an answer has come, and a cancelled turn is no failure of anybody.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError, UpstreamError
from metaclaw.upstreams.credential import Credential, CredentialState
from metaclaw.upstreams.failures import Kind, final_error, kind_of
from metaclaw.upstreams.model_client import NO_HEADERS, ModelClient, Reply

_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 8.0
_MAX_WAIT_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A request as one client is to get it."""

    dialect: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An answer that has begun, and who gives it, in which dialect."""

    reply: Reply
    client: ModelClient
    dialect: str
    attempts: int


Prepare = Callable[[ModelClient], Outbound | None]
Tell = Callable[[JsonObject], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``max_attempts`` over all credentials; no attempt begins ``max_retry_s`` after the first one did."""

    max_attempts: int = 4
    max_retry_s: float = 180.0


class Waiting(Protocol):
    """Time and chance, which tests replace."""

    def now(self) -> float: ...
    def jitter(self, most_s: float) -> float: ...
    def sleep(self, seconds: float) -> Awaitable[None]: ...


class RealWaiting:
    """The machine's own clock."""

    def now(self) -> float:
        return time.monotonic()

    def jitter(self, most_s: float) -> float:
        return random.uniform(0, most_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A client with one key; ``label`` names the setting of that key. A fallback has models that nobody asked for."""

    client: ModelClient
    label: str
    is_fallback: bool = False


class UpstreamPool:
    """Asks the first member that can answer; there is at least one."""

    def __init__(
        self, members: Sequence[Member], *, limits: Limits | None = None, waiting: Waiting | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._waiting = waiting or RealWaiting()
        self.members = tuple(members)
        self._credentials = [Credential(member.client, member.label, self._waiting.now) for member in members]
        self._fallbacks = {id(member.client) for member in members if member.is_fallback}

    @property
    def preferred(self) -> ModelClient:
        """The one that is asked first when all are well."""
        return self.members[0].client

    def is_fallback(self, client: ModelClient) -> bool:
        """Whether ``client`` is only asked in another's stead, so that a model which a client names is not its own."""
        return id(client) in self._fallbacks

    def snapshot(self) -> list[CredentialState]:
        """How every credential fares, in their order."""
        return [credential.state() for credential in self._credentials]

    async def close(self) -> None:
        """End what the members have begun."""
        for member in self.members:
            await member.client.close()

    async def models(self) -> list[JsonObject]:
        """What the first upstream that answers says it has. Raises ``UpstreamError``."""
        failures: list[UpstreamError] = []
        for credential in sorted(self._credentials, key=lambda credential: credential.rank):
            try:
                return await credential.client.models()
            except UpstreamError as error:
                failures.append(error)
        raise final_error(failures, 0.0)

    async def send(self, prepare: Prepare, *, tell: Tell | None = None) -> Sent:
        """Begin an answer. ``prepare`` makes the request for one client; ``None`` leaves that client out.

        ``tell`` gets a line about every attempt, also those that came to nothing.

        Raises ``UpstreamError`` when nobody answers, and as it came what an upstream says of a request that is wrong in
        itself; ``InvalidRequestError`` when nobody can be asked such a thing; whatever ``prepare`` raises.
        """
        turn = _Turn(self._credentials, prepare, self._waiting, tell)
        began = self._waiting.now()
        while credential := turn.next_credential():
            pause_s = turn.pause_s(credential)
            is_late = self._waiting.now() + pause_s > began + self._limits.max_retry_s
            if (turn.num_attempts and is_late) or pause_s > _MAX_WAIT_S:
                break
            if pause_s:
                await self._waiting.sleep(pause_s)
            if sent := await turn.attempt(credential):
                return sent
            if turn.num_attempts >= self._limits.max_attempts:
                break
        raise turn.error()


class _Turn:
    """One turn's attempts."""

    def __init__(
        self, credentials: Sequence[Credential], prepare: Prepare, waiting: Waiting, tell: Tell | None
    ) -> None:
        self._tell = tell
        self._credentials = list(credentials)
        self._prepare = prepare
        self._waiting = waiting
        self._tries: dict[Credential, int] = defaultdict(int)
        self._failures: list[UpstreamError] = []
        self._refused: InvalidRequestError | None = None

    @property
    def num_attempts(self) -> int:
        return sum(self._tries.values())

    def next_credential(self) -> Credential | None:
        """The best one; of those that are as good, one that was tried less, then the first."""
        if not self._tries and self._credentials and self._credentials[0].is_well:
            return self._credentials[0]
        order = {credential: number for number, credential in enumerate(self._credentials)}
        return min(
            self._credentials,
            key=lambda it: (it.available_in_s > 0, it.rank, self._tries[it], self._patience(it), order[it]),
            default=None,
        )

    def pause_s(self, credential: Credential) -> float:
        """How long to wait before asking; nothing when it was not asked yet and may be."""
        backoff_s = 0.0
        if tries := self._tries[credential]:
            backoff_s = self._waiting.jitter(min(_BACKOFF_S * 2 ** (tries - 1), _MAX_BACKOFF_S))
        if left_alone_s := credential.available_in_s:
            backoff_s = left_alone_s + self._waiting.jitter(min(left_alone_s, 1.0))
        elif tries and credential.last_error:
            backoff_s = max(backoff_s, credential.last_error.retry_after_s or 0.0)
        return backoff_s

    async def attempt(self, credential: Credential) -> Sent | None:
        """Ask ``credential``; ``None`` when somebody else may do better."""
        client = credential.client
        outbound = self._prepare(client)
        if outbound is None:
            self._credentials.remove(credential)
            return None
        self._tries[credential] += 1
        end = credential.begin()
        began_at = self._waiting.now()
        try:
            reply = await client.send(outbound.dialect, outbound.body, headers=outbound.headers)
        except UpstreamError as error:
            credential.fail(error)
            self._say(credential, began_at, error.status)
            self._note(credential, error)
            return None
        except InvalidRequestError as error:  # this kind of client cannot be asked that; another may
            self._refused = error
            self._credentials.remove(credential)
            return None
        finally:
            end()
        credential.succeed()
        self._say(credential, began_at, reply.status)
        return Sent(reply=reply, client=client, dialect=outbound.dialect, attempts=self.num_attempts)

    def _say(self, credential: Credential, began_at: float, status: int | None) -> None:
        if self._tell is not None:
            seconds = round(self._waiting.now() - began_at, 4)
            name, label = credential.client.name, credential.label
            self._tell({"upstream": name, "credential": label, "status": status, "seconds": seconds})

    def error(self) -> Exception:
        """What to raise when nobody is left, or it takes too long."""
        available_s = min((credential.available_in_s for credential in self._credentials), default=0.0)
        failures = self._failures or [error for it in self._credentials if (error := it.last_error)]
        if failures:
            return final_error(failures, available_s)
        return self._refused or InvalidRequestError(
            "no configured model can be asked this (llm.dialects says what can)"
        )

    def _patience(self, credential: Credential) -> float:
        return credential.available_in_s or (credential.cooldown_left_s if credential.rank else 0.0)

    def _note(self, credential: Credential, error: UpstreamError) -> None:
        kind = kind_of(error)
        if kind is Kind.REQUEST:
            raise error
        status = f", HTTP {error.status}" if error.status else ""
        _log.warning("%s (%s) did not answer: %s%s", credential.client.name, credential.label, kind, status)
        self._failures.append(error)
        if kind.is_of_key:
            self._credentials.remove(credential)
