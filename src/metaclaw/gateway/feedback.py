"""``POST /v1/feedback``: what a person thought of a turn or a session.

Owns the shape of the request; refuses to know who may use the gateway (the caller says which agent's turns it may speak
of). Invariant: what was answered with 200 is in the journal, and nothing is kept of a turn that nobody knows.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError, JournalError, OverloadedError
from metaclaw.gateway.recording import Recorder
from metaclaw.identity import DEFAULT_AGENT, agent_id
from metaclaw.journal.feedback import NewFeedback


def _readable(text: object) -> object:
    # Clients cut texts in the middle of an emoji, and some send each field that they know.
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else "" if text is None else text


class FeedbackRequest(BaseModel):
    """One of ``turn`` and ``session``, and at least one of ``score``, ``thumbs`` and ``text``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    turn: str | None = Field(default=None, max_length=200)
    session: str | None = Field(default=None, max_length=200)
    agent: str | None = Field(default=None, max_length=200)
    score: float | None = Field(default=None, ge=-1, le=1)
    thumbs: Literal["up", "down"] | None = None
    text: Annotated[str, BeforeValidator(_readable)] = Field(default="", max_length=20_000)
    source: str = Field(default="user", min_length=1, max_length=100)

    def given(self, *, only_agent: str | None, now: float) -> NewFeedback:
        """It for the journal. Raises ``InvalidRequestError``."""
        if (self.turn is None) == (self.session is None):
            raise InvalidRequestError("send either 'turn' or 'session'", param="turn")
        if self.score is not None and self.thumbs is not None:
            raise InvalidRequestError("send either 'score' or 'thumbs'", param="score")
        score = {"up": 1.0, "down": -1.0, None: self.score}[self.thumbs]
        text = self.text.strip()
        if score is None and not text:
            raise InvalidRequestError(
                "send a 'score' from -1 to 1, 'thumbs' ('up', 'down'), or a 'text'", param="score"
            )
        agent = agent_id(self.agent or only_agent or DEFAULT_AGENT)
        if only_agent not in (None, agent):
            raise InvalidRequestError(
                f"the body speaks of agent {agent!r}, the request is {only_agent!r}'s", param="agent"
            )
        return NewFeedback(
            turn=self.turn,
            session=self.session,
            agent=agent,
            only_agent=agent if self.agent else only_agent,
            score=score,
            text=text,
            source=self.source,
            created_at=now,
        )


async def take_feedback(body: JsonObject, recorder: Recorder, *, only_agent: str | None) -> JsonObject:
    """Journal it; what the client gets. ``only_agent`` is whose turns the request speaks of, ``None``: anybody's.

    Raises ``InvalidRequestError``, ``NotFoundError``, and ``OverloadedError`` when the journal cannot be written now.
    """
    try:
        request = FeedbackRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidRequestError(f"{name!r}: {first['msg']}", param=name) from error
    given = request.given(only_agent=only_agent, now=recorder.clock())
    try:
        await recorder.flush()  # the turn may have ended a moment ago
        kept = await recorder.journal.add_feedback(given)
    except JournalError as error:
        raise OverloadedError(f"{error}; send it again later") from error
    return {"id": kept.id, "object": "feedback", "agent": kept.agent, "session": kept.session, "turn": kept.turn,
            "exchange": kept.exchange, "score": kept.score}  # fmt: skip
