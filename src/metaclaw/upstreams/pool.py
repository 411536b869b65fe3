"""Several upstreams, each with one or more keys, as one.

Owns who is asked next, after how long, and when to give up; refuses to know what is asked. Invariant: nothing is asked
again once the first byte of an answer has come, and a cancelled turn is no failure of anybody.

What a fallback makes of a request is no verdict on it: it may be smaller, or speak another dialect. A client that is
told 400 gives up, so it hears of the passing trouble of those whom the fallback stands in for instead.

Clients ask again by themselves after what ``Retry-After`` says, and show their user that they wait. So only a short
wish that an upstream has told is waited for here: else a client would hang without knowing why, and its own attempts
times ours would be counted against its limit.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError, UpstreamError
from metaclaw.fixed import fixed
from metaclaw.upstreams.credential import Credential, CredentialState
from metaclaw.upstreams.failures import Kind, final_error, kind_of
from metaclaw.upstreams.model_client import NO_HEADERS, ModelClient, Reply

_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 8.0
_MAX_WISHED_S = 5.0  # of a turn's waits together

_log = logging.getLogger(__name__)


@fixed
class Outbound:
    """A request as one client is to get it."""

    dialect: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    is_stream: bool = True  # what ``body`` asks for


@fixed
class Sent:
    """An answer that has begun, and who gives it, in which dialect."""

    reply: Reply
    client: ModelClient
    dialect: str
    attempts: int


Prepare = Callable[[ModelClient], Outbound | None]
Tell = Callable[[JsonObject], None]
ModelOf = Callable[[ModelClient], str]
Again = Callable[[UpstreamError], bool]


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
        for credential in sorted(self._credentials, key=lambda credential: credential.rank("")):
            try:
                return await credential.client.models()
            except UpstreamError as error:
                failures.append(error)
        raise final_error(failures, 0.0)

    async def send(
        self,
        prepare: Prepare,
        *,
        tell: Tell | None = None,
        model_of: ModelOf | None = None,
        again: Again | None = None,
    ) -> Sent:
        """Begin an answer. ``prepare`` makes the request for one client; ``None`` leaves that client out.

        ``tell`` gets a line about every attempt, also those that came to nothing. ``model_of`` says which model
        ``prepare`` asks a client for; by default its own. ``again`` is asked about the refusal of a request:
        whether ``prepare`` now makes another one for that client. It must not say so for ever.

        Raises ``UpstreamError`` when nobody answers, and as it came what an upstream says of a request that is wrong in
        itself; ``InvalidRequestError`` when nobody can be asked such a thing; whatever ``prepare`` raises.
        """
        turn = _Turn(self._credentials, prepare, self._waiting, tell, model_of or _own_model, self.is_fallback, again)
        began = self._waiting.now()
        while credential := turn.next_credential():
            pause_s = turn.pause_s(credential)
            if pause_s is None:
                break
            if turn.num_attempts and self._waiting.now() + pause_s > began + self._limits.max_retry_s:
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
        self,
        credentials: Sequence[Credential],
        prepare: Prepare,
        waiting: Waiting,
        tell: Tell | None,
        model_of: ModelOf,
        is_fallback: Callable[[ModelClient], bool],
        again: Again | None,
    ) -> None:
        self._tell = tell
        self._again = again
        self._is_fallback = is_fallback
        self._model_of = model_of
        self._wished_s = 0.0
        self._credentials = list(credentials)
        self._prepare = prepare
        self._waiting = waiting
        self._tries: dict[Credential, int] = defaultdict(int)
        self.num_attempts = 0
        self._failures: list[UpstreamError] = []
        self._refused: InvalidRequestError | None = None

    def next_credential(self) -> Credential | None:
        """The best one; of those that are as good, one that was tried less, then the first."""
        if not self._tries and self._credentials and self._credentials[0].is_well:
            return self._credentials[0]
        order = {credential: number for number, credential in enumerate(self._credentials)}
        return min(
            self._credentials,
            key=lambda it: (*self._standing(it), self._tries[it], self._patience(it), order[it]),
            default=None,
        )

    def pause_s(self, credential: Credential) -> float | None:
        """How long to wait before asking; nothing when it may be asked; ``None`` when the client is to wait."""
        if credential.is_well and not self.num_attempts:
            return 0.0
        model = self._model_of(credential.client)
        tries, error = self._tries[credential], credential.last_error(model)
        backoff_s = self._waiting.jitter(min(_BACKOFF_S * 2 ** (tries - 1), _MAX_BACKOFF_S)) if tries else 0.0
        told_s = error.retry_after_s if error and not kind_of(error).is_of_key else None
        if left_alone_s := credential.available_in_s(model):
            is_waited_for = told_s is not None and self._may_wait(left_alone_s)
            return left_alone_s + self._waiting.jitter(min(left_alone_s, 1.0)) if is_waited_for else None
        if not tries or not told_s or told_s <= backoff_s:
            return backoff_s
        return told_s if self._may_wait(told_s) else None

    async def attempt(self, credential: Credential) -> Sent | None:
        """Ask ``credential``; ``None`` when somebody else may do better."""
        client = credential.client
        outbound = self._prepared(client)
        if outbound is None:
            self._credentials.remove(credential)
            return None
        self._tries[credential] += 1
        self.num_attempts += 1
        model = self._model_of(client)
        is_probe = credential.begin(model)
        began_at, reply = self._waiting.now(), None
        try:
            reply = await client.send(
                outbound.dialect, outbound.body, headers=outbound.headers, is_stream=outbound.is_stream
            )
        except UpstreamError as error:
            credential.fail(model, error)
            self._say(credential, began_at, error.status)
            is_mended = kind_of(error) is Kind.REQUEST and self._again is not None and self._again(error)
            if not is_mended:
                self._note(credential, error)
                return None
        except InvalidRequestError as error:  # this kind of client cannot be asked that; another may
            self._refused = error
            self._credentials.remove(credential)
            return None
        finally:
            if is_probe:
                credential.end_probe()
        if reply is None:
            return await self.attempt(credential)
        credential.succeed(model)
        self._say(credential, began_at, reply.status)
        return Sent(reply=reply, client=client, dialect=outbound.dialect, attempts=self.num_attempts)

    def _prepared(self, client: ModelClient) -> Outbound | None:
        try:
            return self._prepare(client)
        except InvalidRequestError as error:
            if not self._stands_in(client):
                raise
            self._refused = error
            return None

    def _stands_in(self, client: ModelClient) -> bool:
        """Whether ``client`` is asked only because others are in trouble that passes."""
        if not self._is_fallback(client):
            return False
        others = (it.last_error(self._model_of(it.client)) for it in self._credentials if it.client is not client)
        return any(not kind_of(error).is_of_key for error in (*self._failures, *filter(None, others)))

    def _say(self, credential: Credential, began_at: float, status: int | None) -> None:
        if self._tell is not None:
            seconds = round(self._waiting.now() - began_at, 4)
            name, label = credential.client.name, credential.label
            self._tell({"upstream": name, "credential": label, "status": status, "seconds": seconds})

    def error(self) -> Exception:
        """What to raise when nobody is left, or it takes too long."""
        waits_s = (it.available_in_s(self._model_of(it.client)) for it in self._credentials)
        available_s = min(waits_s, default=0.0)
        refused = [error for error in self._failures if kind_of(error) is Kind.REQUEST]
        known = [error for it in self._credentials if (error := self._known(it))]
        if len(refused) < len(self._failures):
            return final_error(self._failures, available_s)
        if known:
            return final_error([*known, *refused], available_s)
        if refused:
            return refused[0]
        return self._refused or InvalidRequestError(
            "no configured model can be asked this (llm.dialects says what can)"
        )

    def _known(self, credential: Credential) -> UpstreamError | None:
        """Why it was not asked at all: what it said to a turn before."""
        model = self._model_of(credential.client)
        error = credential.last_error(model)
        if error is None:
            return None
        is_told = error.retry_after_s is not None and not kind_of(error).is_of_key
        left_s = credential.cooldown_left_s(model) if is_told else credential.available_in_s(model)
        message = f"{error} (it is left alone for another {math.ceil(left_s)} s)"
        return UpstreamError(message, status=error.status, retry_after_s=left_s, detail=error.detail, said=error.said)

    def _may_wait(self, seconds: float) -> bool:
        if self._wished_s + seconds > _MAX_WISHED_S:
            return False
        self._wished_s += seconds
        return True

    def _standing(self, credential: Credential) -> tuple[bool, int]:
        model = self._model_of(credential.client)
        return credential.available_in_s(model) > 0, credential.rank(model)

    def _patience(self, credential: Credential) -> float:
        model = self._model_of(credential.client)
        cooldown_s = credential.cooldown_left_s(model) if credential.rank(model) else 0.0
        return credential.available_in_s(model) or cooldown_s

    def _note(self, credential: Credential, error: UpstreamError) -> None:
        kind = kind_of(error)
        if kind is Kind.REQUEST:
            if not self._stands_in(credential.client):
                raise error
            self._credentials.remove(credential)
        status = f", HTTP {error.status}" if error.status else ""
        _log.warning("%s (%s) did not answer: %s%s", credential.client.name, credential.label, kind, status)
        self._failures.append(error)
        if kind.is_of_key:
            self._credentials.remove(credential)


def _own_model(client: ModelClient) -> str:
    return client.model_id
