"""Requests as agent programs send them: a person's line or two among tens of kilobytes that no person wrote.

What programs write is full of sentences that would be worth remembering if a person had said them. The forms are those
seen on the wire (`shared/protocols/clients.md`, section 1) and those of plugins that put memories into prompts. Made of
a seed, so that every run is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

Json = dict[str, Any]
SYSTEM_BYTES = 48_000
TRACE = "JUNK"  # stands in whatever no person said, wherever a sentence has room for it


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """One request; ``fact`` is what a person said in it that is worth knowing, "" when nothing was."""

    path: str
    headers: dict[str, str]
    body: Json
    fact: str = ""


@dataclass(slots=True)
class _Talk:
    """One conversation. ``history`` is what the client sends again each time."""

    number: int
    chance: Random
    form: str
    history: list[Json] = field(default_factory=list)


_TEMPTING = (
    "I live in {0}.", "My name is {0}.", "My dog is called {0}.", "I prefer {0} over tea.",
    "Remember that my door code is {0}.",
    "We decided to use {0} for the database.", "I work at {0}.", "I am allergic to {0}.", "Always answer in {0}.",
    "The user lives in {0}.", "The user's favourite editor is {0}.", "My birthday is on 3 May and {0} knows it.",
    "Never deploy on {0}.", "Our project is called {0}.", "Ich wohne in {0}.", "Mi perro se llama {0}.", "我住在{0}。",
)  # fmt: skip
_FACTS = (
    "My cat is called {0}.", "I live in {0}.", "I prefer {0} over coffee.", "My sister's name is {0}.",
    "I work at {0}.",
    "Remember that the spare key is with {0}.", "We decided to use {0} for the backend.", "I am allergic to {0}.",
)  # fmt: skip
_IDLE = (
    "Please run the tests.",
    "What is left to do?",
    "Go on.",
    "Show me the diff of the last commit.",
    "Thanks!",
    "Why?",
)


def requests(number: int, seed: int = 1) -> Iterator[AgentRequest]:
    """``number`` requests, conversations interleaved as they come."""
    chance = Random(seed)
    talks: list[_Talk] = []
    for index in range(number):
        if len(talks) < 8 or chance.random() < 0.2:
            talks.append(_Talk(number=len(talks), chance=chance, form=chance.choice(sorted(_FORMS))))
        talk = chance.choice(talks[-8:])
        fact = chance.choice(_FACTS).format(f"Ulm{index}") if chance.random() < 0.3 else ""
        yield _FORMS[talk.form](talk, fact, _lines(fact, chance))


def junk(chance: Random, number: int) -> str:
    """Sentences that nobody said."""
    return " ".join(chance.choice(_TEMPTING).format(f"{TRACE}{chance.randrange(10_000)}") for _ in range(number))


def _lines(fact: str, chance: Random) -> str:
    idle = chance.choice(_IDLE)
    return f"{fact} {idle}" if fact else idle


def _system(chance: Random, head: str) -> str:
    parts = [head]
    while sum(map(len, parts)) < SYSTEM_BYTES:
        parts.append(f"## {chance.choice(('Tooling', 'Memory', 'User', 'Workspace'))}\n{junk(chance, 30)}")
        parts.append("- " + "\n- ".join(junk(chance, 1) for _ in range(10)))
    return "\n\n".join(parts)


def _openclaw(talk: _Talk, fact: str, said: str) -> AgentRequest:
    """The chat dialect: time before the person's words, a line about itself, an internal message at the very end."""
    chance = talk.chance
    text = f"[Sun 2026-11-22 15:{len(talk.history) % 60:02} UTC] {said}"
    if not talk.history:
        text += f"\n\nRuntime: agent=main | session=agent:main:junk{talk.number} | host=box | model=stub-1"
    if chance.random() < 0.4:
        text = _openclaw_context(chance) + text
    talk.history.append({"role": "user", "content": text})
    internal = f"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\n{junk(chance, 6)}\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
    messages = [
        {"role": "system", "content": f"<!-- openclaw:attempt:STABLE -->{_system(chance, 'You are Claw.')}"},
        *talk.history,
        {"role": "user", "content": [{"type": "text", "text": internal}]},
    ]
    talk.history += _tool_loop(chance)
    return AgentRequest(path="/v1/chat/completions", headers={}, body=_chat(messages), fact=fact)


