"""The gateway as a real process, its traffic and its troubles, and a search of its log for everything that was said."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from metaclaw.config_file import dump_settings
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import TOKEN
from tests.gateway.test_process import port_settings, until_ready

pytestmark = pytest.mark.anyio

PROMPT, ANSWER, LLM_KEY, WRONG = "canary-prompt", "canary-answer", "canary-llm-key", "canary-wrong-token"
NAME, PATH = "canary-name", "canary-path"
CANARIES = (TOKEN, "canary")
ASK: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": PROMPT}]}


def script(body: dict[str, Any]) -> Answer:
    """Upstreams quote what they were sent, keys too."""
    said = body["messages"][-1]["content"]
    quoting = json.dumps({"error": {"message": f"{PROMPT} {LLM_KEY} is wrong", "code": "x"}}).encode()
    match said.split()[-1]:
        case "refused":
            return Answer(status=401, body=quoting)
        case "broken":
            return Answer(status=400, body=quoting)
        case "busy":
            return Answer(status=503, body=quoting)
        case "garbage":
            return Answer(body=f"<html>{PROMPT} {LLM_KEY}".encode(), content_type="text/html")
        case "cut":
            return Answer(text=ANSWER, break_after=2)
        case _:
            return Answer(text=ANSWER)


async def test_the_log_and_the_metrics_hold_nothing_of_what_was_said_and_no_key(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    async with fake_llm(script) as llm:
        base, url = port_settings(tmp_path / "home", llm)
        settings = base.model_validate(
            base.model_dump() | {"home": base.home, "llm": base.llm.model_dump() | {
                "api_key": LLM_KEY, "max_attempts": 2, "max_retry_s": 1.0}}
        )  # fmt: skip
        descriptor = os.open(log, os.O_CREAT | os.O_WRONLY, 0o600)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "metaclaw.gateway", stdin=PIPE, stdout=DEVNULL, stderr=descriptor,
            env={**os.environ, "METACLAW_LOG": "json"},
        )  # fmt: skip
        os.close(descriptor)
        try:
            assert child.stdin is not None
            child.stdin.write(dump_settings(settings).encode() + b"\n")
            async with aiohttp.ClientSession() as http:
                await until_ready(http, url)
                shown = await talk(http, url)
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()
    assert [secret for secret in (LLM_KEY, TOKEN) if secret in shown] == []
    text = await asyncio.to_thread(log.read_text)
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["process"] for line in lines} == {"gateway"}
    assert any(line["level"] == "warning" for line in lines), "nothing went wrong: nothing was tested"
    assert [line for line in text.splitlines() for canary in CANARIES if canary in line] == []


async def talk(http: aiohttp.ClientSession, url: str) -> str:
    """Everything that can go well or wrong; what the error bodies and the metrics say."""
    mine = {"Authorization": f"Bearer {TOKEN}"}
    shown: list[str] = []

    async def post(path: str, body: Any, **headers: str) -> int:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with http.post(url + path, data=data, headers={**mine, **headers}) as response:
            text = await response.text()
            if response.status != 200:
                shown.append(text)
            return response.status

    def ask(ending: str, **more: Any) -> dict[str, Any]:
        return {**ASK, "messages": [{"role": "user", "content": f"{PROMPT} {ending}"}], **more}

    chat = "/v1/chat/completions"
    good = [await post(chat, ask("well")), await post(chat, ask("well", stream=True)),
            await post("/v1/messages", ask("well", max_tokens=5))]  # fmt: skip
    assert good == [200, 200, 200]
    assert await post(chat, ask("cut", stream=True)) == 200
    for ending in ("refused", "broken", "busy", "garbage"):
        assert await post(chat, ask(ending)) >= 400
        assert await post("/v1/messages", ask(ending, max_tokens=5)) >= 400
    wrong = [
        await post(chat, f'{{"messages": "{PROMPT}'.encode()),
        await post(chat, {"messages": PROMPT}),
        await post(chat, {**ASK, "temperature": PROMPT}),
        await post(chat, ASK, **{"X-Agent-Id": f"{NAME} {PROMPT}"}),
        await post(chat, ASK, **{"X-Session-Id": f"{NAME} {PROMPT}"}),
        await post(chat, ASK, Authorization=f"Bearer {WRONG}"),
        await post(chat, ASK, Host=f"{NAME}.example"),
        await post(f"/v1/{PATH}?{PROMPT}", ASK),
        await post("/v1/feedback", {"turn": NAME, "text": PROMPT, "score": 1}),
    ]
    assert {status // 100 for status in wrong} == {4}
    async with http.get(f"{url}/metrics", headers=mine) as response:
        metrics = await response.text()
    assert "canary" not in metrics
    return "\n".join(shown)
