"""A recorded prompt as it would have been, had the user's next message been known.

Owns the words, which messages are worth it, and their place among the recorded tokens; refuses to know who is asked
with it. Invariant: but for those words it is the recorded prompt token by token, with all that was recalled; where that
cannot be had there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from metaclaw.chat.dialects import CHAT
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import attach
from metaclaw.errors import InvalidRequestError, UpstreamError
from metaclaw.journal.turns import RecordedTurn
from metaclaw.learner.distillation.endpoint import RefusedTokensError, TeacherError
from metaclaw.learner.judges.material import cut
from metaclaw.learner.skills.retelling import retold
from metaclaw.recall.blocks import human_messages
from metaclaw.skills.evolution.corrections import is_correction
from metaclaw.upstreams.http_model import HttpModel

_MAX_CHARS = 2_000
_FEW_WORDS, _FEW_SIGNS = 4, 8  # "that's wrong" says that, and nothing that helps
_LOOSE = 4  # tokens in which the end of the words may look like what stood there
_REFUSES_THIS = (400, 413, 422)
_TEMPLATE = "chat_template_kwargs"
HINT = (
    "[Known afterwards: when this had been answered, the user wrote: {followup}\n"
    "Answer so that there is no reason to write that.]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """One recorded request in chat form, as it was and with the words."""

    plain: JsonObject
    hinted: JsonObject


def is_informative(followup: str | None, *, was_bad: bool) -> bool:
    """Whether what the user said next can teach: something was wrong, by its words or by the verdict, and it says more
    than that."""
    if followup is None or not (was_bad or is_correction(followup)):
        return False
    return len(followup.split()) >= _FEW_WORDS or sum(ord(sign) > 0x2E80 for sign in followup) >= _FEW_SIGNS


def requests_of(turn: RecordedTurn, messages: Sequence[JsonObject], followup: str) -> Requests | None:
    """The request of ``turn`` without and with ``followup``; ``None`` where no human's message is in it, or chat cannot
    say it."""
    humans = human_messages(messages, turn.session)
    if not humans:
        return None
    index = humans[-1].index
    hinted = list(messages)
    hinted[index] = attach(hinted[index], HINT.format(followup=cut(followup.strip(), _MAX_CHARS)))
    # Of the rendering, a request in another dialect says nothing.
    kept = {_TEMPLATE: turn.request[_TEMPLATE]} if turn.dialect == CHAT.name and _TEMPLATE in turn.request else {}
    try:
        return Requests(plain={**retold(turn, messages), **kept}, hinted={**retold(turn, hinted), **kept})
    except InvalidRequestError:
        return None


class Rendering:
    """The training server's own rendering: it tells the tokens that it reads a chat as."""

    def __init__(self, upstream: HttpModel) -> None:
        self._upstream = upstream

    async def prompt(self, model: str, request: JsonObject) -> list[int]:
        """The tokens of ``request``. Raises ``TeacherError``, ``RefusedTokensError`` where another may do."""
        asked = {key: value for key, value in request.items() if key not in ("stop", "max_completion_tokens")}
        body = {**asked, "model": model, "max_tokens": 1, "stream": False, "return_token_ids": True}
        try:
            reply = await self._upstream.chat(body)
            try:
                answer: Any = json.loads(await reply.read())
            finally:
                reply.close()
            return [int(token) for token in answer["prompt_token_ids"]]
        except UpstreamError as error:
            failure = RefusedTokensError if error.status in _REFUSES_THIS else TeacherError
            raise failure(f"rendering what the user said next: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise TeacherError(f"{self._upstream.name} does not tell the tokens of a chat") from error


def same_but_hinted(recorded: Sequence[int], plain: Sequence[int], hinted: Sequence[int]) -> list[int] | None:
    """``recorded`` with the tokens that ``hinted`` has and ``plain`` has not, in their place; ``None`` if it has none.

    What was recalled stands in ``recorded`` alone, before the place of the words; what comes after the human's message
    must be the same in all three.
    """
    begin = _common(plain, hinted)
    end = min(_common(plain[::-1], hinted[::-1]), len(plain) - begin)
    same_end = min(end, _common(plain[::-1], recorded[::-1]))
    if not same_end or end - same_end > _LOOSE:
        return None
    words = hinted[begin : len(hinted) - same_end]
    return [*recorded[: len(recorded) - same_end], *words, *recorded[len(recorded) - same_end :]]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def numbers_of(counts: Mapping[str, int]) -> dict[str, float]:
    """As an update's metrics have them."""
    return {f"self_distillation/{name}": float(count) for name, count in counts.items()}
