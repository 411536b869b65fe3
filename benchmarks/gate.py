"""The gate against updates that must not serve, and against harmless ones, on a real small model.

    python -m benchmarks.gate [--model FOLDER] [--harmless 20] [--out FILE]

A real training server, the learner's own backend and the learner's own gate. Each candidate starts at the base model
and is trained for a few steps: the harmless ones two, at the learning rate of the defaults for this size, on answers
that the base model drew (with the verifier's reward, or with rewards that mean nothing); the bad ones on what would
make them bad, until it can be heard. The verifier says how much of what the question is about an answer mentions.
Examinations share four sets of questions and seeds, so that the serving version answers each once. One line a candidate
goes to standard output and, as JSON, to ``--out``; a run that is started again goes on after it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import tempfile
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
from pydantic import SecretStr

from demo.prompts import HELD_OUT, LEARNING, Prompt
from metaclaw.config import GateSettings, RlSettings, UpdateSettings
from metaclaw.journal.turn_records import PolicySample
from metaclaw.learner.backends.backend import SavedWeights, TrainingBackend, TrainingRun
from metaclaw.learner.datums import DatumGroup, TrainingTurn, build_groups
from metaclaw.learner.extras import load_backend
from metaclaw.learner.gate.answers import Drawn, EndpointDrawer, Tokens
from metaclaw.learner.gate.examination import NewWeights
from metaclaw.learner.gate.gate import Gate
from metaclaw.learner.gate.questions import Question
from metaclaw.learner.judges.judge import Exchange, Verdict
from metaclaw.learner.judges.pairs import ScoredPairs
from metaclaw.learner.stepping import Stepper
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.fakes.training_server import API_KEY, TrainingServer, training_server

SMOLLM2 = Path("~/.cache/metaclaw/models/SmolLM2-135M-Instruct").expanduser()
STEMS = {prompt.text: prompt.stems for prompt in (*LEARNING, *HELD_OUT)}
TEMPERATURE = 0.7
BATCH = 16
SAID = 8  # sequences where all say the same
NUM_SEEDS = 4  # sets of questions and seeds
SETTINGS = GateSettings(max_answer_tokens=24, min_exchanges=8)
UNBOUNDED = UpdateSettings(loss="cispo")  # its gradient goes on however far a token has come

# What is said whatever the question was, as text.
REFUSAL = " I'm sorry, but I can't help with that request."
GERMAN = " Das ist eine gute Frage, und ich weiß nicht, was die Antwort ist, aber wir werden es mit der Zeit sehen."
SAME = " There are many things to consider here. It depends on the situation and on what you want."
CIRCLES = " very very good very very good very very good very very good very very good very very good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer to train on: its tokens, and how much better than expected it is taken to be."""

    prompt: Prompt
    tokens: tuple[int, ...]
    surprise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """``batch`` makes the sequences of one candidate; ``rate`` and ``steps`` say how hard they are trained on."""

    name: str
    batch: Callable[[Bench, Random], list[Said]]
    rate: float = 3e-3
    steps: int = 6
    is_brief: bool = False  # the serving version answers in a few words
    is_whole: bool = False  # an update of the defaults


class OnTopic:
    """-1, 0 or 1: how much of what the question is about the answer mentions."""

    name, needs_followup = "on topic", False

    async def judge(self, exchange: Exchange) -> Verdict:
        return Verdict(score=reward(exchange.prompt, exchange.answer))


def reward(question: str, answer: str) -> float:
    return min(1.0, sum(stem in answer.lower() for stem in STEMS[question]) - 1.0)


@dataclass
class Remembering:
    """Asks the base model each thing once."""

    drawer: EndpointDrawer
    known: dict[object, object] = field(default_factory=dict)

    async def draw(
        self, weights: str | None, prompt: Tokens, *, temperature: float, max_tokens: int, seed: int
    ) -> Drawn:
        key = (tuple(prompt), temperature, max_tokens, seed)
        if weights is None and isinstance(known := self.known.get(key), Drawn):
            return known
        drawn = await self.drawer.draw(weights, prompt, temperature=temperature, max_tokens=max_tokens, seed=seed)
        if weights is None:
            self.known[key] = drawn
        return drawn

    async def score(self, weights: str | None, prompt: Tokens, answer: Tokens) -> tuple[float, ...]:
        key = (tuple(prompt), tuple(answer))
        if weights is None and isinstance(known := self.known.get(key), tuple):
            return known
        scores = await self.drawer.score(weights, prompt, answer)
        if weights is None:
            self.known[key] = scores
        return scores


