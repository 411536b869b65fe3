"""The real OpenClaw with MetaClaw's memory in its memory slot: what its model and its users can do with it."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from metaclaw.chat.messages import text_of
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit
from tests.agents.openclaw_gateway import OpenClawGateway, openclaw_gateway
from tests.agents.programs import LIMIT_S
from tests.cli.programs import metaclaw, started, until
from tests.fakes.agent_model import MODEL, AgentModel, agent_model

pytestmark = [pytest.mark.agents, pytest.mark.timeout(1200), pytest.mark.usefixtures("openclaw_leaves_nothing")]


def test_each_agents_model_and_user_keep_find_and_forget_memories_of_their_own(tmp_path: Path):
    home, place = tmp_path / "home", tmp_path / "program"
    with agent_model(place / "work" / "facts.txt") as model:
        _set_up(home, model)
        with started(home), openclaw_gateway(place, model.url) as openclaw:
            with openclaw.reloading():
                done = metaclaw(home, "connect", "openclaw", "--memory-slot", "--yes", env=openclaw.environment)
                assert done.returncode == 0, done.stderr
            _command(openclaw, "main", "/remember The office is in Lisbon.", answer="Remembered")
            kept = _tool(openclaw, "ops", "memory_store", {"text": "The office plants need water."})
            assert kept["is_stored"]
            by_user, by_model = _memories(home)
            assert (by_user.agent, by_user.source, by_user.trust) == ("main", "manual", 1.0)
            assert (by_model.agent, by_model.source, by_model.id) == ("ops", "tool", kept["id"])
            assert by_model.trust < by_user.trust
            assert [one["text"] for one in _found(openclaw, "main")] == ["The office is in Lisbon."]
            assert [one["text"] for one in _found(openclaw, "ops")] == ["The office plants need water."]
            assert _tool(openclaw, "main", "memory_get", {"id": by_user.id})["text"] == "The office is in Lisbon."
            assert "error" in _tool(openclaw, "main", "memory_forget", {"id": by_model.id})
            assert _tool(openclaw, "ops", "memory_forget", {"id": by_model.id})["forgotten"] == [by_model.id]
            _command(openclaw, "main", "/recall office", answer=f"- The office is in Lisbon. ({by_user.id})")
            _command(openclaw, "main", "/memory-status", answer="main: 1 memories, 0 forgotten.")
            _command(openclaw, "main", f"/forget {by_user.id}", answer=f"Forgotten: {by_user.id}.")
            assert _memories(home) == []
    assert model.seen == [], "a command is not the model's to answer"


def _found(openclaw: OpenClawGateway, agent: str) -> list[dict[str, Any]]:
    return _tool(openclaw, agent, "memory_search", {"query": "Where is the office?"})["results"]


def _command(openclaw: OpenClawGateway, agent: str, text: str, *, answer: str) -> None:
    """Say ``text`` in OpenClaw's own chat, and wait until the last that was said there holds ``answer``."""
    session = f"agent:{agent}:talk"
    _call(openclaw, "chat.send", {"sessionKey": session, "message": text, "idempotencyKey": uuid.uuid4().hex})
    until(lambda: answer in _last_said(_call(openclaw, "chat.history", {"sessionKey": session})), timeout_s=LIMIT_S)


def _call(openclaw: OpenClawGateway, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    done = openclaw.run("gateway", "call", method, "--json", "--params", json.dumps(parameters))
    assert done.code == 0, done
    return json.loads(done.out)


def _last_said(history: dict[str, Any]) -> str:
    messages = history["messages"]
    return text_of(messages[-1]["content"]) if messages else ""


def _tool(openclaw: OpenClawGateway, agent: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What ``name`` answers a model."""
    body = {"tool": name, "args": arguments, "agentId": agent}
    request = urllib.request.Request(
        f"http://127.0.0.1:{openclaw.environment['OPENCLAW_GATEWAY_PORT']}/tools/invoke",
        data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer openclaws-own", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        return json.load(answer)["result"]["details"]


def _memories(home: Path) -> list[MemoryUnit]:
    if not (path := home / "memory" / "units.db").exists():
        return []
    with MemoryStore.open(path) as store:
        asked = [MemoryQuery(text="", agent=agent, now=time.time(), is_everything=True) for agent in ("main", "ops")]
        return [unit for query in asked for unit in store.newest(query)]


def _set_up(home: Path, model: AgentModel) -> None:
    done = metaclaw(
        home, "setup", "--yes", "--api-base", f"{model.url}/v1", "--api-key", "sk-x", "--model-id", MODEL, "--port", "0"
    )
    assert done.returncode == 0, done.stderr
    assert metaclaw(home, "config", "skills.starter", "false").returncode == 0
