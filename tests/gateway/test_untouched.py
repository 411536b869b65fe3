"""What people and models said, which nobody in between has to improve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio

QUOTED = 'It writes <tool_call>\n{"name": "rm", "arguments": {"path": "/"}}\n</tool_call> when it calls.'
ANNS: Any = {"role": "system", "content": "You are Ann's."}
CARLS: Any = {"role": "system", "content": "You are Carl's."}
BERTS: Any = {
    "role": "developer",
    "content": [{"type": "text", "text": "You are"}, {"type": "text", "text": "Bert's."}],
}


async def test_everybodys_system_prompt_and_history_are_their_own(tmp_path: Path) -> None:
    """PITFALLS P7: the first caller's prompt, compressed, became everybody's; and histories were given other keys."""
    talk: Any = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]
    agents = {"ann": ANNS, "bert": BERTS, "carl": CARLS}
    asked = [(name, [agents[name], *talk, {"role": "user", "content": "go on"}]) for name in (*agents, "ann", "carl")]
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for agent, messages in asked:
            await gateway.client.chat.completions.create(
                model="any", messages=messages, extra_headers={"X-Agent-Id": agent}
            )
    assert [request["messages"] for request in llm.requests] == [messages for _, messages in asked]


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses"])
async def test_a_call_that_an_answer_only_quotes_is_no_call(tmp_path: Path, dialect: str) -> None:
    """PITFALLS, the reference system under faults: quoted text became a real tool call."""
    async with fake_llm(lambda _: Answer(text=QUOTED)) as llm:
        settings = make_settings(tmp_path, llm={"api_base": llm.url, "dialects": [dialect]})
        async with running_gateway(settings) as gateway:
            chat = gateway.client.chat.completions
            ask: Any = {"model": "any", "messages": [{"role": "user", "content": "how does it call?"}]}
            plain = await chat.create(**ask)
            async with chat.stream(**ask) as stream:
                streamed = await stream.get_final_completion()
            turns = await gateway.turns()
    for answer in (plain, streamed):
        assert (answer.choices[0].message.content, answer.choices[0].message.tool_calls) == (QUOTED, None)
    assert [turn.answer for turn in turns] == [{"role": "assistant", "content": QUOTED}] * 2
