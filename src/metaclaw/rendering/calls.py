"""How model families write tool calls.

Owns the reading of one call's body per family; refuses to know tokens, streams and ids. Invariant: what is returned
calls tools that were offered, with a JSON object as arguments; anything else is ``None``, never an exception.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

Tools = Mapping[str, Mapping[str, Any]]  # the parameters' JSON schema by name


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call; ``arguments`` is the text of a JSON object."""

    name: str
    arguments: str


class CallFormat(Protocol):
    """One family's way. ``closes`` of ``""``: a call goes on to the end of the answer."""

    @property
    def opens(self) -> str: ...

    @property
    def closes(self) -> str: ...

    def parse(self, body: str, tools: Tools) -> list[ToolCall] | None:
        """The calls in what stands between the tags."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCalls:
    """Hermes and Qwen: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``."""

    opens: str = "<tool_call>"
    closes: str = "</tool_call>"

    def parse(self, body: str, tools: Tools) -> list[ToolCall] | None:
        call = _json_call(_loads(body), tools)
        return None if call is None else [call]


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlCalls:
    """Qwen3-Coder: ``<tool_call><function=name><parameter=key>value</parameter></function></tool_call>``."""

    opens: str = "<tool_call>"
    closes: str = "</tool_call>"

    def parse(self, body: str, tools: Tools) -> list[ToolCall] | None:
        head, is_call, rest = body.strip().removeprefix("<function=").partition(">")
        if not is_call or not body.strip().startswith("<function=") or head not in tools:
            return None
        inner, closing, after = rest.rpartition("</function>")
        values = _xml_parameters(inner) if closing and not after.strip() else None
        if values is None:
            return None
        arguments = {key: _typed(value, tools[head], key) for key, value in values.items()}
        text = _dumps(arguments)
        return None if text is None else [ToolCall(name=head, arguments=text)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswerCalls:
    """Llama 3: the whole answer is ``{"name": ..., "parameters": {...}}``, several divided by semicolons."""

    opens: str = "<|python_tag|>"
    closes: str = ""

    def parse(self, body: str, tools: Tools) -> list[ToolCall] | None:
        decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        calls: list[ToolCall] = []
        rest = body.strip()
        while rest:
            try:
                value, end = decoder.raw_decode(rest)
            except (ValueError, RecursionError):
                return None
            call = _json_call(value, tools)
            if call is None:
                return None
            calls.append(call)
            rest = rest[end:].lstrip().removeprefix(";").lstrip()
        return calls or None


def _json_call(value: object, tools: Tools) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    call = cast(dict[str, Any], value)
    name, arguments = call.get("name"), call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):  # some models quote them, as the API does
        arguments = _loads(arguments)
    if not isinstance(name, str) or name not in tools or not isinstance(arguments, dict):
        return None
    text = _dumps(cast(dict[str, Any], arguments))
    return None if text is None else ToolCall(name=name, arguments=text)


def _xml_parameters(inner: str) -> dict[str, str] | None:
    values: dict[str, str] = {}
    rest = inner.strip()
    while rest:
        if not rest.startswith("<parameter="):
            return None
        key, has_key, rest = rest.removeprefix("<parameter=").partition(">")
        value, closing, rest = rest.partition("</parameter>")
        if not has_key or not closing:
            return None
        values[key] = value.removeprefix("\n").removesuffix("\n")
        rest = rest.lstrip()
    return values


def _typed(value: str, schema: Mapping[str, Any], key: str) -> Any:
    """``value`` as the tool's schema wants it: only the schema tells the number 5 from the text "5"."""
    properties: object = schema.get("properties")
    wanted: object = cast(dict[str, Any], properties).get(key) if isinstance(properties, dict) else None
    kind: object = cast(dict[str, Any], wanted).get("type") if isinstance(wanted, dict) else None
    if kind is None or kind == "string":
        return value
    parsed = _loads(value)
    return value if parsed is _MALFORMED else parsed


_MALFORMED = object()


def _loads(text: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text, parse_constant=_refuse_constant)
    return _MALFORMED


def _dumps(arguments: dict[str, Any]) -> str | None:
    """JSON that can be sent: infinite numbers cannot, and lone surrogates only as escapes."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text
    return json.dumps(arguments)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
