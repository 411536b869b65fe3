"""How many tokens of a session recorded from the real OpenClaw are trained on once, and not once a turn.

Each answer of the recording counts as one that the policy drew. Counted are the tokens of all turns apart, of the
sequences that the learner makes of them (``learner.datums.chains``), and the rows that the training server's engine
runs for those where prefixes are shared (``training.prefix_trees``), by how many rows its masks may have.
OpenClaw's 48 kB of instructions are not in the recording: as much text of this repository stands for them.

Run: ``python -m benchmarks.merging`` (needs ``metaclaw models prepare smollm2``, whose template and tokenizer it uses)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from metaclaw.journal.turn_records import PolicySample
from metaclaw.learner.datums import TrainingTurn, chains
from metaclaw.rendering.renderer import Renderer, load_renderer
from metaclaw.training.model_sources import models_dir
from metaclaw.training.prefix_trees import Sharing, SharingBounds, plan_layouts

_ROOT = Path(__file__).parents[1]
_RECORDED = _ROOT / "tests" / "gateway" / "recorded" / "openclaw_chat.json"
_INSTRUCTIONS_CHARS = 48_000
_PAIRS_PER_TOKEN = 1500.0  # of SmolLM2, as ``training.sharing`` has it
_MOVES = "OPENCLAW_INTERNAL_CONTEXT"

Json = dict[str, Any]


def main() -> None:
    recorded: Json = json.loads(_RECORDED.read_text(encoding="utf-8"))
    renderer = load_renderer(models_dir() / "SmolLM2-135M-Instruct")
    for name, instructions in (("as recorded, instructions cut out", ""), ("with 48 kB of instructions", _text())):
        for what, dropped in (("as OpenClaw sends it", ""), ("without the message that moves", _MOVES)):
            turns = _turns(recorded, renderer, instructions, dropped)
            _report(f"{name}, {what}", turns)


def _text() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((_ROOT / "docs").glob("*.md")))[
        :_INSTRUCTIONS_CHARS
    ]


def _turns(recorded: Json, renderer: Renderer, instructions: str, dropped: str) -> list[TrainingTurn]:
    messages: list[Json] = recorded["messages"]
    requests = [
        [index for index in request if not dropped or dropped not in str(messages[index]["content"])]
        for request in recorded["requests"]
    ]
    tools = recorded["body"]["tools"]
    turns = list[TrainingTurn]()
    for number, request in enumerate(requests):
        prompt = renderer.render(_with(instructions, [messages[index] for index in request]), tools)
        answer = _answer_after(messages, requests, number)
        tokens = renderer.tokenizer.encode(answer + "<|im_end|>", add_special_tokens=False)
        turns.append(_turn(f"t{number}", prompt, tokens))
    return turns


def _with(instructions: str, messages: list[Json]) -> list[Json]:
    return [{**messages[0], "content": f"{messages[0]['content']}\n{instructions}"}, *messages[1:]]


def _answer_after(messages: list[Json], requests: list[list[int]], number: int) -> str:
    """What answered request ``number``: the first assistant's message that the next request has and it has not."""
    if number + 1 == len(requests):
        return "Done."
    new = requests[number + 1][len([i for i in requests[number] if _MOVES not in str(messages[i]["content"])]) :]
    return next(str(messages[index]["content"]) for index in new if messages[index]["role"] == "assistant")


def _turn(name: str, prompt: list[int], tokens: list[int]) -> TrainingTurn:
    sample = PolicySample(
        agent="main", version=0, model="", prompt_tokens=np.asarray(prompt, "<i4").tobytes(),
        tokens=np.asarray(tokens, "<i4").tobytes(), logprobs=np.zeros(len(tokens), "<f4").tobytes(), logprobs_full=b"",
        temperature=1.0, top_p=1.0, top_k=-1, seed=None, stop_reason="stop", spans=(), renderer="",
    )  # fmt: skip
    return TrainingTurn(turn=name, sample=sample, surprise=1.0)


def _report(name: str, turns: list[TrainingTurn]) -> None:
    apart = [_sequence(turn) for turn in turns]
    merged = [_sequence(chain[-1]) for chain in chains(turns)]
    print(f"\n{name}: {len(turns)} turns, {sum(map(len, apart)):,} tokens apart")
    print(f"  sequences of the learner: {len(merged)}, {sum(map(len, merged)):,} tokens")
    for rows in (4096, 8192, 10**9):
        bounds = SharingBounds(sharing=Sharing.TREES, pairs_per_token=_PAIRS_PER_TOKEN, max_rows=rows)
        run = sum(layout.length for layout in plan_layouts(merged, bounds))
        print(f"  rows of the engine with masks of at most {rows:,}: {run:,}")


def _sequence(turn: TrainingTurn) -> np.ndarray:
    return np.frombuffer(turn.sample.prompt_tokens + turn.sample.tokens, "<i4").astype(np.int64)


if __name__ == "__main__":
    main()
