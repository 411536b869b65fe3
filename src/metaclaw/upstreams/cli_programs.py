"""The command-line programs of subscriptions: how each is run without tools, and what its lines mean.

Owns their arguments, variables, files and events; refuses to know processes. Invariant: no prompt and no token is in an
argument, and no program is offered a tool, a file of the user's, or a right to anything. What holds that was seen on
the wire with the versions named below; a program that does not know a flag refuses to start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaclaw.chat.messages import JsonObject, object_or_none

SYSTEM_FILE = "system.md"

_CLAUDE_DENIED = json.dumps(
    # An ``@path`` in a prompt is read by the program itself, tool or no tool, unless a rule denies reading.
    {"permissions": {"deny": ["Read", "Read(//**)", "Read(**)", "Bash", "LS"]}, "disableAllHooks": True}
)
_CODEX_FEATURES = (
    "shell_tool", "unified_exec", "multi_agent", "goals", "view_image", "apps", "browser_use", "computer_use",
    "plugins", "hooks", "image_generation", "skill_search", "tool_suggest", "mentions_v2", "shell_snapshot",
)  # fmt: skip
_GEMINI_SETTINGS: JsonObject = {
    "tools": {"core": []},
    "mcpServers": {},
    "privacy": {"usageStatisticsEnabled": False},
    "skills": {"enabled": False},
    "hooksConfig": {"enabled": False},
}
_GEMINI_WITH_KEY = {**_GEMINI_SETTINGS, "security": {"auth": {"selectedType": "gemini-api-key"}}}
_GEMINI_POLICY = '[[rule]]\ntoolName = "*"\ndecision = "deny"\npriority = 999\n'

_FINISH_REASONS = {"max_tokens": "length", "refusal": "content_filter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CliEvent:
    """What a line of a program says. ``finish_reason`` ends the answer, ``error`` fails it."""

    text: str = ""
    thinking: str = ""
    finish_reason: str | None = None
    usage: JsonObject | None = None
    error: str | None = None
    status: int | None = None
    tool: str | None = None


Reader = Callable[[JsonObject], list[CliEvent]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program. ``files`` are written beside the system prompt, outside its working folder."""

    title: str
    command: str
    login: str  # what a user runs to sign in
    token_variable: str
    variables: Mapping[str, str]
    reader: Callable[[], Reader]
    arguments: Callable[[Path, str], list[str]]
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    token_files: Mapping[str, str] = field(default_factory=dict[str, str])  # instead of those, where a token is set
    has_system_file: bool = True

    def environment(self, folder: Path) -> dict[str, str]:
        """Its own variables; ``{folder}`` in one is where its files are."""
        return {name: value.format(folder=folder) for name, value in self.variables.items()}


def _claude_arguments(folder: Path, model: str) -> list[str]:
    return [
        "--print", "--output-format=stream-json", "--verbose", "--include-partial-messages",
        "--tools=", "--permission-mode=dontAsk", "--strict-mcp-config", "--setting-sources=",
        f"--settings={_CLAUDE_DENIED}", "--disable-slash-commands", "--safe-mode", "--no-session-persistence",
        f"--system-prompt-file={folder / SYSTEM_FILE}",
        *([f"--model={model}"] if model else []),
    ]  # fmt: skip


def _claude_reader() -> Reader:
    has_text = False

    def read(line: JsonObject) -> list[CliEvent]:
        nonlocal has_text
        kind = line.get("type")
        if kind == "stream_event":
            event = _object(line.get("event"))
            delta = _object(event.get("delta"))
            if _object(event.get("content_block")).get("type") in ("tool_use", "server_tool_use"):
                return [CliEvent(tool=str(_object(event.get("content_block")).get("name")))]
            text, thinking = _text(delta.get("text")), _text(delta.get("thinking"))
            has_text = has_text or bool(text)
            return [CliEvent(text=text, thinking=thinking)] if text or thinking else []
        if kind != "result":
            return []
        if line.get("is_error"):
            status = line.get("api_error_status")
            return [CliEvent(error=_text(line.get("result")), status=status if isinstance(status, int) else None)]
        said = "" if has_text else _text(line.get("result"))
        reason = _FINISH_REASONS.get(_text(line.get("stop_reason")), "stop")
        return [CliEvent(text=said, finish_reason=reason, usage=_claude_usage(_object(line.get("usage"))))]

    return read


def _claude_usage(usage: JsonObject) -> JsonObject:
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    return _usage(
        prompt=_count(usage, "input_tokens") + read + written,
        completion=_count(usage, "output_tokens"),
        cached=read,
        written=written,
    )


