"""The training server's policy record, as it comes and as the journal keeps it.

Owns the reading of one; refuses to know who asked for it. Invariant: a sample is kept under the version that the turn
was sent to, and its arrays are the bytes that came.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from metaclaw.journal.turn_records import PolicySample


class SampledBy(Protocol):
    """The version that a turn was sent to; ``model`` is its exact name on the training server."""

    @property
    def agent(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def untrainable(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOrigin:
    """A ``SampledBy`` that was read back."""

    agent: str
    version: int
    model: str
    untrainable: str | None = None


def read_sample(record: Mapping[str, Any], origin: SampledBy) -> PolicySample:
    """The record as the journal keeps it. Raises ``ValueError``, ``TypeError`` or ``KeyError``."""
    return PolicySample(
        agent=origin.agent,
        version=origin.version,
        model=origin.model,
        prompt_tokens=_array(record, "prompt_tokens"),
        tokens=_array(record, "tokens"),
        logprobs=_array(record, "logprobs"),
        logprobs_full=_array(record, "logprobs_full"),
        temperature=float(record["temperature"]),
        top_p=float(record["top_p"]),
        top_k=_stored_int(record["top_k"], "top_k"),
        seed=None if record.get("seed") is None else _stored_int(record["seed"], "seed"),
        stop_reason=str(record["stop_reason"]),
        spans=tuple((str(kind), int(start), int(end)) for kind, start, end in record["spans"]),
        renderer=str(record["renderer"]),
        untrainable=origin.untrainable,
    )


def _array(record: Mapping[str, Any], name: str) -> bytes:
    return base64.b64decode(record[name], validate=True)


def _stored_int(value: object, name: str) -> int:
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} {value!r:.40} is not a whole number of 64 bits, which is what the journal can keep")
    return value
