"""How a worker tells the API process that a job failed, and what ends the worker itself.

Owns which errors are the caller's fault; refuses to know HTTP. Invariant: an error we did not foresee is never
blamed on the caller.
"""

from __future__ import annotations

from typing import Any

from metaclaw.errors import (
    CheckpointError,
    ConflictError,
    EngineError,
    InvalidRequestError,
    MetaClawError,
    NotFoundError,
)

_CALLER_FAULTS = (InvalidRequestError, NotFoundError, ConflictError, CheckpointError)


class DeviceLostError(EngineError):
    """Nothing more can be done on the device in this process. No job is answered with it."""


def error_body(error: Exception) -> dict[str, Any]:
    """The ``error`` of a frame: ``{"code", "message", "caller_fault"}``."""
    if isinstance(error, MetaClawError):
        return {"code": error.code, "message": str(error), "caller_fault": isinstance(error, _CALLER_FAULTS)}
    message = f"{type(error).__name__}: {error}"
    return {"code": MetaClawError.code, "message": message, "caller_fault": False}
