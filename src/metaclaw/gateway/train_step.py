"""``POST /v1/admin/train_step``: train now.

Owns the shape of the request and the waiting; refuses to know how an update is made (the learner is asked by way of
``requests.db``). Invariant: the owner alone may ask, and waiting holds up nothing and nobody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metaclaw.config import Settings
from metaclaw.errors import ForbiddenError, InvalidRequestError
from metaclaw.gateway.access import OWNER
from metaclaw.gateway.reception import Reception
from metaclaw.http.body import parse_json_object
from metaclaw.identity import agent_id
from metaclaw.journal.train_steps import EVERY_AGENT, TrainAnswer, TrainSteps
from metaclaw.processes.instance import running_instance

_POLL_S = 0.1


class TrainStepRequest(BaseModel):
    """Whose policy, by default whoever has enough, and how many seconds the client waits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    agent: str | None = Field(default=None, max_length=200)
    timeout: float = Field(default=600.0, gt=0, le=3600)


@dataclass(slots=True, kw_only=True)
class TrainingDesk:
    """Asks the learner of this home."""

    settings: Settings
    clock: Callable[[], float] = time.time

    async def ask(self, asked: TrainStepRequest) -> TrainAnswer:
        """What became of it. Raises ``HTTPException``: 503 where nobody trains, 504 without an answer in time."""
        if (why := self.settings.why_untrained) is not None:
            raise HTTPException(503, why)
        instance = await asyncio.to_thread(running_instance, self.settings.home)
        if instance is not None and instance.children.get("learner") is None:
            raise HTTPException(503, "the learner does not run; `metaclaw status` and the log say more")
        agent = EVERY_AGENT if asked.agent is None else agent_id(asked.agent)
        steps, now = TrainSteps(self.settings.requests_db), self.clock()
        number = await asyncio.to_thread(steps.ask, agent, now=now, until=now + asked.timeout)
        try:
            async with asyncio.timeout(asked.timeout):
                while (answer := await asyncio.to_thread(steps.answered, number)) is None:  # noqa: ASYNC110 - another process answers
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise HTTPException(504, f"the learner did not answer within {asked.timeout:g} s") from None
        return answer


class Stands(Protocol):
    """The slice of the gateway's dependencies that is used here."""

    @property
    def reception(self) -> Reception: ...
    @property
    def training(self) -> TrainingDesk: ...


async def train_step(request: Request) -> Response:
    """The route; ``app.state.deps`` has what ``Stands`` names."""
    deps: Stands = request.app.state.deps
    principal = await deps.reception.authenticate(request)
    if principal.id != OWNER:
        raise ForbiddenError("only the owner's token (proxy.api_key) may have something trained")
    body = await deps.reception.body(request)
    try:
        asked = TrainStepRequest.model_validate(parse_json_object(body) if body.strip() else {})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidRequestError(f"{name!r}: {first['msg']}", param=name) from error
    return JSONResponse((await deps.training.ask(asked)).model_dump())
