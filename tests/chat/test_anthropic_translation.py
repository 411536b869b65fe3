"""Requests and plain answers between Anthropic's messages and chat."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from metaclaw.chat.anthropic.dialect import DIALECT
from metaclaw.chat.anthropic.options import DEFAULT_MAX_TOKENS
from metaclaw.chat.dialects import RESPONSES
from metaclaw.errors import InvalidRequestError
from tests.chat.anthropic_material import (
    FUNCTION,
    PIXEL,
    TOOL,
    Json,
    assistant,
    call,
    image,
    request,
    result,
    text,
    use,
    user,
)

WORDS = st.text(min_size=1, max_size=12).filter(str.strip)
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
ARGUMENTS = st.dictionaries(WORDS, st.none() | st.booleans() | st.integers() | WORDS | st.lists(WORDS), max_size=3)
DATA_URL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
LINK = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
NOTE = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}


@st.composite
def chat_requests(draw: st.DrawFn) -> Json:
    """What both dialects can say, in the form that the translation gives it."""
    messages: list[Json] = [{"role": "system", "content": draw(WORDS)}] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 3))):
        parts = draw(st.lists(st.sampled_from([DATA_URL, LINK]), min_size=1, max_size=2))
        messages.append(user(draw(WORDS) if draw(st.booleans()) else [*parts, text(draw(WORDS))]))
        uids = [f"{uid}-{number}" for uid in draw(st.lists(IDS, max_size=3, unique=True))]
        calls = [call(uid, json.dumps(draw(ARGUMENTS), ensure_ascii=False), draw(IDS)) for uid in uids]
        answer = {"role": "assistant", "content": None if calls and draw(st.booleans()) else draw(WORDS)}
        messages.append(answer | ({"tool_calls": calls} if calls else {}))
        messages += [{"role": "tool", "tool_call_id": uid, "content": draw(st.text(max_size=9))} for uid in uids]
        if uids:
            messages.append(assistant(draw(WORDS)))
    messages.append(user(draw(WORDS)))
    choices = ["auto", "none", "required", {"type": "function", "function": {"name": "ls"}}]
    optional: dict[str, st.SearchStrategy[Any]] = {
        "temperature": st.floats(0, 1, exclude_max=True),
        "top_p": st.floats(0, 1, exclude_max=True),
        "top_k": st.integers(1, 100),
        "stop": st.lists(WORDS, min_size=1, max_size=3),
        "user": IDS,
        "reasoning_effort": st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
        "response_format": st.just(
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}}
        ),
    }
    body = draw(st.fixed_dictionaries({"model": IDS, "max_tokens": st.integers(1, 9999)}, optional=optional))
    if draw(st.booleans()):
        body |= {"tools": [FUNCTION], "tool_choice": draw(st.sampled_from(choices))}
        if body["tool_choice"] != "none" and draw(st.booleans()):
            body["parallel_tool_calls"] = False
    if draw(st.booleans()):
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return {**body, "messages": messages}


def test_what_is_said_of_the_form_of_an_answer_is_said_of_its_schema() -> None:
    form = {"name": "trip", "description": "Where to go", "schema": {"type": "object"}}
    for schema, description in (({"type": "object"}, "Where to go"), ({"description": "A trip"}, "A trip")):
        wanted = {"type": "json_schema", "json_schema": {**form, "schema": schema}}
        told = DIALECT.from_chat({"model": "m", "messages": [user("hi")], "response_format": wanted})
        assert told["output_config"]["format"]["schema"] == {"description": description, **schema}


@given(chat_requests())
def test_a_chat_request_comes_back_from_anthropic_as_it_was(body: Json) -> None:
    there = DIALECT.from_chat(body)
    DIALECT.parse(there)
    assert DIALECT.to_chat(there) == body


@given(chat_requests())
def test_an_anthropic_request_comes_back_from_chat_as_it_was(body: Json) -> None:
    there = DIALECT.from_chat(body)
    assert DIALECT.from_chat(DIALECT.to_chat(there)) == there


@given(chat_requests())
def test_what_anthropic_refuses_is_never_sent(body: Json) -> None:
    messages = DIALECT.from_chat(body)["messages"]
    roles = [message["role"] for message in messages]
    assert all(first != second for first, second in pairwise(roles))
    for message in messages:
        blocks = [text(message["content"])] if isinstance(message["content"], str) else message["content"]
        assert blocks
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")
        kinds = [block["type"] == "tool_result" for block in blocks]
        assert kinds == sorted(kinds, reverse=True), "results of tools come first"


def test_the_parameters_of_claude_code_reach_a_chat_model() -> None:
    body = request(
        user("hi"),
        system=[text("x-anthropic-billing-header: cch=1;"), text("You are"), text("a coder.")],
        tools=[{**TOOL, "cache_control": {"type": "ephemeral"}, "defer_loading": True, "strict": True}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        metadata={"user_id": "x" * 200},
        thinking={"type": "adaptive"},
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        stream=True,
    )
    function = {**FUNCTION["function"], "strict": True}
    chat = DIALECT.to_chat(body)
    assert len(chat.pop("user")) == 64
    assert chat == {
        "model": "m",
        "max_tokens": 100,
        "messages": [{"role": "system", "content": "You are\n\na coder."}, user("hi")],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "stop": ["END"],
        "reasoning_effort": "high",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, "low"),
        ({"type": "enabled", "budget_tokens": 16384}, "medium"),
        ({"type": "enabled", "budget_tokens": 31999}, "high"),
        ({"type": "adaptive"}, None),
        ({"type": "disabled"}, None),
        ({"type": "between_tools"}, None),
    ],
)
def test_a_budget_of_thinking_is_an_effort(thinking: Json, effort: str | None) -> None:
    assert DIALECT.to_chat(request(user("hi"), thinking=thinking)).get("reasoning_effort") == effort


def test_an_effort_does_not_turn_thinking_on_that_is_turned_off() -> None:
    """Claude Code's subagents send both, and DeepSeek refuses the pair (400)."""
    asked = request(user("hi"), thinking={"type": "disabled"}, output_config={"effort": "high"})
    assert "reasoning_effort" not in DIALECT.to_chat(asked)


