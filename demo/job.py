"""The main job: measure, talk and learn, measure again, and judge the outcome by limits stated beforehand.

Owns the order of things and the verdict. Invariant: held-out questions are only ever asked as side turns, which are
recorded but never learned from.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tinker
from openai import AsyncOpenAI

from demo.conversation import Reply, ask, ask_all
from demo.evaluation import Change, Scores, base_model, paired_change, score
from demo.processes import ProgramError, Programs
from demo.progress import Journals, Progress
from demo.prompts import HELD_OUT, LEARNING, Prompt
from demo.screen import Counters, Screen
from demo.verifier import reward

BATCH = 32
NUM_TALKERS = 3  # streams kept open while the policy is updated and swapped
TALK_TOKENS = 120
MIN_SWAPS = 3
MIN_OPEN_STREAMS = 2
UPDATE_TIMEOUT_S = 900.0  # training yields to whatever else the machine does

# Limits of what learning may cost, in nats per token, set between runs whose text stayed whole (NLL +.22, relevance
# -.13) and runs whose text fell apart (NLL +.64 and +1.03, relevance -.38; docs/log.md), before the runs reported.
MAX_NLL_RISE = 0.40
MAX_RELEVANCE_FALL = 0.25
MAX_ON_TOPIC_FALL = 0.10

SETTINGS = {
    "rl.lora_rank": "16",
    "rl.update.learning_rate": "5e-4",
    "rl.update.warmup_steps": "5",
    "rl.update.max_kl": "0.04",
    "rl.update.steps": "1",
    "rl.update.passes": "1",
    "rl.update.min_exchanges": str(BATCH),
    "rl.update.max_exchanges": str(BATCH),
    "rl.gate.held_out_share": "0",  # what is held out here are questions, which are asked as side turns
    # Few answers, so that nobody waits long for the next update, and limits that so few do not break by chance.
    "rl.gate.min_answers": "8",
    "rl.gate.max_answer_tokens": "24",
    "rl.gate.max_nll_rise": "0.6",
    "rl.gate.max_entropy_fall": "0.5",
    "rl.gate.max_length_ratio": "3",
    "rl.gate.max_repetition_rise": "0.3",
    "train_server.engine_threads": "1",
    "train_server.sampler_threads": "1",
}


@dataclass(frozen=True, slots=True)
class Plan:
    num_updates: int
    answers_per_question: int


@dataclass(frozen=True, slots=True)
class Measured:
    replies: list[Reply]
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What went wrong, in words: ``faults`` of the programs, and ``misses`` of limits on answers drawn at random."""

    faults: list[str]
    misses: list[str]

    @property
    def is_good(self) -> bool:
        return not self.faults and not self.misses


async def run(plan: Plan, home: Path) -> Verdict:
    """Run the whole demonstration in ``home``."""
    counters = Counters(planned_updates=plan.num_updates)
    with Screen(counters) as screen:
        screen.say("starting the training server, the gateway and the learner")
        async with Programs(home, SETTINGS) as programs:
            base = await asyncio.to_thread(base_model, programs.server_url, programs.server_key, programs.model)
            job = _Job(plan, programs, base, counters, screen)
            outcome = await job.run()
        screen.memory(programs.peak_mib, programs.peak_total_mib)
    verdict = outcome.verdict(counters.failed)
    for failure in (*verdict.faults, *verdict.misses):
        screen.console.print(f"[red]FAILED[/red] {failure}", highlight=False, soft_wrap=True)
    if verdict.is_good:
        screen.console.print("[green]The policy learned the preference, and nobody noticed the swaps.[/green]")
    return verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    changes: dict[str, Change]
    swaps_under_load: int

    def verdict(self, num_failed: int) -> Verdict:
        """Every limit that was not met."""
        reward_, on_topic = self.changes["reward"], self.changes["on topic"]
        relevance, nll = self.changes["relevance (nats/token)"], self.changes["base model's NLL (nats/token)"]
        misses = {
            f"the held-out reward did not rise beyond its interval ({reward_.low:+.3f})": reward_.low <= 0,
            f"answers lost relevance: {relevance.mean:+.3f}, limit {-MAX_RELEVANCE_FALL}": relevance.mean
            < -MAX_RELEVANCE_FALL,
            f"answers strayed from the question: {on_topic.mean:+.3f}, limit {-MAX_ON_TOPIC_FALL}": on_topic.mean
            < -MAX_ON_TOPIC_FALL,
            f"the text degraded: base NLL {nll.mean:+.3f}, limit {MAX_NLL_RISE}": nll.mean > MAX_NLL_RISE,
        }
        faults = {
            f"{num_failed} requests failed": num_failed > 0,
            f"only {self.swaps_under_load} swaps had {MIN_OPEN_STREAMS} streams open": self.swaps_under_load
            < MIN_SWAPS,
        }
        return Verdict(
            faults=[text for text, is_one in faults.items() if is_one],
            misses=[text for text, is_one in misses.items() if is_one],
        )


