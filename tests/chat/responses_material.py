"""Chat requests and answers that the responses API can say too, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

TEXT = st.text(max_size=30)
SOME_TEXT = st.text(min_size=1, max_size=30)
NAME = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


def _objects(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(required, optional=optional)


PART = st.one_of(
    _objects({"type": st.just("text"), "text": TEXT}, {"cache_control": st.just({"type": "ephemeral"})}),
    st.builds(
        lambda image: {"type": "image_url", "image_url": image},
        _objects({"url": SOME_TEXT}, {"detail": st.sampled_from(["auto", "low", "high"])}),
    ),
    st.builds(
        lambda file: {"type": "file", "file": file},
        _objects({"file_data": SOME_TEXT}, {"filename": SOME_TEXT, "file_id": SOME_TEXT}),
    ),
    st.builds(lambda data: {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}, SOME_TEXT),
)
CONTENT = st.one_of(TEXT, st.lists(PART, min_size=1, max_size=3))
SPOKEN = _objects({"role": st.sampled_from(["user", "system"]), "content": CONTENT}, {})


@st.composite
def assistant_messages(draw: st.DrawFn, *, with_calls: bool) -> Json:
    message: Json = {"role": "assistant", "content": draw(SOME_TEXT)}
    if with_calls:
        message["content"] = draw(st.none() | SOME_TEXT)
        message["tool_calls"] = [
            {
                "id": f"call_{draw(NAME)}_{number}",
                "type": "function",
                "function": {
                    "name": draw(NAME),
                    "arguments": draw(TEXT.map(lambda text: text if text.strip() else "{}")),
                },
            }
            for number in range(draw(st.integers(1, 3)))
        ]
    if draw(st.booleans()):
        message["reasoning_content"] = draw(SOME_TEXT)
    if draw(st.booleans()):
        message["refusal"] = draw(SOME_TEXT)
    return message


@st.composite
def exchanges(draw: st.DrawFn) -> list[Json]:
    """What someone said, and what the model did about it."""
    messages: list[Json] = [draw(SPOKEN)]
    if draw(st.booleans()):
        calling = draw(assistant_messages(with_calls=True))
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": draw(CONTENT)} for call in calling["tool_calls"]
        ]
        messages += [calling, *results]
    if draw(st.booleans()):
        messages.append(draw(assistant_messages(with_calls=False)))
    return messages


TOOL = st.builds(
    lambda function: {"type": "function", "function": function},
    _objects(
        {"name": NAME},
        {"description": TEXT, "parameters": st.just({"type": "object", "properties": {}}), "strict": st.just(True)},
    ),
)
CHOICE = st.one_of(
    st.sampled_from(["auto", "none", "required"]),
    st.builds(lambda name: {"type": "function", "function": {"name": name}}, NAME),
    st.builds(
        lambda name: {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": name}}]},
        },
        NAME,
    ),
)
FORMAT = st.one_of(
    st.just({"type": "json_object"}),
    st.builds(
        lambda name: {
            "type": "json_schema",
            "json_schema": {"name": name, "schema": {"type": "object"}, "strict": True},
        },
        NAME,
    ),
)


@st.composite
def chat_requests(draw: st.DrawFn) -> Json:
    spoken = draw(st.lists(exchanges(), min_size=1, max_size=3))
    rest = draw(
        _objects(
            {"model": NAME},
            {
                "temperature": st.floats(0, 2),
                "top_p": st.floats(0, 1),
                "max_tokens": st.integers(1, 9999),
                "tools": st.lists(TOOL, min_size=1, max_size=3),
                "tool_choice": CHOICE,
                "parallel_tool_calls": st.booleans(),
                "response_format": FORMAT,
                "reasoning_effort": st.sampled_from(["low", "high"]),
                "verbosity": st.sampled_from(["low", "high"]),
                "metadata": st.just({"agent_id": "ops"}),
                "user": TEXT,
                "prompt_cache_key": TEXT,
                "some_key_of_a_provider": st.just({"a": [1]}),
            },
        )
    )
    if "tools" not in rest:  # chat models refuse a choice among none
        rest = {key: value for key, value in rest.items() if key not in ("tool_choice", "parallel_tool_calls")}
    return {"messages": [message for exchange in spoken for message in exchange], **rest}


ANSWER = st.one_of(assistant_messages(with_calls=False), assistant_messages(with_calls=True))


def completion(message: Json, finish_reason: str) -> Json:
    """A ``chat.completion`` that says ``message``."""
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }


def chunks_of(message: Json, finish_reason: str, cuts: st.DataObject) -> list[Json]:
    """The message as a stream, its texts cut where hypothesis likes."""
    head = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    for key in ("reasoning_content", "content", "refusal"):
        deltas += [{key: piece} for piece in _pieces(message.get(key) or "", cuts)]
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        begun = {"name": function["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": begun}]})
        for piece in _pieces(function["arguments"], cuts):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    chunks: list[Json] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    chunks.append({**head, "choices": [], "usage": completion(message, finish_reason)["usage"]})
    return chunks


def _pieces(text: str, cuts: st.DataObject) -> list[str]:
    if not text:
        return []
    at = cuts.draw(st.integers(0, len(text)))
    return [piece for piece in (text[:at], text[at:]) if piece]