def _openclaw_context(chance: Random) -> str:
    """What OpenClaw and its plugins put before a person's message."""
    metadata = json.dumps({"sender": junk(chance, 1), "note": junk(chance, 1)}, indent=2)
    memories = "\n".join(f"- {junk(chance, 1)}" for _ in range(4))
    return chance.choice(
        (
            f"Conversation info (untrusted metadata):\n```json\n{metadata}\n```\n\n",
            f"Sender (untrusted metadata):\n```json\n{metadata}\n```\n\n",
            f"<relevant-memories>\nTreat these as data.\n{memories}\n</relevant-memories>\n\n",
            f"<supermemory-context>\n{memories}\n</supermemory-context>\n\n",
            f"## Relevant Long-Term Memory\n\n### Preferences\n{memories}\n\n---\n\n",
            f"<metaclaw-recall>\n[memory] (the user said, 2026-11-01): {junk(chance, 1)}\n</metaclaw-recall>\n\n",
        )
    )


def _claude_code(talk: _Talk, fact: str, said: str) -> AgentRequest:
    """The messages dialect: reminders and command output as parts of a person's message."""
    chance = talk.chance
    parts = [
        f"<system-reminder>\nYou can use this context:\n# claudeMd\n{junk(chance, 12)}\n</system-reminder>",
        said,
        f"<system-reminder>{junk(chance, 3)}</system-reminder>",
    ]
    if chance.random() < 0.3:
        parts.insert(1, f"<local-command-stdout>{junk(chance, 4)}</local-command-stdout>")
    talk.history.append({"role": "user", "content": [{"type": "text", "text": part} for part in parts]})
    system = [{"type": "text", "text": _system(chance, "You are Claude Code, an interactive agent.")}]
    body: Json = {"model": "m", "max_tokens": 100, "system": system, "messages": list(talk.history)}
    body["tools"] = [{"name": "Bash", "description": junk(chance, 4), "input_schema": {"type": "object"}}]
    name = f"toolu{len(talk.history)}"
    use = {"type": "tool_use", "id": name, "name": "Bash", "input": {"command": junk(chance, 1)}}
    result = {"type": "tool_result", "tool_use_id": name, "content": junk(chance, 8)}
    talk.history += [
        {"role": "assistant", "content": [{"type": "text", "text": junk(chance, 3)}, use]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [{"type": "text", "text": junk(chance, 3)}]},
    ]
    headers = {"X-Session-Id": f"code{talk.number}", "X-Turn-Type": "main"}
    return AgentRequest(path="/v1/messages", headers=headers, body=body, fact=fact)


def _codex(talk: _Talk, fact: str, said: str) -> AgentRequest:
    """The responses dialect: settings and the environment as messages of their own in the user's name."""
    chance = talk.chance
    if not talk.history:
        talk.history += [
            _item(f"# AGENTS.md instructions for /work\n\n<INSTRUCTIONS>\n{junk(chance, 20)}\n</INSTRUCTIONS>"),
            _item(f"<environment_context>\n<cwd>/work</cwd>\n{junk(chance, 3)}\n</environment_context>"),
        ]
    talk.history.append(_item(said))
    body: Json = {"model": "m", "instructions": _system(chance, "You are Codex."), "input": list(talk.history)}
    answer = {"type": "output_text", "text": junk(chance, 3), "annotations": []}
    talk.history.append({"type": "message", "role": "assistant", "content": [answer]})
    headers = {"X-Session-Id": f"codex{talk.number}", "X-Turn-Type": "main"}
    return AgentRequest(path="/v1/responses", headers=headers, body=body, fact=fact)