def test_thinking_goes_to_a_chat_model_without_its_seal() -> None:
    sealed = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    body = request(user("hi"), assistant([*sealed, text("yes")]), user("go"))
    assert DIALECT.to_chat(body)["messages"][1] == {**assistant("yes"), "reasoning_content": "hm"}


def test_thinking_goes_back_to_anthropic_only_with_its_seal() -> None:
    sealed = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    unsealed = {"type": "thinking", "thinking": "hm", "signature": ""}
    answer = {**assistant("yes"), "reasoning_content": "hm", "thinking_blocks": [*sealed, unsealed]}
    messages = DIALECT.from_chat(request(user("hi"), answer))["messages"]
    assert messages[1] == assistant([*sealed, text("yes")])
    del answer["thinking_blocks"]
    assert DIALECT.from_chat(request(user("hi"), answer))["messages"][1] == assistant("yes")


def test_what_the_system_says_within_a_conversation_is_a_reminder_to_chat_models() -> None:
    """Seen of Claude Code 2.1; templates of Qwen and Mistral want the system first."""
    late = {"role": "system", "content": [text("env: linux")]}
    chat = DIALECT.to_chat(request(user("hi"), late, assistant([use("t")]), user([result("t", "x")]), late, system="s"))
    reminder = "<system-reminder>\nenv: linux\n</system-reminder>"
    assert chat["messages"] == [
        {"role": "system", "content": "s"},
        user(f"hi\n\n{reminder}"),
        {"role": "assistant", "content": None, "tool_calls": [call("t")]},
        {"role": "tool", "tool_call_id": "t", "content": "x"},
        user(reminder),
    ]
    assert [message["role"] for message in DIALECT.parse(request(user("hi"), late)).messages] == ["user", "system"]


