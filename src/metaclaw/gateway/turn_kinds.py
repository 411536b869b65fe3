"""Is it a turn of the conversation, or the program's own bookkeeping?

Owns the guess for clients that do not say; refuses to know what follows from it. Invariant: a request is called a side
turn for a mark of a known program's bookkeeping only; a plain chat client without tools has main turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from metaclaw.chat.messages import JsonObject, text_parts
from metaclaw.errors import InvalidRequestError
from metaclaw.journal.turns import TurnKind

# What a program says in a header of a request that is no turn of its conversation with the user, though it may be in
# the same session: Claude Code 2.1 (seen), Codex 0.169 (seen), opencode 1.18 (in its source).
_SIDE_HEADERS = frozenset(
    (
        "x-claude-code-agent-id",  # of a subagent
        "x-claude-code-auxiliary-type",
        "x-openai-subagent",  # also of reviews, compactions and what Codex remembers
        "x-openai-memgen-request",
        "x-parent-session-id",
    )
)
_REQUEST_CLASS = "x-claude-code-request-class"

# Sessions that OpenClaw runs beside the one with its user.
_SIDE_SESSION = re.compile(r":(?:subagent|cron|hook|heartbeat|skill-workshop)(?::|$)")

# How requests for titles, summaries and the like begin, in the system prompt. Those without a program that was seen on
# the wire are in the releases of November 2026: Hermes 0.19, nanobot 0.3.5, QwenPaw 2.2.2, aider 0.86.
_SIDE_SYSTEM = (
    "You are a context summarization assistant",  # OpenClaw
    "You are a title generator",  # opencode
    "You are a context summarization agent",
    "You are an anchored context summarization",
    "You are a helpful AI assistant tasked with summarizing conversations",  # Claude Code
    "Analyze if this message indicates a new conversation topic",
    "Summarize this coding conversation in under 50 characters",
    "You are naming a coding session",
    "Generate a short kebab-case name (2-4 words) that captures the main topic of this conversation",
    "Generate a concise, technical issue title (max 80 chars) for a public GitHub issue",
    "Write a short summary label describing what these tool calls accomplished",
    "You are selecting memories that will be useful to Claude Code",
    "Analyze this Claude Code session and extract structured facets",
    "Summarize this portion of a Claude Code session transcript",
    "Generate a concise, single-line task title",  # Codex
    "## Memory Writing Agent",
    "*Briefly* summarize this partial conversation about programming",  # aider
    "You are an expert software engineer that generates concise, one-line Git commit messages",  # aider
    "You write short, neutral chat titles",  # nanobot
    "You are a notification gate for a background agent",
    "# Subagent\n\nYou are a subagent spawned by the main agent",
    "You generate short titles for chat sessions",  # QwenPaw
    "You update a compact continuation summary",
    "\u4f60\u8d1f\u8d23\u66f4\u65b0\u4e00\u4efd\u7d27\u51d1\u7684 continuation summary",
    "You are given the user's recent session contexts and current screen content",
)
_HOOK = re.compile(r"You are evaluating an? [^.\n]{0,30}hook in Claude Code")
# For programs that nobody has looked at: an order to write one, at the very beginning of a system prompt, and no tools.
_TITLE_OR_SUMMARY = re.compile(
    r"(?:(?:your (?:task|job|role) is to|you (?:will|must|should)|please)\s+)?"
    r"(?:(?:generate|create|write|produce)\b[^.\n]{0,60}\b(?:title|summary)\b[^.\n]{0,60}"
    r"\b(?:conversation|chat|thread|session)\b"
    r"|summari[sz]e\b[^.\n]{0,40}\b(?:conversation|chat|thread|session)\b)"
    r"|you are an? [^.\n]{0,30}\b(?:title generator|(?:conversation|chat|thread|session) (?:title|summar)\w*)",
    re.IGNORECASE,
)

# The same, as the last message in the user's name.
_SIDE_USER = (
    "Your task is to create a detailed summary of the conversation so far",  # Claude Code's compaction
    "[SUGGESTION MODE: ",  # what the user may type next
    "You are now acting as the memory extraction subagent",
    "The user stepped away and is coming back. Recap",
    "You are performing a CONTEXT CHECKPOINT COMPACTION",  # Codex
    "Create a new anchored summary from the conversation history",  # opencode
    "Please write a 5-10 word title for the following conversation",
    "### Task:\nGenerate a concise, 3-5 word title",  # Open WebUI
    "### Task:\nGenerate 1-3 broad tags",
    "### Task:\nSuggest 3-5 relevant follow-up",
    "Follow the heartbeat monitor scratch context",  # OpenClaw
    "Pre-compaction memory flush",
    "A background task completed. Use this result",
    "[Subagent Context]",
    "You are a summarization agent creating a context checkpoint",  # Hermes
    "Review the conversation above and consider saving to memory",
    "Review the conversation above and update the skill library",
    "Review the conversation above and update two things",  # both
    "You are running as Hermes' background skill CURATOR",
    "[IMPORTANT: You are running as a scheduled cron job",
    "Create a compact replacement checkpoint for this session",  # nanobot
    "You are running Dream. Consolidate the conversation history",
    "[Your response will be delivered directly to the user's messaging app",
    "The scheduled time has arrived. Execute this scheduled cron job",
    "[Subagent '",
)
_INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
_TIMESTAMP = re.compile(r"^\[[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d [^\]\n]{1,12}\] ")


def stated_kind(header: str | None, control: str | None) -> TurnKind | None:
    """What the client says; raises ``InvalidRequestError`` when it is neither."""
    name, value = ("X-Turn-Type", header) if header else ("turn_type", control)
    if not value:
        return None
    kind = value.strip().lower()
    if kind not in ("main", "side"):
        raise InvalidRequestError(f"{name} must be 'main' or 'side', not {value!r:.80}", param=name)
    return kind


def guessed_kind(
    body: JsonObject,
    messages: Sequence[Mapping[str, Any]],
    session_key: str | None,
    headers: Mapping[str, str],
) -> TurnKind:
    """What a request looks like. ``headers`` has lower-case names or is case-blind."""
    if session_key and _SIDE_SESSION.search(session_key):
        return "side"
    if headers.get(_REQUEST_CLASS, "main") != "main":
        return "side"
    if not _SIDE_HEADERS.isdisjoint(headers) and any(headers.get(name) for name in _SIDE_HEADERS):
        return "side"
    last = _last_of_user(messages)
    for text in last:
        if text.startswith(_SIDE_USER):
            return "side"
    if last == ["quota"] and _output_limit(body) == 1:  # Claude Code asks whether it may ask
        return "side"
    has_tools = bool(body.get("tools") or body.get("functions"))
    for message in messages:
        if message["role"] in ("system", "developer"):
            for text in text_parts(message.get("content")):
                begun = text.lstrip()
                if begun.startswith(_SIDE_SYSTEM) or _HOOK.match(begun):
                    return "side"
                if not has_tools and _TITLE_OR_SUMMARY.match(begun):
                    return "side"
    return "main"


def _last_of_user(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of the last message, of which a program may have put reminders before its order."""
    for message in reversed(messages):
        if message["role"] == "user":
            texts = [text.strip() for text in text_parts(message.get("content"))]
            if not (texts and texts[0].startswith(_INTERNAL)):
                return [_TIMESTAMP.sub("", text, count=1) for text in texts]
    return []


def _output_limit(body: JsonObject) -> object:
    return body.get("max_tokens") or body.get("max_completion_tokens") or body.get("max_output_tokens")
