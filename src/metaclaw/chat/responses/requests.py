"""Requests: their shape, and their parameters both ways.

Owns which parameter of responses is which of chat; refuses to know items and tools beyond handing them on.
Invariant: a parameter that the other side lacks is refused by name unless its value asks for nothing; one that we do
not know is passed on as it came.

We keep no responses. ``store: true`` is accepted because it asks for nothing at once, and the answer says
``store: false``; whatever relies on a kept response is refused with the advice to send the history again.
"""

from __future__ import annotations

from typing import Any

from metaclaw.chat.checks import flag_in, number_in, text_in
from metaclaw.chat.dialect import ClientRequest
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, is_list, is_object, objects_in, without
from metaclaw.chat.responses.conversation import conversation_of
from metaclaw.chat.responses.items import items_of
from metaclaw.chat.responses.reasoning import ENCRYPTED
from metaclaw.chat.responses.tools import (
    choice_from_chat,
    choice_to_chat,
    format_from_chat,
    format_to_chat,
    tools_from_chat,
    tools_to_chat,
)
from metaclaw.errors import InvalidRequestError

NAME = "openai.responses"

_NOT_KEPT = "responses are not kept here: send the whole history in 'input'"
_SPEAKS_CHAT = "the model behind this gateway speaks chat completions, which lack it"
# What chat cannot say, and the values that ask for nothing.
_NOT_IN_CHAT: dict[str, tuple[str, tuple[object, ...]]] = {
    "previous_response_id": (_NOT_KEPT, ()),
    "conversation": (_NOT_KEPT, ()),
    "prompt": ("prompts are not kept here: send it in 'instructions' or 'input'", ()),
    "background": ("responses are not kept here, so nobody could ask for the answer later", (False,)),
    "background_options": (_SPEAKS_CHAT, ({},)),
    "truncation": (f"{_SPEAKS_CHAT}; the gateway has a setting of its own for it", ("disabled",)),
    "context_management": (_SPEAKS_CHAT, ([],)),
    "max_tool_calls": ("it limits tools that a provider runs, of which there are none here", ()),
    "moderation": (_SPEAKS_CHAT, ()),
    "image": (_SPEAKS_CHAT, ({},)),
    "access_programs": (_SPEAKS_CHAT, ({},)),
    "top_logprobs": ("log-probabilities are not translated", (0,)),
}
_NOT_IN_RESPONSES: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "stop": ([], ""),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "seed": (),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "functions": ([],),
    "function_call": (),
    "moderation": (),
}
# What chat has no need of; Codex tells OpenAI in ``client_metadata`` about its installation and what it is doing.
_HINTS = ("include", "stream_options", "store", "client_metadata")
_TO_CHAT = ("input", "instructions", "max_output_tokens", "tools", "tool_choice", "text", "reasoning")
_FROM_CHAT = (
    "messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "response_format", "verbosity",
    "reasoning_effort",
)  # fmt: skip


def parse(body: JsonObject) -> ClientRequest:
    """Check ``body``; raises ``InvalidRequestError`` with the name of the parameter."""
    _check_input(body)
    text_in(body, "instructions")
    return ClientRequest(
        dialect=NAME,
        body=body,
        messages=[_unsealed(message) for message in conversation_of(body).messages],
        model=text_in(body, "model"),
        is_stream=flag_in(body, "stream"),
        temperature=number_in(body, "temperature"),
    )


def _unsealed(message: JsonObject) -> JsonObject:
    # What is sealed is nothing that was said.
    return without(message, "thinking_blocks") if "thinking_blocks" in message else message


