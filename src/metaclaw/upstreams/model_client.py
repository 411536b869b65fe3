"""What the gateway needs of a model, wherever it runs.

Owns the two protocols; refuses to know HTTP, child processes or anybody's SDK. Invariant: when ``send`` returns, the
first byte of an accepted answer has come, so whoever holds a ``Reply`` must not ask anywhere else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final, Protocol

from metaclaw.chat.messages import JsonObject

NO_HEADERS: Final[Mapping[str, str]] = {}


class Reply(Protocol):
    """An accepted answer whose first byte has come. Close it, read to the end or not."""

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """What came with it for the client, by names in lower case: those of ``told_headers``."""
        ...

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes; asked again, what has not come yet. Raises ``UpstreamError`` when it breaks."""
        ...

    async def read(self) -> bytes:
        """The whole body. Raises ``UpstreamError`` when it breaks."""
        ...

    async def finish(self) -> None:
        """Let the body end, so that its connection can be used again; not for long, for nothing more is wanted."""
        ...

    def close(self) -> None:
        """Give back what the answer holds; what is not complete is cancelled at the model."""
        ...


class ModelClient(Protocol):
    """One model, or the models of one provider, with one credential."""

    @property
    def name(self) -> str: ...

    @property
    def dialects(self) -> tuple[str, ...]:
        """The dialects that it speaks itself, best first."""
        ...

    @property
    def model_id(self) -> str:
        """What to ask for when the client leaves the choice; empty when nobody configured one."""
        ...

    @property
    def is_strict(self) -> bool:
        """Whether it refuses chat requests with anything that OpenAI's own chat API does not know."""
        ...

    async def send(
        self, dialect: str, body: bytes, *, headers: Mapping[str, str] = NO_HEADERS, is_stream: bool = True
    ) -> Reply:
        """Ask; return once the first byte of an accepted answer is here.

        ``headers`` are the client's own, by names in lower case; the few that mean something to a model are passed on.
        ``is_stream``: what ``body`` asks for, and by it how long the first byte may take. Raises ``UpstreamError``, and
        ``InvalidRequestError`` for what this kind of model cannot be asked.
        """
        ...

    async def models(self) -> list[JsonObject]:
        """What it says it has. Raises ``UpstreamError``."""
        ...

    async def close(self) -> None:
        """End what it has begun, when the program ends."""
        ...
