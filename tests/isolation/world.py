"""Twenty agents behind one gateway, and what a person with bad intentions can do there.

Owns planting what each agent alone may see, the actions, and whom an action is answered as; refuses to know what is
asserted. All agents ask the same, in sessions, runs and skills of the same names.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from metaclaw.http.auth import digest
from metaclaw.journal.access_store import AccessStore, Limits
from metaclaw.journal.database import open_writer
from metaclaw.memory.store import MemoryStore
from tests.fakes.embedding_api import embedding_api
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway
from tests.isolation.canaries import AGENTS, canary
from tests.memory.units import unit

NOW = 1_796_000_000.0
ASK = "Please write the harbour report: what is the mascot of the harbour team?"
USER, WORKSPACE = "ann", "harbour"
TRICKS = (
    "../agent-00",
    "agent-00.",
    "\u212agent",
    "ａgent-00",
    "agent-00/../agent-01",
    "%2e%2e",
    "x" * 65,
    "agent-00\u3000",
)
WAYS = ("header", "path", "metadata", "user", "runtime", "none")
DIALECTS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions", "/v1/embeddings")
QUESTIONS = (
    "/v1/models",
    f"/v1/memory/search?q={quote(ASK)}&scope=all",
    f"/v1/memory/search?q={quote(ASK)}&user={USER}",
    "/v1/memory/summary?scope=all",
    "/v1/memory/stats",
    "/v1/memory/health",
    "/v1/memory/feedback-analysis",
    "/v1/memory/operator-report",
    "/v1/responses/resp-1",
    "/metrics",
    "/healthz",
    "/v1/nothing/of/the/sort",
)
COMMANDS = ("/v1/memory/action-plan", "/v1/memory/maintenance", "/v1/memory/flush_session", "/v1/memory/buffer_turn",
            "/v1/memory/store", "/v1/messages/count_tokens", "/v1/admin/train_step", "/v1/feedback")  # fmt: skip
KINDS = ("turn", "question", "command", "unit", "forget", "turn of another")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """``key`` is whose token is used, ``None`` the owner's; ``claims`` whom it says to be, ``way`` how it says so."""

    kind: str
    key: int | None
    claims: int
    way: str
    also: int | None  # another claim, by the path
    which: int
    is_stream: bool
    trick: str | None
    model: str = "metaclaw"