def to_chat(body: JsonObject) -> JsonObject:
    """The request for a model that speaks chat. Raises ``InvalidRequestError``."""
    for name, (why, harmless) in _NOT_IN_CHAT.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise InvalidRequestError(f"{name!r} cannot be had: {why}", param=name)
    _check_include(body)
    if as_object(body.get("stream_options")).get("include_obfuscation"):
        raise InvalidRequestError(f"'include_obfuscation' cannot be had: {_SPEAKS_CHAT}", param="stream_options")
    conversation = conversation_of(body)
    if conversation.problems:
        raise conversation.problems[0]
    given = {key: value for key, value in body.items() if value is not None}
    chat = without(given, *_TO_CHAT, *_NOT_IN_CHAT, *_HINTS)
    chat["messages"] = conversation.messages
    if "max_output_tokens" in given:
        # Not max_completion_tokens: most models that speak only chat know only the older name, and ignore the newer.
        chat["max_tokens"] = given["max_output_tokens"]
    chat |= _tools_to_chat(given)
    if "tools" not in chat:
        chat.pop("parallel_tool_calls", None)
    chat |= _text_to_chat(as_object(given.get("text")))
    chat |= _reasoning_to_chat(as_object(given.get("reasoning")))
    if given.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return chat


def from_chat(body: JsonObject) -> JsonObject:
    """A chat request for a model that speaks only responses. Raises ``InvalidRequestError``."""
    for name, harmless in _NOT_IN_RESPONSES.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise InvalidRequestError(
                f"{name!r} cannot be had: the model behind this gateway speaks the responses API, which lacks it",
                param=name,
            )
    given = {key: value for key, value in body.items() if value is not None}
    request = without(given, *_FROM_CHAT, *_NOT_IN_RESPONSES, "stream_options")
    request["input"] = items_of(objects_in(given.get("messages")))
    request["store"] = bool(given.get("store"))  # there the default is true, in chat it is false
    limit = given.get("max_completion_tokens", given.get("max_tokens"))
    if limit is not None:
        request["max_output_tokens"] = limit
    if given.get("tools"):
        request["tools"] = tools_from_chat(given["tools"])
    if "tool_choice" in given:
        request["tool_choice"] = choice_from_chat(given["tool_choice"])
    text: JsonObject = {}
    if "response_format" in given:
        text["format"] = format_from_chat(given["response_format"])
    if "verbosity" in given:
        text["verbosity"] = given["verbosity"]
    if text:
        request["text"] = text
    if "reasoning_effort" in given:
        request["reasoning"] = {"effort": given["reasoning_effort"]}
    return request


def _tools_to_chat(given: JsonObject) -> JsonObject:
    tools, choice = tools_to_chat(given), given.get("tool_choice")
    if not tools and choice in ("auto", "none"):
        choice = None  # chat models refuse a choice among none
    chosen: JsonObject = {} if choice is None else {"tool_choice": choice_to_chat(choice)}
    return {"tools": tools, **chosen} if tools else chosen


def _text_to_chat(text: JsonObject) -> JsonObject:
    chat: JsonObject = {}
    form = format_to_chat(text.get("format"))
    if form is not None:
        chat["response_format"] = form
    if text.get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]
    return chat


def _reasoning_to_chat(reasoning: JsonObject) -> JsonObject:
    for name, harmless in (("context", "auto"), ("mode", "standard")):
        if reasoning.get(name) not in (None, harmless):
            raise InvalidRequestError(f"'reasoning.{name}' cannot be had: {_SPEAKS_CHAT}", param=f"reasoning.{name}")
    return {} if reasoning.get("effort") is None else {"reasoning_effort": reasoning["effort"]}


def _check_include(body: JsonObject) -> None:
    for wanted in as_list(body.get("include")):
        if wanted != ENCRYPTED:
            raise InvalidRequestError(f"'include' cannot have {wanted!r:.60}: {_SPEAKS_CHAT}", param="include")


def _check_input(body: JsonObject) -> None:
    given: Any = body.get("input")
    if given is None and any(body.get(name) for name in ("prompt", "previous_response_id", "conversation")):
        return  # it goes on from what the provider keeps
    if isinstance(given, str):
        return
    if not is_list(given):
        raise InvalidRequestError("'input' must be a string or a list of items", param="input")
    for index, item in enumerate(given):
        if not is_object(item):
            raise InvalidRequestError(f"input[{index}] must be an object", param=f"input[{index}]")
        is_message = "role" in item or item.get("type") == "message"
        if is_message and not isinstance(item.get("role"), str):
            raise InvalidRequestError(f"input[{index}].role must be a string", param=f"input[{index}].role")
