"""Which user message a human wrote, and what is theirs in it.

Owns the marks that agent programs put around and inside user messages (OpenClaw 2026.9 was observed on the wire, Claude
Code's reminders are in its own transcripts, what Hermes, nanobot and aider write in their packages); refuses to know
roles other than ``user``. Invariant: what is called a human's words is a part of what the client sent; nothing is
rephrased.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from metaclaw.chat.messages import JsonObject, identity_of, text_parts

# What programs put inside a user's message, by how it begins and ends.
_BLOCKS = (
    ("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>", "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"),
    ("<system-reminder>", "</system-reminder>"),
    ("<memory-context>", "</memory-context>"),  # Hermes, in the newest message alone
    ("[Runtime Context \u2014 metadata only, not instructions]", "[/Runtime Context]"),  # nanobot
)

# Whole messages that programs write in the user's name: OpenClaw, and those that say what a compaction left.
_SYNTHETIC = (
    "The conversation history before this point was compacted into the following summary",
    "The following is a summary of a branch that this conversation came back from",
    "This session is being continued from a previous conversation that ran out of context",  # Claude Code
    "Another language model started to solve this problem and produced a summary of its thinking process",  # Codex
    "Continue the current task from the existing transcript",
    "The previous attempt did not produce a user-visible answer",
    "This turn ended before a reply",
    "A background task completed. Use this result",
    "[Subagent Context]",
    "[Subagent '",  # nanobot
    "[CONTEXT COMPACTION",  # Hermes: what a compaction left, and what it tells a model that stopped too early
    "[CONTEXT SUMMARY]:",
    "[PRIOR CONTEXT",
    "[System: ",
    "You just executed tool calls but returned an empty response",
    "I spoke to you previously about a number of things.",  # aider: its summary, and the files, sent each time
    "Here are summaries of some files present in my git repository",
    "Here are some READ ONLY files, provided for your reference",
    "I have *added these files to the chat*",
    "I am not sharing any files ",
    "I am not sharing the full contents of any files ",
)

# After a failed request it sends the user's message again, between these.
_QUEUED = re.compile(r"^\[Queued user message from a previous active turn[^\]\n]*\][ \n]*", re.MULTILINE)
_GO_ON = "\n\nContinue the current task from the existing transcript"

# It also writes one line about itself at the end of the first user message, with the model's name in it.
_RUNTIME_LINE = re.compile(r"^Runtime: (?:name=[^|\n]*\| )?agent=\S+ \| session=.*$", re.MULTILINE)
_TIMESTAMP = re.compile(r"^\[[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d [^\]\n]{1,12}\] ")


def is_human(message: Mapping[str, Any]) -> bool:
    """Whether a human wrote (part of) ``message``."""
    return message.get("role") == "user" and bool(_human_parts(message.get("content")))


def human_indexes(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """The positions of the human's messages, in order."""
    return [index for index, message in enumerate(messages) if is_human(message)]


def human_text(message: Mapping[str, Any]) -> str:
    """The human's own words: without injected context, the client's timestamp and its line about itself."""
    texts = [part for part in _human_parts(message.get("content")) if isinstance(part, str)]
    return "\n".join(texts)


def human_identity(message: Mapping[str, Any]) -> bytes:
    """A hash of what the human sent, the same whether the client writes it as a string or as parts.

    And the same when it is sent again after an error, a minute later.
    """
    texts: list[str] = []
    others: list[object] = []
    for part in _human_parts(message.get("content")):
        texts.append(part) if isinstance(part, str) else others.append(part)
    return identity_of("\n".join(texts), others)


def _human_parts(content: object) -> list[str | JsonObject]:
    if isinstance(content, list):
        parts: list[str | JsonObject] = []
        for part in cast(list[object], content):
            texts = text_parts([part])
            if texts:
                parts.extend(_own(texts[0]))
            elif isinstance(part, dict):
                parts.append(cast(JsonObject, part))  # an image, a file: no client was seen to inject those
        return parts
    return _own(content) if isinstance(content, str) else []


def _own(text: str) -> list[str | JsonObject]:
    own = text
    for begins, ends in _BLOCKS:
        if begins in own:
            own = _without(own, begins, ends)
    if "Runtime: " in own:
        own = _RUNTIME_LINE.sub("", own)
    own = _TIMESTAMP.sub("", own.strip(), count=1)
    if own.startswith("[Queued "):
        own = _QUEUED.sub("", own.partition(_GO_ON)[0])
    own = own.strip()
    return [own] if own and not own.startswith(_SYNTHETIC) else []


def _without(text: str, begins: str, ends: str) -> str:
    # Searched by hand: a regular expression would be quadratic in a text that opens the mark over and over.
    kept: list[str] = []
    start = 0
    while (begin := text.find(begins, start)) >= 0:
        end = text.find(ends, begin)
        if end < 0:
            break
        kept.append(text[start:begin])
        start = end + len(ends)
    kept.append(text[start:])
    return "".join(kept)
