"""Asking an endpoint to go on from tokens, or about them.

Owns sending one request to ``/v1/completions`` and reading its only choice; refuses to know what is asked and what the
answer must hold. Invariant: a prompt goes out as token ids, nothing is rendered again, and whatever fails is an error
of the kind that the caller named, with tokens that the endpoint does not take told apart from one that is away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.errors import BackendError, UpstreamError
from metaclaw.upstreams.http_model import HttpModel

_DIALECT = "openai.completions"
REFUSES_THIS = (400, 413, 422)  # another prompt may do


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """What a caller wants raised: ``refused`` is about this prompt alone. ``doing`` begins every message."""

    doing: str
    failed: type[BackendError]
    refused: type[BackendError]

    def of(self, error: UpstreamError) -> BackendError:
        kind = self.refused if error.status in REFUSES_THIS else self.failed
        return kind(f"{self.doing}: {error}")

    def because(self, why: str) -> BackendError:
        return self.failed(f"{self.doing}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """``choice`` is the first and only one; ``answer`` is all that came."""

    choice: JsonObject
    answer: JsonObject


class Completions:
    """One endpoint."""

    def __init__(self, upstream: HttpModel, failures: Failures) -> None:
        self._upstream = upstream
        self._failures = failures
        self._base_name: str | None = None

    @property
    def name(self) -> str:
        return self._upstream.name

    async def complete(self, model: str | None, prompt: Sequence[int], **asked: object) -> Completion:
        """What ``model`` (``None``: the first that the endpoint lists) answers. Raises as its ``Failures`` say."""
        body = {"model": model or await self.base_name(), "prompt": list(prompt), **asked}
        try:
            reply = await self._upstream.send(_DIALECT, json.dumps(body, separators=(",", ":")).encode())
            try:
                raw = await reply.read()
            finally:
                reply.close()
        except UpstreamError as error:
            if model is None:  # by this name it may be no more: the endpoint may have been started with another one
                self._base_name = None
            raise self._failures.of(error) from error
        try:
            answer = object_or_none(json.loads(raw))
        except ValueError as error:
            raise self._failures.because(f"{self.name} answered with something that is not JSON") from error
        listed: object = None if answer is None else answer.get("choices")
        choice = object_or_none(cast("list[object]", listed)[0]) if isinstance(listed, list) and listed else None
        if answer is None or choice is None:
            raise self._failures.because(f"{self.name} answered without a choice")
        return Completion(choice=choice, answer=answer)

    async def base_name(self) -> str:
        """The first model that it lists; asked for once, as long as it is there. Raises as its ``Failures`` say."""
        if self._base_name is None:
            try:
                names = [model.get("id") for model in await self._upstream.models()]
            except UpstreamError as error:
                raise self._failures.of(error) from error
            if not names or not isinstance(names[0], str):
                raise self._failures.because(f"{self.name} lists no model")
            self._base_name = names[0]
        return self._base_name
