"""What recording a turn costs the event loop: `python -m benchmarks.recording`.

Opens and closes turns one after another, as the gateway does, with histories of three sizes. The CPU time of the loop's
own thread is what other turns wait for; the wall time is what this turn waits for. The writing thread works beside it,
and `until written` says how long it takes for the last turn to be in the database.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from metaclaw.chat.openai_chat import parse_request
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.recording import Recorder
from metaclaw.gateway.recording_path import RecordingPath
from metaclaw.journal.turns import RawAnswer, TurnJournal

SHAPES = ((2, 200), (40, 1000), (200, 2000))  # messages, characters each
ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "w " * 200}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}
RAW = RawAnswer(dialect="openai.chat", content_type="application/json", body=json.dumps(ANSWER).encode())


def request(num_messages: int, length: int, last: str) -> dict[str, Any]:
    said = [
        {"role": "user" if index % 2 == 0 else "assistant", "content": f"{index} " + "word " * (length // 5)}
        for index in range(num_messages)
    ]
    return {
        "model": "metaclaw",
        "messages": [{"role": "system", "content": "s" * 2000}, *said, {"role": "user", "content": last}],
    }


CALLER = Caller(agent="main", session="bench", kind="main")


async def measure(recorder: Recorder, num_messages: int, length: int, num_turns: int) -> None:
    walls: list[float] = []
    cpu = size = 0.0
    for number in range(num_turns):
        raw = json.dumps(request(num_messages, length, f"question {num_messages} {number}")).encode()
        parsed = parse_request(json.loads(raw))
        size = len(raw) / 1024
        cpu -= time.thread_time()
        began = time.perf_counter()
        record = recorder.begin(f"turn-{num_messages}-{number}")
        record.open(parsed, raw, CALLER, upstream="x")
        record.begin_answer("x", None)
        record.close("done", raw=RAW, status=200)
        walls.append(time.perf_counter() - began)
        cpu += time.thread_time()
        await asyncio.sleep(0.002)
    began = time.perf_counter()
    await recorder.flush()
    written_s = time.perf_counter() - began
    walls.sort()
    print(
        f"{num_messages + 2:4d} messages, {size:6.0f} KB: loop CPU {cpu / num_turns * 1e6:5.0f} us, "
        f"wall p50 {statistics.median(walls) * 1e6:5.0f} us p95 {walls[int(len(walls) * 0.95)] * 1e6:5.0f} us, "
        f"until written {written_s * 1e3:5.0f} ms"
    )


async def main(num_turns: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        async with TurnJournal(Path(home) / "turns.db") as journal:
            recorder = Recorder(journal, RecordingPath(), time.time)
            for num_messages, length in SHAPES:
                await measure(recorder, num_messages, length, num_turns)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
