"""What an agent did, as it is shown to whoever judges it or learns from it, and the line that a vote ends with.

Owns choosing and shortening it; refuses to know who reads it. Invariant: only what came after the human's message is
shown, never a system prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from metaclaw.chat.humans import is_human

_MAX_STEPS = 12
_MAX_STEP_CHARS = 2_000
_EMPHASIS = re.compile(r"[*`]")


def steps_of(messages: Sequence[dict[str, Any]]) -> str:
    """Tool calls and their results since the human's message: what a claim in the answer must be held against.

    Of a long way the end, and how much is not shown: what an answer claims of the rest is not to be taken for made up.
    """
    steps = list[str]()
    for message in reversed(messages):
        if is_human(message):  # not what a program writes in the user's name in the middle of a tool loop
            break
        for call in reversed(message.get("tool_calls") or []):
            steps.append(cut(f"call {json.dumps(call.get('function', call), ensure_ascii=False)}", _MAX_STEP_CHARS))
        if message.get("role") == "tool":
            steps.append(cut(f"result {message.get('content')}", _MAX_STEP_CHARS))
    if len(steps) > _MAX_STEPS:
        steps[_MAX_STEPS:] = [f"[{len(steps) - _MAX_STEPS} earlier calls and results, which are not shown]"]
    return "\n".join(reversed(steps))


def last_line(vote: str) -> str:
    """The line that a vote is read from, without the marks of emphasis that models put on or inside it."""
    last = vote.rstrip().rpartition("\n")[2]  # not splitlines: what else ends a line there may be quoted inside of one
    return _EMPHASIS.sub("", last).strip()


def cut(text: str, limit: int) -> str:
    """``text`` without its middle, so that its beginning and its end stay."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[{len(text) - limit} characters left out]\n{text[-limit // 2 :]}"
