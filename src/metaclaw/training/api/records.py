"""What the training server remembers: the rows of its registry as values.

Owns the records, ``tinker://`` paths and checkpoint names; refuses to know SQL and the protocol's JSON. Invariant:
a ``CheckpointPath`` has exactly three safe parts, so that it can be a folder and a URL segment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from metaclaw.errors import InvalidRequestError

Kind = Literal["weights", "sampler_weights", "external_weights"]

_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9._@-]{0,127}")
_SCHEME = "tinker://"
_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraShape:
    """What an adapter consists of."""

    rank: int
    train_mlp: bool = True
    train_attn: bool = True
    train_unembed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One client program."""

    session_id: str
    created_at: float
    seen_at: float
    finished_at: float | None
    display_name: str | None
    metadata: dict[str, Any]
    owner: str = ""  # the id of a tenant's key; "" is the server's own


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One adapter in training, alive or not."""

    model_id: str
    session_id: str
    lora: LoraShape
    metadata: dict[str, Any]
    created_at: float
    last_request_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPath:
    """``tinker://<model_id>/<kind>/<name>``."""

    model_id: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.model_id}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: CheckpointPath
    directory: Path
    lora: LoraShape
    base_digest: str
    size_bytes: int
    created_at: float
    expires_at: float | None
    is_ephemeral: bool  # made for one sampling session: usable through it, listed nowhere
    is_public: bool
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSession:
    """What a sampling client samples from; ``path`` of ``None`` is the base model."""

    sampling_session_id: str
    session_id: str
    path: CheckpointPath | None


def checkpoint_name(value: str) -> str:
    """``value`` as the name of a checkpoint, or ``InvalidRequestError``."""
    if not _NAME.fullmatch(value) or ".." in value:
        raise InvalidRequestError(
            f"checkpoint name {value[:140]!r} is not valid: use 1-128 letters, digits, '.', '_', '@' or '-', "
            "without '/' or '..' and not starting with '.' or '-'"
        )
    return value


def parse_path(value: str) -> CheckpointPath:
    """A ``tinker://`` path, or ``InvalidRequestError`` that shows the form."""
    parts = value.removeprefix(_SCHEME).split("/")
    if not value.startswith(_SCHEME) or len(parts) != 3 or parts[1] not in _KINDS:
        raise InvalidRequestError(
            f"{value[:200]!r} is not a checkpoint path; it reads tinker://<model_id>/<{'|'.join(_KINDS)}>/<name>"
        )
    return CheckpointPath(model_id=parts[0], kind=_KINDS[parts[1]], name=checkpoint_name(parts[2]))