actions = st.builds(
    Action,
    kind=st.sampled_from(KINDS) | st.just("turn"),
    key=st.none() | st.integers(0, len(AGENTS) - 1),
    claims=st.integers(0, len(AGENTS) - 1),
    way=st.sampled_from(WAYS),
    also=st.none() | st.none() | st.integers(0, len(AGENTS) - 1),
    which=st.integers(0, 20),
    is_stream=st.booleans(),
    trick=st.none() | st.none() | st.none() | st.sampled_from(TRICKS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of an action. ``agent`` is whom it should have been answered as, ``None`` when nobody."""

    action: Action
    agent: str | None
    status: int
    said: str
    is_turn: bool = False
    is_refusal_due: bool = False


@dataclass(slots=True, repr=False)
class World:
    """The gateway, its upstream and the agents' tokens."""

    gateway: RunningGateway
    llm: FakeLlm
    tokens: dict[str, str]
    loop: asyncio.AbstractEventLoop
    mode: str
    log: list[str] = field(default_factory=list)
    turns: dict[str, list[str]] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)  # agents whose own word came to them in a turn
    num_looked_at: int = 0

    def sent(self) -> list[str]:
        """What the models were sent since the last time, bodies and headers."""
        seen, self.num_looked_at = self.num_looked_at, len(self.llm.requests)
        bodies = [*self.llm.requests[seen:], *map(dict, self.llm.headers[seen:]), *self.llm.token_counts]
        return [json.dumps(one) for one in bodies]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """On the gateway's loop, from the test's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(100)

    async def play(self, some: list[Action]) -> list[Told]:
        """All at once."""
        return list(await asyncio.gather(*map(self._act, some)))

    async def _act(self, action: Action) -> Told:
        claimed = AGENTS[action.claims]
        agent, is_refusal_due = whom(action)
        headers, path, body = _request(action, claimed)
        token = TOKEN if action.key is None else self.tokens[AGENTS[action.key]]
        headers |= {"Authorization": f"Bearer {token}", "X-Session-Id": "s", "X-Run-Id": "r", "X-User-Id": USER}
        method = "POST" if body is not None else "GET"
        if action.kind in ("unit", "forget"):
            method = "GET" if action.kind == "unit" else "DELETE"
        if action.kind == "turn of another":
            theirs = self.turns.get(claimed) or ["turn-0"]
            path, body = "/v1/feedback", {"turn": theirs[action.which % len(theirs)], "thumbs": "up"}
        async with self.gateway.http.request(
            method, _url(self.gateway.url + path), headers=headers, json=body
        ) as answer:
            said = f"{await answer.text()} {dict(answer.headers)}"
            is_turn = action.kind == "turn" and answer.status == 200 and "/v1/embeddings" not in path
            if is_turn and agent is not None:
                self.turns.setdefault(agent, []).append(answer.headers["X-MetaClaw-Turn"])
            return Told(action=action, agent=agent, status=answer.status, said=said, is_turn=is_turn,
                        is_refusal_due=is_refusal_due)  # fmt: skip


def _url(text: str) -> Any:
    from yarl import URL  # noqa: PLC0415 - not followed, not repaired: as it is written here

    return URL(text, encoded=True)


def whom(action: Action) -> tuple[str | None, bool]:
    """Whom the action is answered as, ``None`` for nobody's concern; and whether it must be refused."""
    bound = None if action.key is None else AGENTS[action.key]
    path_alone = action.kind in ("question", "command", "unit", "forget")
    claimed: str | None = AGENTS[action.claims] if action.way != "none" else None
    if action.way in ("metadata", "user", "runtime") and path_alone:
        claimed = None  # these are said in the body of a turn
    is_wordless = DIALECTS[action.which % len(DIALECTS)] in ("/v1/completions", "/v1/embeddings")
    if action.way == "runtime" and is_wordless:
        claimed = None  # such a request has no place for that line
    also = None if action.also is None else AGENTS[action.also]
    is_said = action.way in ("header", "path", "metadata") and claimed is not None
    if action.trick is not None:
        return bound, True
    if action.way == "path":
        said = [claimed]
    else:
        said = [
            claimed if is_said and action.way == "header" else None,
            also,
            claimed if is_said and action.way == "metadata" else None,
        ]
    names = [one for one in said if one is not None]
    if bound is not None:
        return bound, any(one != bound for one in names)
    if names:
        return names[0], False
    return (claimed or "main"), False


def _request(action: Action, claimed: str) -> tuple[dict[str, str], str, Any]:
    headers: dict[str, str] = {}
    path, body = _place(action)
    if action.trick is not None:  # a name that is none, by a way that can carry it
        if action.trick.isascii() and action.way == "header":
            return {"X-Agent-Id": action.trick}, path, body
        return headers, f"/agents/{quote(action.trick, safe='')}{path}", body
    if action.way == "header":
        headers["X-Agent-Id"] = claimed.upper() if action.which % 2 else claimed
    elif action.way == "path":
        path = f"/agents/{claimed}{path}"
    elif body is not None and action.kind == "turn":
        if action.way == "metadata":
            body["metadata"] = {"agent_id": claimed}
        elif action.way == "user":
            body["user"] = claimed
        elif action.way == "runtime":
            _add_runtime_line(body, claimed)
    if action.also is not None and action.way != "path":
        path = f"/agents/{AGENTS[action.also]}{path}"
    return headers, path, body


def _place(action: Action) -> tuple[str, Any]:
    match action.kind:
        case "turn":
            path, body = _turn(DIALECTS[action.which % len(DIALECTS)], action.is_stream)
            return path, {**body, "model": action.model}
        case "question":
            return QUESTIONS[action.which % len(QUESTIONS)], None
        case "command":
            return _command(COMMANDS[action.which % len(COMMANDS)])
        case "unit" | "forget":
            return f"/v1/memory/m-{AGENTS[action.which % len(AGENTS)]}", None
        case _:
            return "/v1/feedback", {}


def _turn(path: str, is_stream: bool) -> tuple[str, Any]:
    asked = [{"role": "user", "content": ASK}]
    match path:
        case "/v1/responses":
            return path, {"model": "metaclaw", "input": asked, "stream": is_stream}
        case "/v1/completions":
            return path, {"model": "metaclaw", "prompt": ASK, "stream": is_stream}
        case "/v1/embeddings":
            return path, {"model": "metaclaw", "input": ASK}
        case "/v1/messages":
            return path, {"model": "metaclaw", "messages": asked, "stream": is_stream, "max_tokens": 100}
        case _:
            return path, {"model": "metaclaw", "messages": asked, "stream": is_stream}


def _command(path: str) -> tuple[str, Any]:
    bodies = {
        "/v1/memory/flush_session": {"session_id": "s", "wait_s": 0},
        "/v1/memory/buffer_turn": {"session_id": "s", "turn": {"prompt_text": "I live in Oslo."}},
        "/v1/memory/store": {"text": "The quay is closed on Sunday."},
        "/v1/messages/count_tokens": {"model": "m", "messages": [{"role": "user", "content": ASK}]},
        "/v1/feedback": {"session": "s", "thumbs": "down"},
        "/v1/admin/train_step": {"timeout": 0.01},
    }
    return path, bodies.get(path, {})


def _add_runtime_line(body: dict[str, Any], claimed: str) -> None:
    line = f"Runtime: agent={claimed} | session=agent:{claimed}:main"
    if "messages" in body and "max_tokens" in body:
        body["system"] = line
    elif "input" in body:
        body["instructions"] = line
    elif "messages" in body:
        body["messages"] = [{"role": "user", "content": f"{ASK}\n\n{line}"}]


def plant(home: Path, agents: Sequence[str] = AGENTS) -> dict[str, str]:
    """What each agent has: a skill, memories of its own, of a user and of a workspace, a token; the tokens by agent."""
    access = AccessStore.open(home / "access.db")
    tokens: dict[str, str] = {}
    with MemoryStore.open(home / "memory" / "units.db") as memory:
        for agent in agents:
            word = canary(agent)
            _write_skill(home / "skills" / agent / "harbour-report", f"Sign it with {word}.")
            owned: dict[str, Any] = {"agent": agent, "turns": ()}
            place = {"scope": "workspace", "workspace": WORKSPACE}
            memory.add(
                [
                    unit(f"The mascot of the harbour team is {word}.", id=f"m-{agent}", **owned),
                    unit(f"The mascot of the harbour team was {word} once.", scope="user", user=USER, **owned),
                    unit(f"The harbour team's mascot, at work, is {word}.", **place, **owned),
                ],
                now=NOW,
            )
            tokens[agent] = f"mc-token-of-{agent}"
            access.create(agent, digest=digest(tokens[agent]), agent=agent, limits=Limits(), now=NOW)
    access.close()
    return tokens


def plant_policies(home: Path, agents: Sequence[str] = AGENTS) -> None:
    """A version of its own for each agent, which serves."""
    learning = open_writer(home / "learning.db", "learning")
    for number, agent in enumerate(agents, 1):
        insert = "INSERT INTO updates (id, agent, parent, state, started_at) VALUES (?, ?, 0, 'committed', 0)"
        learning.execute(insert, (number, agent))
        learning.execute(
            "INSERT INTO versions"
            " (agent, version, parent, update_id, base_model, state_path, sampler_path, created_at)"
            " VALUES (?, ?, 0, ?, 'base', 'state', ?, 0)",
            (agent, number, number, f"tinker://run-of-{agent}/sampler_weights/v"),
        )
        learning.execute("INSERT INTO serving VALUES (?, ?, 0)", (agent, number))
    learning.close()


def _write_skill(folder: Path, body: str) -> None:
    folder.mkdir(parents=True)
    description = "Write the harbour report" if folder.name == "harbour-report" else "Plan the quay"
    (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: {description}\n---\n{body}\n")


def echo(body: dict[str, Any]) -> Answer:
    """A model that says whatever canaries it was shown."""
    words = sorted(set(re.findall(r"q[a-p]{14}z", json.dumps(body))))
    return Answer(text=f"Noted: {' '.join(words)}")


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("metaclaw"):
            self._lines.append(record.getMessage())


@contextmanager
def running_world(home: Path, mode: str) -> Generator[World]:
    """A gateway on a loop of its own, in a thread: so that a test can go on asking as long as it likes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="world")
    thread.start()
    stack, log = AsyncExitStack(), list[str]()
    handler = _Kept(log)
    root = logging.getLogger("metaclaw")
    level = root.level
    try:
        tokens = plant(home)
        plant_policies(home)

        async def begin() -> World:
            llm = await stack.enter_async_context(fake_llm(echo))
            embedder = await stack.enter_async_context(embedding_api())
            url = llm.url.removesuffix("/v1")
            settings = make_settings(
                home,
                llm_url=llm.url,
                mode=mode,
                rl={"remote_url": url, "remote_api_key": "k"},
                embeddings={"url": embedder.url, "model": "m"},
            )
            gateway = await stack.enter_async_context(running_gateway(settings, clock=lambda: NOW))
            return World(gateway=gateway, llm=llm, tokens=tokens, loop=loop, mode=mode, log=log)

        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        yield asyncio.run_coroutine_threadsafe(begin(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        root.removeHandler(handler)
        root.setLevel(level)
