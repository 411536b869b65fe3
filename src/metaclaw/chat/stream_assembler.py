"""From the chunks of a stream to the message that they make.

Owns the folding of OpenAI chat deltas; refuses to know transport. Invariant: it never raises on what a provider
sends; a chunk that makes no sense adds nothing.
"""

from __future__ import annotations

from typing import cast

from metaclaw.chat.messages import JsonObject, object_or_none, text_or_none
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.streamed_calls import CallNumbers

_IN_PIECES = ("function_call", "audio")  # objects whose texts come so


class StreamAssembler:
    """Add chunks in order, then ask for the ``answer``."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {0: _Choice()}
        self._usage: JsonObject | None = None
        self._policy_record: JsonObject | None = None
        self._model: str | None = None

    def add(self, chunk: JsonObject) -> None:
        """Fold one chunk."""
        # Nearly every chunk has a piece of text and nothing else, and an answer has hundreds of them.
        if usage := chunk.get("usage"):
            self._usage = object_or_none(usage) or self._usage
        if record := chunk.get("policy_record"):
            self._policy_record = object_or_none(record) or self._policy_record
        if not self._model:
            self._model = text_or_none(chunk.get("model"))
        choices: object = chunk.get("choices")
        for choice in cast(list[object], choices) if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                index: object = cast(JsonObject, choice).get("index", 0)
                if isinstance(index, int):
                    self._choices.setdefault(index, _Choice()).add(cast(JsonObject, choice))

    def answer(self) -> ChatAnswer:
        """What has come so far; its message is ``None`` before the first delta."""
        others = [self._choices[index] for index in sorted(self._choices) if index != 0]
        return ChatAnswer(
            message=self._choices[0].message(),
            finish_reason=self._choices[0].finish_reason,
            usage=self._usage,
            policy_record=self._policy_record,
            others=tuple({"message": other.message(), "finish_reason": other.finish_reason} for other in others),
            model=self._model,
        )


class _Choice:
    """One of n answers."""

    def __init__(self) -> None:
        self._message: JsonObject = {}
        self._calls: dict[int, JsonObject] = {}
        self._numbers = CallNumbers()
        self.finish_reason: str | None = None

    def add(self, choice: JsonObject) -> None:
        if reason := choice.get("finish_reason"):
            self.finish_reason = text_or_none(reason) or self.finish_reason
        for key, value in (object_or_none(choice.get("delta")) or {}).items():
            if key == "tool_calls":
                self._add_calls(value)
            elif key == "role":
                self._message[key] = value or "assistant"
            elif key in _IN_PIECES and isinstance(value, dict):
                known = object_or_none(self._message.get(key)) or {}
                pieces = {name: _joined(known.get(name), piece) for name, piece in cast(JsonObject, value).items()}
                self._message[key] = {**known, **pieces}
            elif value is not None:
                self._message[key] = _joined(self._message.get(key), value)

    def message(self) -> JsonObject | None:
        message = dict(self._message)
        if self._calls:
            message["tool_calls"] = [self._calls[number] for number in self._numbers.in_order()]
        return {"role": "assistant", "content": None, **message} if message else None

    def _add_calls(self, deltas: object) -> None:
        for delta in cast(list[object], deltas) if isinstance(deltas, list) else []:
            if isinstance(delta, dict):
                self._add_call(cast(JsonObject, delta))

    def _add_call(self, delta: JsonObject) -> None:
        call = self._calls.setdefault(self._numbers.of(delta), {"type": "function", "function": {}})
        for key, value in delta.items():
            if key == "function":
                function = cast(JsonObject, call["function"])
                for name, part in (object_or_none(value) or {}).items():
                    if part is not None:
                        function[name] = _joined(function.get(name), part)
            elif key != "index" and value and not (key == "id" and key in call):
                call[key] = (
                    value  # ids and types come whole; where a server makes a new id for each piece, the first is it
                )


def _joined(so_far: object, value: object) -> object:
    if isinstance(so_far, str) and isinstance(value, str):
        return so_far + value
    if isinstance(so_far, list) and isinstance(value, list):
        return [*cast(list[object], so_far), *cast(list[object], value)]
    return value
