"""The exception tree of MetaClaw.

Owns every error class that crosses a room's border; refuses to know HTTP (``metaclaw.http`` maps these to
status codes and to each dialect's error body). Invariant: every class is also a standard-library error, carries
a stable ``code`` that users may match on, and says whether trying again can help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class MetaClawError(Exception):
    """The root. Its text says what was wrong and what to do about it."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False


class ConfigError(MetaClawError, ValueError):
    """A setting is unknown, malformed or cannot work together with another one."""

    code = "invalid_config"


class MissingExtraError(MetaClawError, ImportError):
    """An optional package is needed; the text names the extra that installs it."""

    code = "missing_extra"


class InvalidRequestError(MetaClawError, ValueError):
    """A caller's request is malformed or asks for something impossible."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class RequestTooLargeError(InvalidRequestError):
    """The body or the prompt is larger than what is served."""

    code = "request_too_large"


class BodyTimeoutError(InvalidRequestError):
    """The body did not come in time."""

    code = "request_timeout"


class ContextLengthError(InvalidRequestError):
    """The prompt leaves no room for an answer in the model's context."""

    code = "context_length_exceeded"


class AuthenticationError(MetaClawError, PermissionError):
    """The token is missing or wrong."""

    code = "invalid_api_key"


class ForbiddenError(MetaClawError, PermissionError):
    """The caller is known, and this is not for them."""

    code = "forbidden"


class QuotaError(ForbiddenError):
    """It would be more than the caller's key may have; the text has the numbers and what to do."""

    code = "quota_exceeded"


class NotFoundError(MetaClawError, LookupError):
    """A model, checkpoint, session or route that does not exist."""

    code = "not_found"


class ConflictError(MetaClawError, RuntimeError):
    """The same identity was used for something else before (for example a reused ``seq_id``)."""

    code = "conflict"


class RewardsChangedError(ConflictError):
    """What was chosen by its rewards has others by now: choose again."""

    code = "rewards_changed"
    retryable = True


class OverloadedError(MetaClawError, RuntimeError):
    """More work is queued than is accepted; try again in ``retry_after_s``."""

    code = "overloaded"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitError(OverloadedError):
    """The caller's token has made as many requests as it may for now."""

    code = "rate_limit_exceeded"


class BudgetError(OverloadedError):
    """The caller's token has used what it may use in this window; the text says until when."""

    code = "insufficient_quota"


class UpstreamError(MetaClawError, ConnectionError):
    """A model behind us failed or could not be reached.

    Attributes: ``status`` is its HTTP status (``None`` when nothing answered), ``retry_after_s`` its wish to be
    left alone for so long, ``detail`` its own error object as far as it had one in OpenAI's shape (clients act on
    its ``code``, for example ``context_length_exceeded``), ``said`` its own words within the text: they may quote what
    it was sent, so they are for who asked, and for no log. ``headers`` are those that came with it for the client.
    """

    code = "upstream_error"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        detail: Mapping[str, object] | None = None,
        said: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.said = said
        self.headers = headers or {}
        self.status = status
        self.retry_after_s = retry_after_s
        self.detail = dict(detail or {})


class JournalError(MetaClawError, OSError):
    """The durable record cannot be opened, migrated or written."""

    code = "journal_error"


class SkillError(MetaClawError, ValueError):
    """A ``SKILL.md`` is malformed; the text names the file and the line."""

    code = "invalid_skill"


class JudgeError(MetaClawError, RuntimeError):
    """A judgement could not be made. It is never a reward of zero."""

    code = "judge_error"
    retryable = True


class EvolverError(MetaClawError, RuntimeError):
    """The model that writes skills could not be asked, or its answer cannot be used; the text says which."""

    code = "evolver_error"
    retryable = True


class BackendError(MetaClawError, ConnectionError):
    """The training server refused or failed a request of the learner."""

    code = "training_backend_error"
    retryable = True


class TrackingError(MetaClawError, ConnectionError):
    """A program that draws curves did not take what it was told."""

    code = "tracking_failed"
    retryable = True


class EngineError(MetaClawError, RuntimeError):
    """The engine or a sampler could not do a job, for a reason of its own rather than the caller's."""

    code = "engine_error"


class CheckpointError(MetaClawError, ValueError):
    """A checkpoint is incomplete, damaged, or belongs to another base model."""

    code = "invalid_checkpoint"


class ModelSourceError(MetaClawError, OSError):
    """Model files cannot be found, downloaded or verified."""

    code = "model_unavailable"


class WiringError(MetaClawError, ValueError):
    """The configuration of an agent program cannot be read or changed; the text says which, and nothing was changed."""

    code = "wiring_error"


class ProcessError(MetaClawError, RuntimeError):
    """A program of ours did not start, stop or answer as it must."""

    code = "process_error"
