"""The bridge as one ASGI application: the training server's OpenAI endpoint, with a cloud behind it.

Owns how its parts are put together and torn down; refuses to know routes. Invariant: nobody is let in without the key
that the settings give to whoever belongs to this home, and the SDK's process ends with the application.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from pydantic import SecretStr
from starlette.requests import Request

from metaclaw.bridge.model import Facts
from metaclaw.bridge.sampling import CloudSampling
from metaclaw.clouds.child import SdkChild
from metaclaw.http.auth import require_token
from metaclaw.http.errors import exception_handlers
from metaclaw.rendering.renderer import Renderer
from metaclaw.training.api.openai_routes import OpenAIRoutes
from metaclaw.training.api.tenants import ADMIN
from metaclaw.training.api.token_counts import TokenCountRoutes
from metaclaw.upstreams.pulse import Pulse


def make_app(child: SdkChild, renderer: Renderer, facts: Facts, *, base_model: str, key: SecretStr) -> FastAPI:
    """The application; ``child`` is started by its first request and closed at its end."""
    pulse = Pulse(f"the training cloud {child.cloud.where}", lambda: child.call("models"), clock=time.monotonic)
    sampling = CloudSampling(child, pulse, base_model=base_model, facts=facts, decode=renderer.tokenizer.decode)
    openai = OpenAIRoutes(sampling=sampling, renderer=renderer, clock=time.time)

    async def authorised(request: Request) -> None:
        require_token(request.headers, key.get_secret_value())
        request.state.tenant = ADMIN

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await pulse.close()
            await child.close()

    handlers: dict[Any, Any] = dict(exception_handlers("openai"))
    app = FastAPI(lifespan=lifespan, openapi_url=None, exception_handlers=handlers)
    for router in (openai.router(), TokenCountRoutes(renderer).router()):
        app.include_router(router, prefix="/v1", dependencies=[Depends(authorised)])
    return app
