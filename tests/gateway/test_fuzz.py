"""Requests that nobody would write, at every route: no 500, no hang, and every turn in the journal."""

from __future__ import annotations

import asyncio
import copy
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metaclaw.chat.dialects import DIALECTS
from metaclaw.config import Settings
from metaclaw.journal.turns import TurnReader
from tests.gateway.patient_model import patient_model
from tests.gateway.running import TOKEN, make_settings, running_gateway

CALLS = [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": '{"path": "."}'}}]
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
BODIES: dict[str, Any] = {
    "/v1/chat/completions": {
        "model": "m", "n": 1, "temperature": 0.5, "max_tokens": 9, "stop": ["x"], "tool_choice": "auto", "user": "u",
        "metadata": {"user_id": '{"session_id": "s"}'}, "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "list"},
                                         {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            {"role": "tool", "tool_call_id": "c", "content": "a.txt"},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "function": {"name": "ls", "parameters": SCHEMA}}],
    },
    "/v1/messages": {
        "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "Be brief."}], "top_k": 5,
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "tool_choice": {"type": "auto"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "list", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                                              {"type": "tool_use", "id": "c", "name": "ls", "input": {"path": "."}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "a.txt"}]},
        ],
        "tools": [{"name": "ls", "input_schema": SCHEMA}],
    },
    "/v1/responses": {
        "model": "m", "instructions": "Be brief.", "max_output_tokens": 9, "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}}, "store": False,
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list"}]},
            {"type": "reasoning", "id": "r", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "a.txt"},
        ],
        "tools": [{"type": "function", "name": "ls", "parameters": SCHEMA}],
    },
    "/v1/completions": {"model": "m", "prompt": ["once"], "max_tokens": 9, "logprobs": 1, "echo": False},
    "/v1/embeddings": {"model": "m", "input": ["once"], "dimensions": 3, "encoding_format": "float"},
    "/v1/messages/count_tokens": {"model": "m", "messages": [{"role": "user", "content": "hello"}]},
    "/v1/feedback": {"session": "s", "score": 1, "text": "good"},
}  # fmt: skip
READ = ["/v1/models", "/metrics", "/healthz", "/v1/responses/resp_1", "/v1/nothing"]
CONTROLS = ("session_id", "turn_type", "session_done", "memory_scope", "user_id", "workspace_id", "stream", "n")
NAMES = ("X-Agent-Id", "X-Session-Id", "X-Turn-Type", "X-Run-Id", "traceparent", "X-Session-Done", "X-Session-Affinity",
         "X-Claude-Code-Session-Id", "anthropic-version", "Origin", "Content-Type", "Accept-Encoding")  # fmt: skip
