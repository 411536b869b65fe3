"""JSON of a given form from any OpenAI-compatible model, whatever parameters it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from metaclaw.errors import UpstreamError
from metaclaw.upstreams.chat_model import ChatModel
from metaclaw.upstreams.structured import JsonForm, StructuredModel

pytestmark = pytest.mark.anyio

FORM = JsonForm(
    name="thing", schema={"type": "object", "properties": {}, "required": [], "additionalProperties": False}
)
MESSAGES = [{"role": "user", "content": "hello"}]


class Reply:
    status, content_type = 200, "application/json"
    headers: Mapping[str, str] = {}

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def chunks(self):
        yield self._body

    async def read(self) -> bytes:
        return self._body

    async def finish(self) -> None: ...

    def close(self) -> None: ...


class Model:
    """Refuses some parameters as providers do."""

    name = "the evolver"
    dialects = ("openai.chat",)
    is_strict = False
    model_id = ""

    def __init__(self, *refused: str, content: str | None = "{}", finish_reason: str = "stop") -> None:
        self.refused = refused
        self.bodies: list[dict[str, Any]] = []
        self._choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}

    async def send(self, dialect: str, body: bytes, **_: object) -> Reply:
        assert dialect == "openai.chat"
        asked = json.loads(body)
        self.bodies.append(asked)
        kind = asked.get("response_format", {}).get("type")
        for name in self.refused:
            if name in asked or name == kind:
                param = "response_format" if name == kind else name
                text = f"the evolver answered 400: Unsupported parameter: '{param}' is not supported with this model."
                raise UpstreamError(text, status=400, detail={"param": param, "code": "unsupported_parameter"})
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        return Reply(json.dumps({"model": "m-1", "choices": [self._choice], "usage": usage}).encode())

    async def models(self) -> list[dict[str, Any]]:
        return []

    async def close(self) -> None: ...


def ask(model: Model) -> StructuredModel:
    return StructuredModel(ChatModel(model), model="m", max_tokens=100, timeout_s=5)


async def test_the_form_is_asked_for_and_what_it_took_is_told():
    model = Model()
    answer = await ask(model).ask(MESSAGES, FORM)
    assert (answer.text, answer.model) == ("{}", "m-1")
    assert answer.usage is not None
    assert answer.usage.total == 5
    assert model.bodies[0]["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("refused", "num_calls"),
    [
        (("max_tokens",), 2),
        (("json_schema",), 2),
        (("json_schema", "json_object"), 3),
        (("max_tokens", "json_schema"), 3),
    ],
)
async def test_a_refused_parameter_is_done_without_and_never_asked_again(refused, num_calls):
    """PITFALLS B5-5: a model that wanted max_completion_tokens ended all evolution without a word."""
    model = Model(*refused)
    structured = ask(model)
    await structured.ask(MESSAGES, FORM)
    assert len(model.bodies) == num_calls
    await structured.ask(MESSAGES, FORM)
    assert len(model.bodies) == num_calls + 1
    assert model.bodies[-1].get("max_tokens", model.bodies[-1].get("max_completion_tokens")) == 100


async def test_a_refusal_of_something_else_is_an_error():
    with pytest.raises(UpstreamError, match="'messages' is not supported"):
        await ask(Model("messages")).ask(MESSAGES, FORM)
    with pytest.raises(UpstreamError, match="Unsupported parameter"):
        await ask(Model("max_tokens", "max_completion_tokens")).ask(MESSAGES, FORM)


@pytest.mark.parametrize(
    ("content", "reason", "why"), [("{", "length", "did not finish"), (None, "stop", "without a text")]
)
async def test_an_answer_that_is_cut_off_or_empty_is_an_error(content, reason, why):
    with pytest.raises(UpstreamError, match=why):
        await ask(Model(content=content, finish_reason=reason)).ask(MESSAGES, FORM)
