"""Running a job and turning whatever comes of it into the result of its future.

Owns the border between what may fail and what must be answered; refuses to know queues and HTTP. Invariant: a
future whose job was started always gets a result.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from pydantic import BaseModel

from metaclaw.errors import (
    CheckpointError,
    ConflictError,
    InvalidRequestError,
    MetaClawError,
    NotFoundError,
    OverloadedError,
    QuotaError,
)
from metaclaw.training.api.futures import Futures, Result

Job = Callable[[], Awaitable[Result]]
Category = Literal["user", "server"]

PROTOBUF = "application/x-protobuf"
_CALLER_FAULTS = (InvalidRequestError, NotFoundError, ConflictError, CheckpointError, OverloadedError, QuotaError)

_log = logging.getLogger(__name__)


async def run_job(futures: Futures, request_id: str, job: Job) -> None:
    """Run ``job`` and store its result, or its failure as the protocol reports one."""
    result = failure("the server stopped before this request was finished", "server")
    try:
        result = await job()
    except MetaClawError as error:
        result = failure(str(error), "user" if isinstance(error, _CALLER_FAULTS) else "server")
    except Exception:  # noqa: BLE001 - the job boundary: one bad job must never stop those behind it
        _log.exception("job %s failed unexpectedly", request_id)
        result = failure("an unexpected error happened on this server; its log has the details", "server")
    finally:  # cancellation passes through, and the future is answered all the same
        futures.finish(request_id, result)


def failure(message: str, category: Category) -> Result:
    """A failed job: HTTP 200 with the error inside, which the SDK raises and never retries."""
    return Result(body=json.dumps({"error": message, "category": category}).encode())


def json_result(answer: BaseModel) -> Result:
    """A finished job whose answer is JSON."""
    return Result(body=answer.model_dump_json(exclude_none=True).encode())