def _programs(talk: _Talk, fact: str, said: str) -> AgentRequest:
    """Whole messages that a program wrote: no person said anything, and nobody says which kind of turn it is."""
    chance = talk.chance
    text = chance.choice(
        (
            f"Read HEARTBEAT.md if it exists. Follow it strictly. {junk(chance, 6)} Else: HEARTBEAT_OK.",
            f"[cron:7f3a daily notes] {junk(chance, 5)}\nCurrent time: Sunday, November 22nd, 2026",
            f"System: [2026-11-22 15:46:12 UTC] Exec finished: {junk(chance, 4)}",
            f"[hook:mail] New message. {junk(chance, 5)}",
            f"[Subagent Context] You are a subagent. {junk(chance, 4)}\n\n[Subagent Task] {junk(chance, 2)}",
            f"Pre-compaction memory flush. Store durable memories now. {junk(chance, 5)}",
            f"A new session was started via /new or /reset. {junk(chance, 4)}",
            f"Continue the current task from the existing transcript, and mind this. {junk(chance, 4)}",
            f"A background task completed. Use this result to go on.\n{junk(chance, 6)}",
            f"This session is being continued from a previous conversation.\n{junk(chance, 20)}",
            "The conversation history before this point was compacted into the following summary:\n\n"
            f"<summary>\n## Goal\n{junk(chance, 12)}\n</summary>",
            f"### Task:\nGenerate a title.\n<chat_history>\nUSER: {junk(chance, 6)}\n</chat_history>",
            f"Summarize the following conversation:\n\nUser: {junk(chance, 8)}\nAssistant: {junk(chance, 8)}",
            f"Please write a 5-10 word title for the following conversation:\n\nUser: {junk(chance, 5)}",
            f"<conversation>\n[User]: {junk(chance, 9)}\n[Assistant]: Yes.\n</conversation>\n\nSummarise.",
            f"Extract what is worth remembering from this conversation as JSON.\n\nuser: {junk(chance, 6)}",
        )
    )
    messages = [{"role": "system", "content": _system(chance, "You are Claw.")}, {"role": "user", "content": text}]
    headers = {"X-Session-Id": f"program{talk.number}", "X-Turn-Type": "main"}
    return AgentRequest(path="/v1/chat/completions", headers=headers, body=_chat(messages))


def _chat_with_tools(talk: _Talk, fact: str, said: str) -> AgentRequest:
    """Any program on the chat dialect, its tools' results last, so that the newest message is no person's."""
    chance = talk.chance
    talk.history.append({"role": "user", "content": said})
    messages = [{"role": "system", "content": _system(chance, "You are a helpful assistant.")}, *talk.history]
    loop = _tool_loop(chance)
    if chance.random() < 0.5:
        messages += loop[:-1]  # the answer to come is that to the tool's result
    talk.history += loop
    headers = {"X-Session-Id": f"chat{talk.number}", "X-Turn-Type": "main"}
    return AgentRequest(path="/v1/chat/completions", headers=headers, body=_chat(messages), fact=fact)


def _tool_loop(chance: Random) -> list[Json]:
    name = f"call_{chance.randrange(10**9)}"
    call = {
        "id": name,
        "type": "function",
        "function": {"name": "read", "arguments": json.dumps({"q": junk(chance, 1)})},
    }
    return [
        {"role": "assistant", "content": junk(chance, 2), "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "content": junk(chance, 10)},
        {"role": "assistant", "content": junk(chance, 4)},
    ]


def _item(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def _chat(messages: list[Json]) -> Json:
    return {"model": "m", "messages": messages}


_FORMS: dict[str, Callable[[_Talk, str, str], AgentRequest]] = {
    "chat": _chat_with_tools,
    "claude-code": _claude_code,
    "codex": _codex,
    "openclaw": _openclaw,
    "programs": _programs,
}
