"""Sessions of the real OpenClaw, compacted, in each of its dialects: what two requests share two prompts share.

``recorded/openclaw_compacted_*.json`` have what it sent, without its 48 kB of instructions and all tools but one: four
turns, one of them with a tool, then a model that is told that the prompt is too long; two requests for a summary, the
turn again after that, and one more. What clients do besides is made of them: retries, two requests at once, an edit, a
fork, and a history without its beginning.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from metaclaw.rendering.renderer import Renderer
from tests.agents.conversations import without_what_moves
from tests.fakes.llm import fake_llm
from tests.fakes.tiny_model import byte_tokenizer
from tests.gateway.running import RunningGateway, make_settings, running_gateway
from tests.gateway.test_memory_recall import remembered
from tests.gateway.test_recall_and_identity import write_skill

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
FOLDER = Path(__file__).parent / "recorded"
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}
SPEAKS = {"chat": "openai.chat", "responses": "openai.responses", "anthropic": "anthropic.messages"}
MEMORY = "The colour of the new logo shall be dark green"
SUMMARY, MOVED = "was compacted into the following summary", "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The requests of a recorded session, in order; ``main`` are those of the conversation."""

    key: str
    sent: list[Json]

    @property
    def main(self) -> list[Json]:
        return [body for body in self.sent if body.get("tools")]

    def changed(self, body: Json, old: str, new: str) -> Json:
        """The request with other words in its conversation."""
        return {**body, self.key: json.loads(json.dumps(body[self.key]).replace(old, new))}

    def without_beginning(self, body: Json) -> Json:
        """The request without its first exchange."""
        messages = body[self.key]
        start = next(index for index, one in enumerate(messages) if "Read facts.txt" in json.dumps(one))
        return {**body, self.key: [*(one for one in messages[:1] if one.get("role") == "system"), *messages[start:]]}


def recorded(name: str) -> Session:
    loaded = json.loads((FOLDER / f"openclaw_compacted_{name}.json").read_text(encoding="utf-8"))
    key = loaded["key"]
    return Session(
        key=key,
        sent=[
            {**loaded["bodies"][one["body"]], key: [loaded["messages"][index] for index in one["messages"]]}
            for one in loaded["requests"]
        ],
    )


def text_of(piece: str) -> str:
    """The words of a piece of a conversation, as every dialect writes them."""
    content = json.loads(piece)["content"]
    return content.get("text", "") if isinstance(content, dict) else ""


def assert_they_share(one: Json, prompt: Json, other: Json, later: Json) -> None:
    """Two prompts are the same, byte for byte, up to where the client's histories differ."""
    (_, said), (_, told) = without_what_moves(one), without_what_moves(prompt)
    (_, said_later), (_, told_later) = without_what_moves(other), without_what_moves(later)
    shared = num_equal(said, said_later)
    equal = num_equal(told, told_later)
    for history, pieces in ((said, told), (said_later, told_later)):
        if shared == len(history):
            assert equal == len(pieces), "all of the one is the beginning of the other"
        else:
            assert text_of(history[shared]) in text_of(pieces[equal])


def num_equal(one: list[str], other: list[str]) -> int:
    same = [a == b for a, b in zip(one, other, strict=False)]
    return same.index(False) if False in same else len(same)


def rendered(body: Json) -> str:
    """What the model of a training server is given, without what the client moves, and without asking for an answer."""
    renderer = Renderer(byte_tokenizer(), "digest")
    messages = [one for one in body["messages"] if MOVED not in json.dumps(one)]
    text = renderer.tokenizer.decode(renderer.render(messages, body["tools"]))
    return text.removesuffix("<|im_start|>assistant\n")


async def send(gateway: RunningGateway, name: str, body: Json) -> None:
    async with gateway.post({**body, "stream": False, "stream_options": None}, PATHS[name]) as response:
        told = await response.read()
        assert response.status == 200, told


@pytest.mark.parametrize(
    ("name", "speaks"),
    [
        ("chat", "openai.chat"),
        *((name, speaks) for name in ("responses", "anthropic") for speaks in ("openai.chat", "own")),
    ],
)
async def test_what_requests_of_a_compacted_session_share_their_prompts_share(
    name: str, speaks: str, tmp_path: Path
) -> None:
    write_skill(tmp_path, "git-commit", "Write git commit messages", body="Use the imperative.")
    await asyncio.to_thread(remembered, tmp_path, MEMORY, source="user")
    session = recorded(name)
    last, before = session.main[-1], session.main[4]  # after the compaction, and just before it
    edited = session.changed(before, "deploy the release with docker", "deploy the release by hand")
    forked = session.changed(before, "Which colour shall the new logo have", "Write a git commit about the mill again")
    asked = [*session.sent, last, before, edited, forked, session.without_beginning(before)]
    dialect = SPEAKS[name] if speaks == "own" else speaks
    settings = {"dialects": (dialect,)}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url, llm=settings)) as gateway:
        for body in asked:
            await send(gateway, name, body)
        again = len(llm.requests)
        await asyncio.gather(*(send(gateway, name, body) for body in (last, last)))
        kinds = [turn.kind for turn in await gateway.turns()]
    prompts = llm.requests[:again]
    assert llm.requests[again] == llm.requests[again + 1] == prompts[len(session.sent)] == prompts[9]
    assert [kind for kind in kinds if kind == "side"] == ["side"] * 2  # the summaries
    told = json.dumps(prompts)
    assert told.count("metaclaw-recall") > 0
    pairs = [(body, prompt) for body, prompt in zip(asked, prompts, strict=True) if body.get("tools")]
    for (one, prompt), (other, later) in combinations(pairs, 2):
        assert_they_share(one, prompt, other, later)
    if dialect == "openai.chat":
        assert_renderings_share(pairs)
    after = without_what_moves(prompts[9])[1]
    assert sum(MEMORY in piece for piece in after) == 1, "what was recalled for a message stays after a compaction"
    assert sum("Use the imperative." in piece for piece in after) == 1, "and what it took away is recalled anew"
    [summary] = [index for index, piece in enumerate(after) if SUMMARY in piece]
    assert "metaclaw-recall" not in after[summary] + after[summary + 1], "nobody said the summary"


def assert_renderings_share(pairs: list[tuple[Json, Json]]) -> None:
    """To the byte: where one history is the beginning of another, so is its rendering."""
    num_compared = 0
    for (one, prompt), (other, later) in combinations(pairs, 2):
        said, said_later = without_what_moves(one)[1], without_what_moves(other)[1]
        if num_equal(said, said_later) == len(said):
            assert rendered(later).startswith(rendered(prompt))
            num_compared += 1
    assert num_compared >= 12
