"""From our exceptions to HTTP: the one place that knows status codes and error bodies.

Owns the mapping and the exception handlers of every server of ours; refuses to know routes. Invariant: what a
client reads is the text of a ``MetaClawError`` or a fixed sentence, never a traceback; and no failure of an
upstream's credentials is answered with 401, on which clients lock their provider out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metaclaw import errors

Dialect = Literal["openai", "anthropic", "tinker"]
ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]

_log = logging.getLogger(__name__)

# The first class that matches counts: subclasses stand before their bases.
_STATUS: tuple[tuple[type[errors.MetaClawError], int], ...] = (
    (errors.AuthenticationError, 401),
    (errors.RequestTooLargeError, 413),
    (errors.BodyTimeoutError, 408),
    (errors.InvalidRequestError, 400),
    (errors.ForbiddenError, 403),
    (errors.NotFoundError, 404),
    (errors.ConflictError, 409),
    (errors.OverloadedError, 429),
)
_OPENAI_TYPE = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPE = {
    **_OPENAI_TYPE,
    402: "billing_error",
    413: "request_too_large",
    504: "timeout_error",
    529: "overloaded_error",
}
_RETRY_AFTER_S = 5.0  # where nobody said how long
_ANTHROPIC_OVERLOAD = 529  # what OpenAI's clients know as 503
# About our key, or about a moment: an upstream's 4xx that say nothing of the request.
_NOT_THE_CLIENTS = frozenset((401, 402, 403, 408, 409, 425))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """An error as a client gets it."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, status_code=self.status, headers=self.headers)


def error_answer(error: errors.MetaClawError, dialect: Dialect) -> ErrorAnswer:
    """The answer for ``error`` in the body shape of ``dialect``."""
    status = _status(error, dialect)
    param = error.param if isinstance(error, errors.InvalidRequestError) else None
    body = error_body(dialect, status=status, message=str(error), code=error.code, param=param)
    if dialect == "openai" and isinstance(error, errors.UpstreamError) and error.status == status:
        body["error"].update({key: error.detail[key] for key in ("type", "param", "code") if error.detail.get(key)})
    came = error.headers if isinstance(error, errors.UpstreamError) else {}
    return ErrorAnswer(status=status, body=body, headers={**came, **_headers(error, status)})


def bug_answer(error: Exception, dialect: Dialect, route: str) -> ErrorAnswer:
    """The answer where ``error`` is nobody's but ours; it is logged with the method and the pattern of the route."""
    _log.error("unexpected %s in %s", type(error).__name__, route, exc_info=error)
    message = "an unexpected error happened on this server; its log has the details"
    return ErrorAnswer(status=500, body=error_body(dialect, status=500, message=message, code="internal_error"))


def error_body(
    dialect: Dialect, *, status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """An error body alone, for example for an event inside a stream that has begun."""
    if dialect == "tinker":
        # ``detail`` is what the SDK's command line reads, ``error`` what a failed job has in its place.
        return {"error": message, "detail": message, "category": "server" if status >= 500 else "user"}
    if dialect == "anthropic":
        default = "api_error" if status >= 500 else "invalid_request_error"
        return {"type": "error", "error": {"type": _ANTHROPIC_TYPE.get(status, default), "message": message}}
    default = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": _OPENAI_TYPE.get(status, default), "param": param, "code": code}}


def exception_handlers(
    dialect: Dialect | Callable[[Request], Dialect], hint: Callable[[str], str] = lambda _path: ""
) -> Mapping[Any, ExceptionHandler]:
    """Handlers for ``Starlette(exception_handlers=...)`` or ``FastAPI(exception_handlers=...)``.

    An application has one set of them; where its routes have several dialects, ``dialect`` says which a request has.
    ``hint`` ends the sentence that there is no route of a path.
    """

    def dialect_of(request: Request) -> Dialect:
        return dialect(request) if callable(dialect) else dialect

    async def on_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.MetaClawError)
        return error_answer(error, dialect_of(request)).response()

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _http_answer(request, error, dialect_of(request), hint).response()

    async def on_bug(request: Request, error: Exception) -> Response:
        # Starlette raises it again once this is sent. The log line here says which route it was; the path itself is the
        # caller's own text.
        route = getattr(request.scope.get("route"), "path", "an unknown route")
        return bug_answer(error, dialect_of(request), f"{request.method} {route}").response()

    return {errors.MetaClawError: on_ours, HTTPException: on_http, Exception: on_bug}


def _status(error: errors.MetaClawError, dialect: Dialect) -> int:
    if isinstance(error, errors.UpstreamError):
        return _upstream_status(error.status, dialect)
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _upstream_status(status: int | None, dialect: Dialect) -> int:
    if status is not None and 400 <= status < 500 and status not in _NOT_THE_CLIENTS:
        return status
    return _ANTHROPIC_OVERLOAD if dialect == "anthropic" else 503


def _headers(error: errors.MetaClawError, status: int) -> dict[str, str]:
    if isinstance(error, errors.AuthenticationError):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, errors.BodyTimeoutError | errors.RequestTooLargeError):
        return {"Connection": "close"}  # what is left of the body is not waited for
    retry_after_s = None
    if isinstance(error, errors.OverloadedError) or (
        isinstance(error, errors.UpstreamError) and status in (429, 503, _ANTHROPIC_OVERLOAD)
    ):
        retry_after_s = _RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
    return {} if retry_after_s is None else {"Retry-After": str(max(0, math.ceil(retry_after_s)))}


def _http_answer(request: Request, error: HTTPException, dialect: Dialect, hint: Callable[[str], str]) -> ErrorAnswer:
    if error.status_code == 404:
        path = request.url.path
        message, code = f"there is no route {request.method} {path}{hint(path)}", errors.NotFoundError.code
    elif error.status_code == 405:
        message, code = f"{request.url.path} does not answer to {request.method}", "method_not_allowed"
    else:
        message, code = str(error.detail), "http_error"
    body = error_body(dialect, status=error.status_code, message=message, code=code)
    return ErrorAnswer(status=error.status_code, body=body, headers=dict(error.headers or {}))
