"""Talking to the gateway through the official ``openai`` client, streaming, as any agent does.

Owns what one answer looked like from outside (text, times of its chunks, headers); refuses to know why it is asked.
Invariant: a request that fails is returned as a failed reply, never swallowed and never retried.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from itertools import pairwise

import httpx2
from openai import AsyncOpenAI, OpenAIError

from demo.prompts import Prompt

MAX_TOKENS = 28
TEMPERATURE = 0.7
SYSTEM = "You are a helpful assistant."


@dataclass(slots=True)
class Reply:
    prompt: Prompt
    text: str = ""
    turn: str = ""
    policy: str = ""
    num_tokens: int = 0
    chunk_times: list[float] = field(default_factory=list)  # Unix seconds
    error: str | None = None

    def is_open_at(self, moment: float) -> bool:
        """Whether the answer was streaming at that moment."""
        return bool(self.chunk_times) and self.chunk_times[0] < moment < self.chunk_times[-1]

    @property
    def gaps_s(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.chunk_times)]


async def ask(client: AsyncOpenAI, prompt: Prompt, *, kind: str = "main", max_tokens: int = MAX_TOKENS) -> Reply:
    """Ask one question in a session of its own. ``kind`` is ``main`` (learned from) or ``side`` (never)."""
    reply = Reply(prompt)
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model="metaclaw",
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt.text}],
            temperature=TEMPERATURE,
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-Session-Id": uuid.uuid4().hex, "X-Turn-Type": kind},
        )
        reply.turn = raw.headers.get("x-metaclaw-turn", "")
        reply.policy = raw.headers.get("x-metaclaw-policy", "")
        async for chunk in raw.parse():
            if chunk.usage:
                reply.num_tokens = chunk.usage.completion_tokens
            if chunk.choices and chunk.choices[0].delta.content:
                reply.text += chunk.choices[0].delta.content
                reply.chunk_times.append(time.time())
    except (OpenAIError, httpx2.HTTPError) as error:
        reply.error = f"{type(error).__name__}: {error}"
    return reply


async def ask_all(client: AsyncOpenAI, prompts: list[Prompt], *, kind: str, num_concurrent: int) -> list[Reply]:
    """Ask every question, so many at a time; replies in the order of the questions."""
    slots = asyncio.Semaphore(num_concurrent)

    async def one(prompt: Prompt) -> Reply:
        async with slots:
            return await ask(client, prompt, kind=kind)

    return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))