def test_a_picture_that_a_tool_took_goes_to_the_users_next_message() -> None:
    shot = result("t1", [text("saved"), image()])
    label = text("Of the result of the tool call t1:")
    loop = (user("look"), assistant([use("t1"), use("t2")]))
    tools = [
        {"role": "tool", "tool_call_id": "t1", "content": "saved"},
        {"role": "tool", "tool_call_id": "t2", "content": "ok"},
    ]
    chat = DIALECT.to_chat(request(*loop, user([shot, result("t2", "ok")])))
    assert chat["messages"][2:] == [*tools, user([label, DATA_URL])]
    chat = DIALECT.to_chat(request(*loop, user([shot, result("t2", "ok"), text("well?")]), assistant("a cat")))
    assert chat["messages"][2:] == [*tools, user([label, DATA_URL, text("well?")]), assistant("a cat")]
    chat = DIALECT.to_chat(request(*loop, user([shot, result("t2", "ok")]), assistant("a cat")))
    assert chat["messages"][2:] == [*tools, user([label, DATA_URL]), assistant("a cat")]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**TOOL, "input_examples": [{}]}]}, "tools[0].input_examples"),
        ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20260120"]}]}, "tools[0].allowed_callers"),
        ({"tools": [{}]}, "tools[0].name"),
        ({"tool_choice": {"type": "some"}}, "tool_choice"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"output_config": {"new": 1}}, "output_config.new"),
        ({"thinking": {"type": "new"}}, "thinking"),
        ({"messages": [user([{**NOTE, "citations": {"enabled": True}}])]}, "messages[0].content[0].citations"),
        (
            {"messages": [user([{**image(), "transformations": {"oversize": "error"}}])]},
            "messages[0].content[0].transformations",
        ),
        ({"system": [image()]}, "system[0]"),
        ({"messages": [user([{"type": "search_result"}])]}, "messages[0].content[0]"),
        (
            {"messages": [user([{"type": "document", "source": {"type": "url", "url": "https://x"}}])]},
            "messages[0].content[0].source",
        ),
        (
            {"messages": [user([{"type": "image", "source": {"type": "file", "file_id": "f"}}])]},
            "messages[0].content[0].source",
        ),
        ({"messages": [user([result("t", [{"type": "tool_reference"}])])]}, "messages[0].content[0].content[0]"),
        ({"messages": [user("x"), assistant([{"type": "server_tool_use"}])]}, "messages[1].content[0]"),
        (
            {"messages": [user("x"), assistant([{**use("t"), "toolset_name": "browser"}])]},
            "messages[1].content[0].toolset_name",
        ),
    ],
)
def test_what_a_chat_model_cannot_be_told_is_refused_by_name(change: Json, param: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"cannot be said|has no 'name'") as refusal:
        DIALECT.to_chat({**request(user("hi")), **change})
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"seed": 1}, "seed"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"temperature": 1.5}, "temperature"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "a"}}, "audio"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"stop": "\n"}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{**FUNCTION, "allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"messages": [user([{"type": "input_audio"}])]}, "messages[0].content[0]"),
        (
            {"messages": [user([{"type": "image_url", "image_url": {"url": "ftp://x"}}])]},
            "messages[0].content[0]",
        ),
        ({"messages": [user([{"type": "file", "file": {"file_id": "f"}}])]}, "messages[0].content[0]"),
        ({"messages": [{**user("hi"), "name": "ann"}]}, "messages[0].name"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{**assistant(None), "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({"messages": [{**assistant(None), "tool_calls": [{"type": "custom"}]}]}, "messages[0].tool_calls[0].type"),
        ({"messages": [user(" "), assistant("")]}, "messages"),
    ],
)
def test_what_anthropic_cannot_be_told_is_refused_by_name(change: Json, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        DIALECT.from_chat({"model": "m", "messages": [user("hi")], **change})
    assert refusal.value.param == param


def test_hints_and_values_that_say_nothing_are_left_out() -> None:
    body = {
        "model": "m", "messages": [user("hi")], "n": 1, "logprobs": False, "presence_penalty": 0, "seed": None,
        "metadata": {"agent_id": "ops"}, "store": False, "stream_options": {"include_usage": True}, "top_logprobs": 0,
        "response_format": {"type": "text"}, "parallel_tool_calls": True, "tool_choice": "auto", "service_tier": "auto",
        "temperature": 1.0, "top_p": 1,
    }  # fmt: skip
    assert DIALECT.from_chat(body) == {"model": "m", "messages": [user("hi")], "max_tokens": DEFAULT_MAX_TOKENS}


@pytest.mark.parametrize("choice", [{"type": "auto", "disable_parallel_tool_use": True}, {"type": "none"}])
def test_a_choice_among_no_tools_is_left_out(choice: Json) -> None:
    """Chat models refuse it: OpenAI's, and vLLM."""
    chat = DIALECT.to_chat(request(user("hi"), tools=[], tool_choice=choice))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & chat.keys()
    assert DIALECT.to_chat(request(user("hi"), tool_choice={"type": "any"}))["tool_choice"] == "required"


def test_the_name_of_a_tool_beside_its_result_is_no_name_of_a_speaker() -> None:
    """OpenAI's own examples had it for years, and many programs send it."""
    loop = [
        user("hi"),
        {**assistant(None), "tool_calls": [call("t")]},
        {"role": "tool", "tool_call_id": "t", "name": "ls", "content": "done"},
    ]
    assert DIALECT.from_chat({"messages": loop})["messages"][-1] == user([result("t", "done")])


def test_strings_among_the_parts_of_a_message_are_texts() -> None:
    assert DIALECT.from_chat({"messages": [user(["a", text("b")])]})["messages"] == [user([text("a"), text("b")])]


def test_what_is_said_of_a_pdf_stands_before_it() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    document = {"type": "document", "source": source, "title": "a.pdf", "context": "the lease of 2024"}
    [message] = DIALECT.to_chat(request(user([document])))["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "file"]
    assert message["content"][0] == text("the lease of 2024")


@pytest.mark.parametrize("limits", [{"max_tokens": 7}, {"max_completion_tokens": 7}])
def test_the_length_of_an_answer_has_two_names_in_chat(limits: Json) -> None:
    assert DIALECT.from_chat({"messages": [user("hi")], **limits})["max_tokens"] == 7


def test_roles_that_do_not_alternate_are_made_to() -> None:
    body = {
        "messages": [
            {"role": "developer", "content": "a"},
            user("b"),
            user([text("c"), text(" ")]),
            {"role": "system", "content": "late"},
            {**assistant(None), "tool_calls": [call("functions.ls:0"), call("two", "")]},
            assistant(" "),
            user("meanwhile"),
            {"role": "tool", "tool_call_id": "functions.ls:0", "content": [text("1"), DATA_URL]},
            {"role": "tool", "tool_call_id": "two", "content": ""},
            user("d"),
        ]
    }
    asked = DIALECT.from_chat(body)
    assert asked["system"] == [text("a"), text("late")]
    assert asked["messages"] == [
        user([text("b"), text("c")]),
        assistant([use("functions_ls_0"), use("two")]),
        user([result("functions_ls_0", [text("1"), image()]), result("two", ""), text("meanwhile"), text("d")]),
    ]


def test_a_pdf_in_a_chat_is_a_document_and_the_other_way_round() -> None:
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    [message] = DIALECT.from_chat({"messages": [user([{"type": "file", "file": file}])]})["messages"]
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    document = {"type": "document", "source": source, "title": "a.pdf"}
    assert message == user([document])
    of_a_tool = [user("read it"), assistant([use("t")]), user([result("t", [document])])]
    for messages in ([user([document])], of_a_tool):  # Claude Code reads files by a tool
        *_, last = DIALECT.to_chat({"model": "m", "max_tokens": 1, "messages": messages})["messages"]
        assert last["role"] == "user"
        assert last["content"][-1] == {"type": "file", "file": file}


def test_a_conversation_in_which_a_model_wrote_a_broken_call_goes_on() -> None:
    """After a fallback, or an answer that was cut at its limit, it would be refused for ever."""
    calls = [call("t", "{broken"), call("u", "[1]")]
    body = {"messages": [user("hi"), {**assistant(None), "tool_calls": calls}, user("go on")]}
    [_, said, _] = DIALECT.from_chat({"model": "m", **body})["messages"]
    assert said["content"] == [use("t", invalid_arguments="{broken"), use("u", invalid_arguments="[1]")]


# Answers

ANSWER = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"}, text("Let me look."), use("t1", path="."), use("t2"),
    ],
    "stop_reason": "tool_use", "stop_sequence": None,
    "usage": {
        "input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 100, "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
    },
}  # fmt: skip
COMPLETION = {
    "id": "msg_1", "object": "chat.completion", "created": 0, "model": "claude",
    "choices": [
        {
            "index": 0, "finish_reason": "tool_calls", "logprobs": None,
            "message": {
                "role": "assistant", "content": "Let me look.", "reasoning_content": "hm",
                "tool_calls": [call("t1", '{"path": "."}'), call("t2")],
                "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s", "index": 0}],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 123, "completion_tokens": 7, "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_creation_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
}  # fmt: skip


def test_an_answer_is_the_same_in_both_dialects_and_sound_to_their_sdks() -> None:
    assert DIALECT.answer_to_chat(ANSWER) == COMPLETION
    assert DIALECT.answer_from_chat(COMPLETION, request()) == ANSWER
    ChatCompletion.model_validate(COMPLETION)
    Message.model_validate(ANSWER)


@pytest.mark.parametrize(
    ("ours", "chat"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "stop"),
        ("news", "stop"),
    ],
)
def test_stop_reasons_have_an_equal(ours: str, chat: str) -> None:
    answer = {**ANSWER, "content": [text("x")], "stop_reason": ours}
    assert DIALECT.answer_to_chat(answer)["choices"][0]["finish_reason"] == chat
    back = DIALECT.answer_from_chat(DIALECT.answer_to_chat(answer), request())["stop_reason"]
    assert back == {"length": "max_tokens", "content_filter": "refusal"}.get(chat, "end_turn")


def test_the_sequence_that_stopped_an_answer_is_told_where_the_model_tells_it() -> None:
    answer = {**ANSWER, "content": [text("x")], "stop_reason": "stop_sequence", "stop_sequence": "END"}
    chat = DIALECT.answer_to_chat(answer)
    assert DIALECT.answer_from_chat(chat, request(stop_sequences=["END"])) == answer
    assert DIALECT.answer_from_chat(chat, request())["stop_reason"] == "end_turn"


def test_a_refusal_is_told() -> None:
    refused = {**ANSWER, "content": [], "stop_reason": "refusal", "stop_details": {"explanation": "not this"}}
    [choice] = DIALECT.answer_to_chat(refused)["choices"]
    assert (choice["message"]["refusal"], choice["finish_reason"]) == ("not this", "content_filter")
    chat = {"choices": [{"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}]}
    answer = DIALECT.answer_from_chat(chat, request())
    assert (answer["content"], answer["stop_reason"]) == ([text("I will not.")], "refusal")


def test_calls_that_a_server_ended_with_stop_are_calls() -> None:
    message = {"content": "", "tool_calls": [{"function": {"name": "ls", "arguments": "{broken"}}]}
    answer = DIALECT.answer_from_chat({"id": "c", "choices": [{"message": message, "finish_reason": "stop"}]}, {})
    assert answer["stop_reason"] == "tool_use"
    assert answer["content"] == [use("toolu_c_0", invalid_arguments="{broken")]
    Message.model_validate(answer)


KEYS = [
    "id", "model", "content", "type", "text", "thinking", "signature", "input", "name", "choices", "message", "usage",
    "tool_calls", "function", "arguments", "input_tokens", "prompt_tokens", "prompt_tokens_details", "finish_reason",
    "stop_reason", "refusal", "reasoning_content", "thinking_blocks",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["id", "model", "content", "choices", "usage", "stop_reason"]), JSON))
def test_whatever_a_model_answers_it_is_an_answer(body: Json) -> None:
    ChatCompletion.model_validate(DIALECT.answer_to_chat(body))
    answer = DIALECT.answer_from_chat(body, body)
    assert answer["type"] == "message"
    assert isinstance(answer["usage"]["input_tokens"], int)


@pytest.mark.parametrize("said", [{"prompt_cache_hit_tokens": 7}, {"cached_tokens": 7, "prompt_tokens_details": None}])
def test_what_the_cache_had_is_told_wherever_a_model_says_it(said: Json) -> None:
    """DeepSeek and Kimi say it beside the details."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, **said}
    answer = {"id": "c", "choices": [{"message": assistant("hi"), "finish_reason": "stop"}], "usage": usage}
    claudes = DIALECT.answer_from_chat(answer, request())["usage"]
    assert (claudes["input_tokens"], claudes["cache_read_input_tokens"]) == (3, 7)
    openais = RESPONSES.answer_from_chat(answer, {"model": "m", "input": "hi"})["usage"]
    assert (openais["input_tokens"], openais["input_tokens_details"]["cached_tokens"]) == (10, 7)