def _codex_arguments(_folder: Path, model: str) -> list[str]:
    return [
        "exec", "--json", "--ephemeral", "--skip-git-repo-check", "--ignore-user-config", "--ignore-rules",
        "--sandbox=read-only", "--color=never",
        *(f"--disable={feature}" for feature in _CODEX_FEATURES),
        "--config=approval_policy=\"never\"", "--config=web_search=\"disabled\"",
        "--config=include_environment_context=false", "--config=include_permissions_instructions=false",
        *([f"--model={model}"] if model else []),
        "-",
    ]  # fmt: skip


def _codex_reader() -> Reader:
    def read(line: JsonObject) -> list[CliEvent]:
        kind, item = line.get("type"), _object(line.get("item"))
        if kind == "turn.failed":
            return [CliEvent(error=_text(_object(line.get("error")).get("message")))]
        if kind == "turn.completed":
            return [CliEvent(finish_reason="stop", usage=_codex_usage(_object(line.get("usage"))))]
        if item.get("type") not in (None, "agent_message", "reasoning", "error"):
            return [CliEvent(tool=_text(item.get("type")))]
        if kind != "item.completed":
            return []
        said = _text(item.get("text"))
        if item.get("type") == "agent_message":
            return [CliEvent(text=said)]
        return [CliEvent(thinking=said)] if item.get("type") == "reasoning" else []

    return read


def _codex_usage(usage: JsonObject) -> JsonObject:
    return _usage(
        prompt=_count(usage, "input_tokens"),
        completion=_count(usage, "output_tokens"),
        cached=_count(usage, "cached_input_tokens"),
        reasoning=_count(usage, "reasoning_output_tokens"),
    )


def _gemini_arguments(folder: Path, model: str) -> list[str]:
    return [
        "--output-format=stream-json", "--approval-mode=default", "--extensions=none",
        "--allowed-mcp-server-names=none", f"--admin-policy={folder / 'policy.toml'}",
        *([f"--model={model}"] if model else []),
    ]  # fmt: skip


def _gemini_reader() -> Reader:
    def read(line: JsonObject) -> list[CliEvent]:
        kind = line.get("type")
        if kind == "tool_use":
            return [CliEvent(tool=_text(line.get("tool_name")))]
        if kind == "message" and line.get("role") == "assistant":
            return [CliEvent(text=_text(line.get("content")))]
        if kind != "result":
            return []
        if line.get("status") != "success":
            return [CliEvent(error=_text(_object(line.get("error")).get("message")))]
        return [CliEvent(finish_reason="stop", usage=_gemini_usage(_object(line.get("stats"))))]

    return read


def _gemini_usage(stats: JsonObject) -> JsonObject:
    return _usage(
        prompt=_count(stats, "input_tokens"),
        completion=_count(stats, "output_tokens"),
        cached=_count(stats, "cached"),
    )


def _usage(*, prompt: int, completion: int, cached: int = 0, written: int = 0, reasoning: int = 0) -> JsonObject:
    details: JsonObject = {"cached_tokens": cached} | ({"cache_creation_tokens": written} if written else {})
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _object(value: Any) -> JsonObject:
    return object_or_none(value) or {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(values: JsonObject, name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


PROGRAMS: Mapping[str, Program] = {
    "claude": Program(  # seen with 2.1.197: no tools in the request, ``@file`` stays text
        title="Claude Code",
        command="claude",
        login="claude setup-token",
        token_variable="CLAUDE_CODE_OAUTH_TOKEN",
        variables={
            "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "DISABLE_AUTOUPDATER": "1",
        },
        reader=_claude_reader,
        arguments=_claude_arguments,
    ),
    "codex": Program(  # seen with 0.169.0: one tool is left, which asks the user something and is refused here
        title="Codex",
        command="codex",
        login="codex login",
        token_variable="CODEX_API_KEY",
        variables={},
        reader=_codex_reader,
        arguments=_codex_arguments,
        has_system_file=False,
    ),
    "gemini": Program(  # seen with 0.61.0: no tools in the request, files outside its empty folder are not read
        title="Gemini CLI",
        command="gemini",
        login="gemini",
        token_variable="GEMINI_API_KEY",
        variables={
            "GEMINI_CLI_SYSTEM_SETTINGS_PATH": "{folder}/settings.json",
            "GEMINI_SYSTEM_MD": f"{{folder}}/{SYSTEM_FILE}",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
        },
        reader=_gemini_reader,
        arguments=_gemini_arguments,
        files={"settings.json": json.dumps(_GEMINI_SETTINGS), "policy.toml": _GEMINI_POLICY},
        token_files={"settings.json": json.dumps(_GEMINI_WITH_KEY)},
    ),
}
