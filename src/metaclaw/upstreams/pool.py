"""Several models as one.

Owns the order in which they are asked; refuses to know what is asked. Invariant: once the first byte of an answer has
come, nobody else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from metaclaw.upstreams.model_client import ModelClient, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What one model is sent. ``headers`` are the client's own."""

    dialect: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An answer that has begun, in ``dialect``, and whose it is."""

    reply: Reply
    client: ModelClient
    dialect: str


class UpstreamPool:
    """The configured models, the preferred one first."""

    def __init__(self, members: Sequence[ModelClient]) -> None:
        self.members = tuple(members)

    @property
    def name(self) -> str:
        return self.members[0].name

    async def send(self, prepare: Callable[[ModelClient], Outbound]) -> Sent:
        """Ask; ``prepare`` makes what a model is sent. Raises ``UpstreamError`` and what ``prepare`` raises."""
        client = self.members[0]
        outbound = prepare(client)
        reply = await client.send(outbound.dialect, outbound.body, headers=outbound.headers)
        return Sent(reply=reply, client=client, dialect=outbound.dialect)