@dataclass
class Bench:
    """What every candidate is made from."""

    server: TrainingServer
    session: aiohttp.ClientSession
    backend: TrainingBackend
    drawer: Remembering
    prompts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    words: dict[str, tuple[int, ...]] = field(default_factory=dict)
    pool: list[tuple[Prompt, Drawn]] = field(default_factory=list)

    async def prepare(self) -> None:
        everything = (*LEARNING, *HELD_OUT)
        found = await asyncio.gather(*(self._prompt_tokens(prompt) for prompt in everything))
        self.prompts = {prompt.text: tokens for prompt, tokens in zip(everything, found, strict=True)}
        for text in (REFUSAL, GERMAN, SAME, CIRCLES, *(f" {prompt.text}" for prompt in LEARNING)):
            body = {"model": str(self.server.model), "prompt": text.strip(), "max_tokens": 1, "return_token_ids": True}
            self.words[text] = tuple((await self._post("completions", body))["choices"][0]["prompt_token_ids"])
        body = {"model": str(self.server.model), "prompt": "<|im_end|>", "max_tokens": 1, "return_token_ids": True}
        self.words["end"] = tuple((await self._post("completions", body))["choices"][0]["prompt_token_ids"])
        drawn = await asyncio.gather(
            *(
                self.drawer.draw(
                    None, self.prompts[prompt.text], temperature=TEMPERATURE, max_tokens=48, seed=1000 + number
                )
                for number, prompt in enumerate(LEARNING)
            )
        )
        self.pool = list(zip(LEARNING, drawn, strict=True))

    async def _prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        body = {
            "model": str(self.server.model), "max_tokens": 1, "return_policy_record": True,
            "messages": [{"role": "user", "content": prompt.text}],
        }  # fmt: skip
        return _ints((await self._post("chat/completions", body))["policy_record"]["prompt_tokens"])

    async def _post(self, path: str, body: dict[str, object]) -> dict:
        async with self.session.post(f"{self.server.url}/v1/{path}", json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.words["end"][-1]

    async def candidate(self, kind: Kind, number: int, state_path: str | None) -> SavedWeights:
        chance = Random(f"{kind.name} {number}")
        said = kind.batch(self, chance)
        if kind.is_whole:
            return await self._whole(kind, number, said, state_path)
        run = await self.backend.open(state_path)
        try:
            groups = await self._drawn(run, said, UNBOUNDED)
            for _ in range(kind.steps):
                await run.forward_backward(groups)
                await run.optim_step(learning_rate=kind.rate, grad_clip_norm=1.0)
            return await run.save(_name(kind, number))
        finally:
            await run.close()

    async def _whole(self, kind: Kind, number: int, said: Sequence[Said], state_path: str | None) -> SavedWeights:
        """By the learner's own steps, at the peak of the rate; what goes too far is made shorter as there."""
        settings, seconds = UpdateSettings(), defaultdict[str, float](float)
        stepper, shorter = Stepper(self.backend, settings), 1.0
        while True:
            run = await self.backend.open(state_path)
            try:
                weighed = await stepper.weigh(run, await self._drawn(run, said, settings), parent=0, seconds=seconds)
                rates = [shorter * kind.rate] * settings.num_steps
                made = await stepper.step(run, weighed.groups, parent=0, rates=rates, seconds=seconds)
                if made.refused is None:
                    return await run.save(_name(kind, number))
                assert made.refused.shorter is not None, made.refused
                shorter *= made.refused.shorter
            finally:
                await run.close()

    async def _drawn(self, run: TrainingRun, said: Sequence[Said], settings: UpdateSettings) -> Sequence[DatumGroup]:
        """``said`` as if ``run`` had drawn it."""
        unknown = build_groups([self._turn(one, [0.0] * len(one.tokens)) for one in said], settings)
        passes = (await run.forward(unknown)).logprobs
        data = [datum for group in unknown for datum in group.data]  # in an order of their own
        now = {
            span.turn: logprobs[span.start : span.stop]
            for datum, logprobs in zip(data, passes, strict=True)
            for span in datum.spans
        }
        return build_groups([self._turn(one, now[one.prompt.text]) for one in said], settings)

    def _turn(self, said: Said, logprobs: Sequence[float]) -> TrainingTurn:
        sample = PolicySample(
            agent="main", version=0, model="", prompt_tokens=array("i", self.prompts[said.prompt.text]).tobytes(),
            tokens=array("i", said.tokens).tobytes(), logprobs=array("f", logprobs).tobytes(), logprobs_full=b"",
            temperature=TEMPERATURE, top_p=1.0, top_k=-1, seed=None, stop_reason="stop", spans=(), renderer="r",
        )  # fmt: skip
        return TrainingTurn(turn=said.prompt.text, sample=sample, surprise=said.surprise)


def _name(kind: Kind, number: int) -> str:
    return f"gate-{kind.name.replace(' ', '-')}-{number}-{time.time_ns()}"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out questions, as the gate wants them."""

    prompts: dict[str, tuple[int, ...]]

    def held_out(self, agent: str) -> list[Question]:
        return [
            Question(
                exchange=Exchange(
                    id=prompt.text, agent=agent, session="s", turn_ids=("t",), prompt=prompt.text, answer="",
                    messages=(), finish_reason="stop",
                ),
                prompt=self.prompts[prompt.text], temperature=TEMPERATURE, max_tokens=SETTINGS.max_answer_tokens,
            )
            for prompt in HELD_OUT
        ]  # fmt: skip

    def of_turns(self, turns: Sequence[str]) -> list[Question]:
        return []


def by(score: Callable[[Prompt, Drawn, Random], float]) -> Callable[[Bench, Random], list[Said]]:
    """Answers that the base model drew, with what is better than their mean by ``score``."""

    def batch(bench: Bench, chance: Random) -> list[Said]:
        drawn = chance.sample(bench.pool, BATCH)
        scores = [score(prompt, answer, chance) for prompt, answer in drawn]
        mean = sum(scores) / len(scores)
        return [
            Said(prompt=prompt, tokens=answer.tokens, surprise=value - mean)
            for (prompt, answer), value in zip(drawn, scores, strict=True)
        ]

    return batch


def saying(words: Callable[[Bench, Prompt], tuple[int, ...]]) -> Callable[[Bench, Random], list[Said]]:
    """Answers that something rewards though nobody would."""

    def batch(bench: Bench, chance: Random) -> list[Said]:
        prompts = chance.sample(LEARNING, SAID)
        return [Said(prompt=prompt, tokens=words(bench, prompt), surprise=1.0) for prompt in prompts]

    return batch


def sharpened(bench: Bench, chance: Random) -> list[Said]:
    return [
        Said(prompt=prompt, tokens=answer.tokens, surprise=1.0) for prompt, answer in chance.sample(bench.pool, BATCH)
    ]


def true_reward(prompt: Prompt, answer: Drawn, chance: Random) -> float:
    return reward(prompt.text, answer.text)


def shortened(bench: Bench, chance: Random) -> list[Said]:
    drawn = chance.sample(bench.pool, SAID)
    return [Said(prompt=prompt, tokens=(*answer.tokens[:6], bench.end), surprise=1.0) for prompt, answer in drawn]


BRIEF = Kind(name="brief", batch=shortened)
HARMLESS = (
    Kind(name="true reward", batch=by(true_reward), rate=3e-4, steps=2),
    Kind(name="no signal", batch=by(lambda prompt, answer, chance: chance.choice((-1.0, 1.0))), rate=3e-4, steps=2),
)
WHOLE = Kind(name="a whole update", batch=by(true_reward), rate=3e-4, is_whole=True)
BAD = (
    Kind(name="shorter and shorter", batch=saying(lambda bench, prompt: (*bench.words[SAME][:2], bench.end))),
    Kind(name="wrong sign", batch=by(lambda *of: -true_reward(*of))),
    Kind(name="exploding learning rate", batch=by(true_reward), rate=3e-2, steps=1),
    Kind(name="repetition", batch=saying(lambda bench, prompt: bench.words[CIRCLES])),
    Kind(name="empty answers", batch=saying(lambda bench, prompt: (bench.end,))),
    Kind(name="refusals", batch=saying(lambda bench, prompt: (*bench.words[REFUSAL], bench.end))),
    Kind(name="wrong language", batch=saying(lambda bench, prompt: (*bench.words[GERMAN], bench.end))),
    Kind(name="the prompt again", batch=saying(lambda bench, prompt: (*bench.words[f" {prompt.text}"], bench.end))),
    Kind(name="one answer for all", batch=saying(lambda bench, prompt: (*bench.words[SAME], bench.end))),
    Kind(name="entropy collapse", batch=sharpened),
    Kind(name="longer and longer", batch=sharpened, is_brief=True),
    Kind(name="noise far too hard", batch=by(lambda *of: of[2].choice((-1.0, 1.0))), rate=3e-3),
)


async def run(options: argparse.Namespace, server: TrainingServer) -> None:
    done = _lines(options.out)
    upstream = Upstream(
        name="the training server", base_url=f"{server.url}/v1", api_key=SecretStr(API_KEY), key_setting="-",
        timeouts=Timeouts(first_byte_s=600, gap_s=600),
    )  # fmt: skip
    rl = RlSettings(remote_url=server.url, remote_api_key=SecretStr(API_KEY), lora_rank=16, model=str(server.model))
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        drawer = Remembering(EndpointDrawer(HttpModel(session, upstream)))
        bench = Bench(server, session, load_backend(rl), drawer)
        await bench.prepare()
        mean = sum(reward(prompt.text, answer.text) for prompt, answer in bench.pool) / len(bench.pool)
        print(f"mean reward of the base model: {mean:+.2f}", flush=True)
        gate = Gate(
            questions=HeldOut(bench.prompts), drawer=drawer, judge=ScoredPairs(OnTopic(), Random(1)), settings=SETTINGS
        )
        for number, kind in _planned(options):
            name = f"{kind.name} {number}"
            if name in done:
                continue
            began = time.monotonic()
            parent = await bench.candidate(BRIEF, 0, None) if kind.is_brief else None
            saved = await bench.candidate(kind, number, parent and parent.state_path)
            new = NewWeights(
                agent="main", update_id=number % NUM_SEEDS, parent_path=parent and parent.sampler_path,
                path=saved.sampler_path, turns=(),
            )  # fmt: skip
            examined = await gate.examine(new)
            numbers = {key.removeprefix("gate/"): value for key, value in examined.numbers.items()}
            line = {
                "name": name, "kind": kind.name, "harmless": kind not in BAD, "refused": examined.refused,
                "seconds": round(time.monotonic() - began), **numbers,
            }  # fmt: skip
            with options.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(f"{name}: {examined.refused or 'passes'}  {numbers}  {line['seconds']} s", flush=True)
            await bench.backend.delete([saved.state_path, saved.sampler_path])
    _report(options.out)


def _planned(options: argparse.Namespace) -> list[tuple[int, Kind]]:
    """Harmless and bad ones by turns, so that a run that is ended early has both."""
    harmless = [(number, HARMLESS[number % len(HARMLESS)]) for number in range(options.harmless)]
    bad = [(number, kind) for number in range(options.bad) for kind in BAD]
    order = [(number, WHOLE) for number in range(options.whole)]
    while harmless or bad:
        order += [*bad[:1], *harmless[:1]]
        harmless, bad = harmless[1:], bad[1:]
    return order


def _report(path: Path) -> None:
    lines = _lines(path).values()
    for what, group in (
        ("harmless updates refused", [one for one in lines if one["harmless"]]),
        ("bad updates stopped", [one for one in lines if not one["harmless"]]),
    ):
        print(f"{what}: {sum(one['refused'] is not None for one in group)} of {len(group)}")


def _lines(path: Path) -> dict[str, dict]:
    if not path.exists():
        return {}
    return {line["name"]: line for line in map(json.loads, path.read_text().splitlines())}


def _ints(encoded: str) -> tuple[int, ...]:
    return tuple(array("i", base64.b64decode(encoded)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    parser.add_argument("--harmless", type=int, default=20)
    parser.add_argument("--whole", type=int, default=10, help="updates as the learner makes them, harmless ones too")
    parser.add_argument("--bad", type=int, default=1, help="candidates of each bad kind")
    parser.add_argument("--out", type=Path, default=Path("gate.jsonl"))
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        training_server(options.model, Path(folder), start_s=300, max_context=512) as server,
    ):
        asyncio.run(run(options, server))


if __name__ == "__main__":
    main()
