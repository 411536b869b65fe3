"""Records from rows of the registry.

Owns the translation of columns into values; refuses to know queries. Invariant: what the registry wrote is read
back as it was.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from metaclaw.training.api.records import (
    Checkpoint,
    CheckpointPath,
    LoraShape,
    SamplingSession,
    Session,
    TrainingRun,
)


def lora_values(lora: LoraShape) -> tuple[int, int, int, int]:
    return lora.rank, int(lora.train_mlp), int(lora.train_attn), int(lora.train_unembed)


def _lora(row: sqlite3.Row) -> LoraShape:
    return LoraShape(
        rank=row["rank"], train_mlp=bool(row["train_mlp"]), train_attn=bool(row["train_attn"]),
        train_unembed=bool(row["train_unembed"]),
    )  # fmt: skip


def session_of(row: sqlite3.Row) -> Session:
    return Session(**{**dict(row), "metadata": json.loads(row["metadata"])})


def training_run_of(row: sqlite3.Row) -> TrainingRun:
    return TrainingRun(
        model_id=row["model_id"], session_id=row["session_id"], lora=_lora(row), metadata=json.loads(row["metadata"]),
        created_at=row["created_at"], last_request_at=row["last_request_at"],
    )  # fmt: skip


def checkpoint_of(row: sqlite3.Row) -> Checkpoint:
    return Checkpoint(
        path=CheckpointPath(model_id=row["model_id"], kind=row["kind"], name=row["name"]),
        directory=Path(row["directory"]),
        lora=_lora(row),
        base_digest=row["base_digest"],
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        is_ephemeral=bool(row["is_ephemeral"]),
        is_public=bool(row["is_public"]),
        metadata=json.loads(row["metadata"]),
    )


def sampling_of(row: sqlite3.Row) -> SamplingSession:
    path = None
    if row["model_id"] is not None:
        path = CheckpointPath(model_id=row["model_id"], kind="sampler_weights", name=row["name"])
    return SamplingSession(sampling_session_id=row["sampling_session_id"], session_id=row["session_id"], path=path)
