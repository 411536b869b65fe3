"""A client that leaves: how soon the model is told.

Owns leaving, in the middle of a stream and while the model thinks, and asking the stub when it noticed; refuses to know
what was asked through. The clocks are one: processes of one machine share the monotonic one.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time

from benchmarks.gateway_programs import Program

_TIMES = 20


async def measure_leaving(program: Program, model: Program) -> None:
    """Print how long it takes from a client's leaving until the model's connection is closed."""
    for what, is_stream in (("in a stream", True), ("while it thinks", False)):
        waits = [await _leave(program, model, is_stream) for _ in range(_TIMES)]
        waits.sort()
        print(
            f"{program.name}, a client that leaves {what}: the model is told after"
            f" {1e3 * statistics.median(waits):.1f} ms, at the longest {1e3 * waits[-1]:.1f}",
            flush=True,
        )


async def _leave(program: Program, model: Program, is_stream: bool) -> float:
    before = len(await _noticed(model))
    messages = [{"role": "user", "content": f"{time.monotonic_ns()} [[hold]]"}]
    body = json.dumps({"model": "stub", "messages": messages, "stream": is_stream}).encode()
    reader, writer = await asyncio.open_connection(program.host, program.port)
    head = (
        f"POST {program.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {program.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    if is_stream:
        await reader.readuntil(b"word0")
    else:
        await asyncio.sleep(0.2)  # the model has it, and says nothing
    left_at = time.monotonic()
    writer.close()
    while len(noticed := await _noticed(model)) == before:  # noqa: ASYNC110 - it is another process's
        await asyncio.sleep(0.02)
    return noticed[-1] - left_at


async def _noticed(model: Program) -> list[float]:
    """When the stub saw its clients leave."""
    reader, writer = await asyncio.open_connection(model.host, model.port)
    writer.write(b"GET /left HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])
