"""From the sampler's events to a chat completion, whole or in chunks.

Owns the shape of the answer; refuses to know HTTP and how an answer is read. Invariant: the chunks of a stream folded
by their indexes are the whole answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metaclaw.training.api.chat_choice import Choice, Delta, NamedCall
from metaclaw.training.api.sampling import Event, Finished, PromptScored
from metaclaw.training.commands import Generate


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What all parts of one answer share: ids, names, and what the client wants to see."""

    completion_id: str
    created: int
    model: str
    command: Generate
    choices: list[Choice]
    wants_logprobs: bool = False
    wants_token_ids: bool = False
    wants_policy_record: bool = False
    wants_usage: bool = False

    @property
    def commands(self) -> Sequence[Generate]:
        """What the sampler is asked."""
        return (self.command,)

    def take(self, part: int, event: Event) -> list[dict[str, Any]]:
        """Add ``event`` to its choice; return the stream's chunks for it. There is one ``part`` in a chat."""
        if isinstance(event, PromptScored):
            return []
        choice = self.choices[event.sample]
        is_first = not choice.has_started
        delta = choice.finish(event) if isinstance(event, Finished) else choice.add(event)
        return self._chunks(choice, delta, is_first=is_first)

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        return {
            **self._head("chat.completion"),
            "choices": [self._whole_choice(choice) for choice in self.choices],
            "usage": self._usage(),
            **self._prompt_ids(),
            **self._record(),
        }

    def last_chunk(self) -> dict[str, Any] | None:
        """What comes after every choice has ended, if the client asked for it."""
        if not (self.wants_usage or self.wants_policy_record):
            return None
        usage = {"usage": self._usage()} if self.wants_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [], **usage, **self._record()}

    def _chunks(self, choice: Choice, delta: Delta, *, is_first: bool) -> list[dict[str, Any]]:
        """The first of a choice carries its role, the last its finish_reason; a call's name precedes its arguments."""
        contents: list[dict[str, Any]] = []
        shown = {"content": delta.text} if delta.text else {}
        if delta.thinking:
            shown["reasoning_content"] = delta.thinking
        if is_first:
            shown = {"role": "assistant", "content": "", **shown}
        if shown or delta.logprobs or (self.wants_token_ids and delta.tokens):
            contents.append(shown)
        for call in delta.calls:
            contents += [{"tool_calls": [_begun(call)]}, {"tool_calls": [_argued(call)]}]
        if choice.finish_reason and not contents:
            contents.append({})
        return [
            self._chunk(choice, content, delta if place == 0 else Delta(), is_first=is_first and place == 0,
                        is_last=place == len(contents) - 1)
            for place, content in enumerate(contents)
        ]  # fmt: skip

    def _chunk(
        self, choice: Choice, content: dict[str, Any], delta: Delta, *, is_first: bool, is_last: bool
    ) -> dict[str, Any]:
        finish_reason = choice.finish_reason if is_last else None
        body: dict[str, Any] = {"index": choice.index, "delta": content, "finish_reason": finish_reason}
        body["logprobs"] = {"content": delta.logprobs} if self.wants_logprobs and delta.logprobs else None
        if self.wants_token_ids:
            body["token_ids"] = delta.tokens
        prompt_ids = self._prompt_ids() if is_first and choice.index == 0 else {}
        return {**self._head("chat.completion.chunk"), "choices": [body], **prompt_ids}

    def _whole_choice(self, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if choice.thinking:
            message["reasoning_content"] = choice.thinking
        if choice.calls:
            message["content"] = choice.text or None
            message["tool_calls"] = [_whole_call(call) for call in choice.calls]
        body: dict[str, Any] = {
            "index": choice.index,
            "message": message,
            "finish_reason": choice.finish_reason,
            "logprobs": {"content": choice.logprobs, "refusal": None} if self.wants_logprobs else None,
        }
        return {**body, "token_ids": choice.tokens().tolist()} if self.wants_token_ids else body

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.completion_id, "object": kind, "created": self.created, "model": self.model}

    def _prompt_ids(self) -> dict[str, Any]:
        return {"prompt_token_ids": self.command.prompt.tolist()} if self.wants_token_ids else {}

    def _record(self) -> dict[str, Any]:
        if not self.wants_policy_record:
            return {}
        return {"policy_record": self.choices[0].policy_record(self.model, self.command)}

    def _usage(self) -> dict[str, Any]:
        return usage_of(
            len(self.command.prompt),
            sum(len(choice.tokens()) for choice in self.choices),
            num_cached=max(choice.num_cached for choice in self.choices),
            num_thinking=sum(choice.num_thinking() for choice in self.choices),
        )


def usage_of(num_prompt: int, num_answer: int, *, num_cached: int = 0, num_thinking: int = 0) -> dict[str, Any]:
    """OpenAI's count of tokens; ``num_cached`` of the prompt's were known from an earlier request."""
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_answer,
        "total_tokens": num_prompt + num_answer,
        "prompt_tokens_details": {"cached_tokens": num_cached},
        "completion_tokens_details": {"reasoning_tokens": num_thinking},
    }


def _whole_call(named: NamedCall) -> dict[str, Any]:
    function = {"name": named.call.name, "arguments": named.call.arguments}
    return {"id": named.call_id, "type": "function", "function": function}


def _begun(named: NamedCall) -> dict[str, Any]:
    function = {"name": named.call.name, "arguments": ""}
    return {"index": named.index, "id": named.call_id, "type": "function", "function": function}


def _argued(named: NamedCall) -> dict[str, Any]:
    return {"index": named.index, "function": {"arguments": named.call.arguments}}