ANSWERS = {200, 400, 403, 404, 405, 408, 413, 422, 429, 431, 503}

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8)
words = st.sampled_from([
    "user", "assistant", "system", "tool", "developer", "text", "tool_use", "tool_result", "image", "function_call",
    "thinking", "input_audio", "<think>", "\ud800", "../x", "", "main",
])  # fmt: skip
values = st.recursive(
    scalars | words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
headers = st.dictionaries(
    st.sampled_from(NAMES),
    st.sampled_from(["main", "side", "x", "../etc", "a b", "yes", "*/*", "gzip", "00-0-0-0", "\xff", "x" * 5000]),
    max_size=3,
)
nested = st.integers(1, 3000).map(lambda depth: b'{"messages": ' + b"[" * depth + b"]" * depth + b"}")
malformed = (
    st.binary(max_size=40)
    | nested
    | values.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(
        [b'{"a": 1e999}', b'{"a": NaN}', b"9" * 5000, b'{"messages": [{"role": "user"', b"\xef\xbb\xbf{}"]
    )
)


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """A good body, spoilt in some places."""
    body = copy.deepcopy(BODIES[path])
    for _ in range(draw(st.integers(0, 3))):
        place, parent = body, None
        key: Any = None
        while isinstance(place, dict | list) and place and (parent is None or draw(st.integers(0, 3))):
            parent = place
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            place = parent[key]
        if parent is not None:
            if isinstance(parent, dict) and draw(st.booleans()):
                del parent[key]
            else:
                parent[key] = draw(values)
        if not isinstance(body, dict) or not body:
            break
    for name in draw(st.sets(st.sampled_from(CONTROLS), max_size=2)):
        body[name] = draw(values)
    if draw(st.booleans()):
        body["stream"] = True
    return json.dumps(body).encode()


@dataclass(slots=True)
class Gateway:
    """One for all examples, in a thread of its own."""

    port: int
    home: Path
    turns: set[str] = field(default_factory=set, repr=False)

    def send(self, method: str, path: str, body: bytes | None, said: dict[str, str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            given = {name: value.encode("latin-1") for name, value in said.items()}
            connection.request(method, path, body, {**given, "Authorization": f"Bearer {TOKEN}"})  # pyright: ignore
            response = connection.getresponse()
            text = response.read()
        assert response.status in ANSWERS, text[:2000]
        if turn := response.headers.get("X-MetaClaw-Turn"):
            self.turns.add(turn)
        if response.status >= 400:
            assert json.loads(text)["error"]["message"]


@pytest.fixture(scope="module", params=["chat alone", "all dialects"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("home")
    dialects = list(DIALECTS) if request.param == "all dialects" else ["openai.chat"]
    started: Future[int] = Future()
    ending: Future[asyncio.Event] = Future()

    async def serve() -> None:
        end = asyncio.Event()
        async with patient_model() as url, running_gateway(_settings(home, url, dialects)) as running:
            ending.set_result(end)
            started.set_result(int(running.url.rpartition(":")[2]))
            loops.append(asyncio.get_running_loop())
            await end.wait()
            await running.recorder.flush()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    gateway = Gateway(started.result(60), home)
    yield gateway
    loops[0].call_soon_threadsafe(ending.result(60).set)
    thread.join()
    assert gateway.turns, "no request was good enough for a turn"
    with TurnReader.open(home / "turns.db") as reader:
        recorded = [reader.turn(turn_id) for turn_id in gateway.turns]
    assert {turn and turn.state for turn in recorded} <= {"done", "failed"}


def _settings(home: Path, url: str, dialects: list[str]) -> Settings:
    return make_settings(home, llm_url=url, llm={"dialects": dialects, "max_attempts": 1})


few = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("path", sorted(BODIES))
@few
@given(data=st.data())
def test_a_spoilt_body_is_answered_and_recorded(gateway: Gateway, path: str, data: st.DataObject) -> None:
    gateway.send("POST", path, data.draw(bodies(path)), data.draw(headers))


@pytest.mark.parametrize(
    ("path", "spoilt"),
    [
        ("/v1/messages", {"tool_choice": {"type": {}}}),
        ("/v1/messages", {"tool_choice": {"type": []}}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "assistant", "tool_calls": 5}, {"role": "user", "content": "x"}]},
        ),
        ("/v1/responses", {"tools": [{"type": "function", "name": {}}]}),
    ],
    ids=str,
)
def test_what_once_was_a_500_is_none(gateway: Gateway, path: str, spoilt: dict[str, Any]) -> None:
    gateway.send("POST", path, json.dumps({**BODIES[path], **spoilt}).encode(), {})


@few
@given(path=st.sampled_from(sorted(BODIES)), body=malformed, said=headers)
def test_what_is_no_request_is_refused(gateway: Gateway, path: str, body: bytes, said: dict[str, str]) -> None:
    gateway.send("POST", path, body, said)


@few
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    path=st.sampled_from([*READ, *BODIES]) | st.text("az09/.%-_~", max_size=20).map(lambda text: f"/v1/{text}"),
    agent=st.sampled_from(["", "/agents/ops", "/agents/..", "/agents/%2e%2e", "/agents/a%20b", "/agents/Ä"]),
    said=headers,
)
def test_every_method_at_every_path_has_an_answer(
    gateway: Gateway, method: str, path: str, agent: str, said: dict[str, str]
) -> None:
    where = (agent + path).encode().decode("latin-1")
    gateway.send(method, "".join(char if char.isascii() else "%C4" for char in where), None, said)