class _Job:
    def __init__(
        self, plan: Plan, programs: Programs, base: tinker.SamplingClient, counters: Counters, screen: Screen
    ) -> None:
        self._plan = plan
        self._journals = Journals(programs.home)
        self._counters = counters
        self._screen = screen
        self._client = AsyncOpenAI(
            base_url=programs.gateway_url, api_key=programs.gateway_token(), max_retries=0, timeout=600
        )
        self._base = base
        self._talk: list[Reply] = []
        self._random = random.Random(os.urandom(8))

    async def run(self) -> Outcome:
        self._screen.say(f"asking {len(HELD_OUT)} held-out questions, {self._plan.answers_per_question} answers each")
        before = await self._measure()
        self._screen.say(f"learning: {self._plan.num_updates} updates of {BATCH} turns")
        await self._learn()
        self._screen.say("asking the held-out questions again")
        after = await self._measure()
        await self._client.close()
        changes = _changes(before.scores, after.scores)
        self._screen.changes(changes)
        self._screen.examples([(HELD_OUT[i], before.replies[i].text, after.replies[i].text) for i in (1, 6, 16)])
        return Outcome(changes, self._count_swaps())

    async def _measure(self) -> Measured:
        questions = list(HELD_OUT) * self._plan.answers_per_question
        replies = await self._ask(questions, kind="side")
        if errors := [reply.error for reply in replies if reply.error]:
            raise ProgramError(f"{len(errors)} held-out questions were not answered: {errors[0]}")
        recorded = await self._journals.answers([reply.turn for reply in replies])
        scores = await asyncio.to_thread(score, replies, recorded, self._base, len(HELD_OUT))
        return Measured(replies, scores)

    async def _learn(self) -> None:
        """Let the learner train while the user goes on: the next batch is answered during each update."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_asking(stop))
            for number in range(NUM_TALKERS):
                group.create_task(self._keep_talking(stop, LEARNING[number]))
            stalled = not await self._see_updates()
            stop.set()
        if stalled:
            raise ProgramError(f"no update within {UPDATE_TIMEOUT_S:.0f} s: {self._journals.progress()}")

    async def _keep_asking(self, stop: asyncio.Event) -> None:
        updates = self._plan.num_updates
        asked, planned = 0, updates * BATCH
        while not stop.is_set():
            progress = self._journals.progress()
            # One batch ahead of the learner, and beyond the plan only to replace what an update could not use.
            is_enough = asked >= planned and (progress.is_updating or progress.updates_finished >= updates)
            limit = 1 if asked >= planned else BATCH
            if progress.judged < asked or progress.pending >= limit or is_enough:
                await asyncio.sleep(0.25)
                continue
            replies = await self._ask(self._random.sample(LEARNING, BATCH), kind="main")
            asked += sum(not reply.error for reply in replies)  # what failed is never judged
            self._counters.recent_reward = float(np.mean([reward(reply.prompt, reply.text) for reply in replies]))

    async def _see_updates(self) -> bool:
        """Wait for every planned update; false when one does not come."""
        for number in range(self._plan.num_updates):
            deadline = time.monotonic() + UPDATE_TIMEOUT_S
            while self._note(self._journals.progress()).updates_finished <= number:
                if time.monotonic() > deadline:
                    return False
                await asyncio.sleep(0.25)
            self._screen.update_done()
        return True

    async def _keep_talking(self, stop: asyncio.Event, prompt: Prompt) -> None:
        while not stop.is_set():
            reply = await ask(
                self._client, Prompt(f"Tell me a long story. {prompt.text}", ()), kind="side", max_tokens=TALK_TOKENS
            )
            self._count(reply)
            self._talk.append(reply)

    async def _ask(self, questions: list[Prompt], *, kind: str) -> list[Reply]:
        begun = time.monotonic()
        replies = await ask_all(self._client, questions, kind=kind, num_concurrent=BATCH)
        self._counters.answering_s += time.monotonic() - begun
        for reply in replies:
            self._count(reply)
            self._counters.tokens += reply.num_tokens
        return replies

    def _count(self, reply: Reply) -> None:
        self._counters.turns += 1
        if reply.error:
            self._counters.failed += 1
            self._screen.console.print(f"[red]request failed:[/red] {reply.error}", highlight=False, soft_wrap=True)

    def _note(self, progress: Progress) -> Progress:
        self._counters.version = progress.version
        self._counters.updates = progress.updates_finished
        self._counters.rejected = progress.updates_rejected
        return progress

    def _count_swaps(self) -> int:
        swaps = self._journals.progress().swaps
        open_streams = [sum(reply.is_open_at(moment) for reply in self._talk) for moment in swaps]
        gaps = sorted(gap for reply in self._talk for gap in reply.gaps_s)
        self._screen.console.print(
            f"\n{len(swaps)} swaps, streams open across each: {open_streams}; gap between tokens while updating: "
            f"median {gaps[len(gaps) // 2] * 1e3:.0f} ms, longest {gaps[-1] * 1e3:.0f} ms",
            highlight=False,
            soft_wrap=True,
        )
        return sum(number >= MIN_OPEN_STREAMS for number in open_streams)


def _changes(before: Scores, after: Scores) -> dict[str, Change]:
    names = {
        "reward": "reward",
        "on topic": "on_topic",
        "relevance (nats/token)": "relevance",
        "base model's NLL (nats/token)": "nll",
        "words in the answer": "words",
    }
    return {name: paired_change(getattr(before, field), getattr(after, field)) for name, field in names.items()}
