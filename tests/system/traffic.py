"""A client that keeps talking while programs are killed, and remembers what it was promised."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass, field

import aiohttp


@dataclass(frozen=True, slots=True)
class Promise:
    """A turn that the client saw: its id once the headers came, its text once the stream ended."""

    turn: str
    text: str
    is_complete: bool


@dataclass(slots=True)
class Traffic:
    """Streams short conversations through the gateway until told to stop."""

    url: str
    token: str
    num_talkers: int = 6
    promises: list[Promise] = field(default_factory=list)
    num_refused: int = 0  # connections refused or cut while a program was dead
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _talkers: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Traffic:
        self._talkers = [asyncio.create_task(self._talk(number)) for number in range(self.num_talkers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._talkers)

    async def _talk(self, number: int) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:
            count = 0
            while not self._stop.is_set():
                count += 1
                try:
                    await self._one(session, f"talker {number}, question {count}")
                except (TimeoutError, aiohttp.ClientError, OSError):
                    self.num_refused += 1
                    await asyncio.sleep(0.2)

    async def _one(self, session: aiohttp.ClientSession, text: str) -> None:
        body = {"model": "metaclaw", "stream": True, "max_tokens": 12, "messages": [{"role": "user", "content": text}]}
        headers = {"X-Session-Id": uuid.uuid4().hex}
        async with session.post(f"{self.url}/chat/completions", json=body, headers=headers) as response:
            turn = response.headers.get("X-MetaClaw-Turn", "")
            if response.status != 200:
                self.num_refused += 1
                await asyncio.sleep(0.2)
                return
            answer, ended = "", False
            try:
                async for line in response.content:
                    if line.startswith(b"data: [DONE]"):
                        ended = True
                    elif line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        for choice in event.get("choices", ()):
                            answer += choice["delta"].get("content") or ""
            finally:
                self.promises.append(Promise(turn, answer, ended))
