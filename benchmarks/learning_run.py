"""One recipe, trained from the base model on one seed's questions, and measured on the way.

Owns the loop from answers to updates and what is measured; the arithmetic is the learner's own (``batches``,
``advantages``, ``datums``, ``stepping``). Refuses to know files and statistics. Invariant: the
n-th sample of a seed is the answer to the same question with the same random numbers under every recipe, and so is each
held-out answer.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from benchmarks.learning_general import GENERAL
from benchmarks.learning_lab import BASE, Answer, Ask, Lab, LabBackend, LabRun
from benchmarks.learning_recipes import Recipe
from benchmarks.learning_teacher import SYSTEM, TEACHER, hinted, taught
from demo.prompts import HELD_OUT, LEARNING, Prompt
from demo.verifier import reward
from metaclaw.config import OpdSettings, SelfDistillationSettings
from metaclaw.journal.learning_records import BASE_VERSION, Baseline, Sample
from metaclaw.journal.turn_records import PolicySample
from metaclaw.learner.advantages.choice import STRATEGIES
from metaclaw.learner.advantages.group import within_group
from metaclaw.learner.batches import select
from metaclaw.learner.datums import Datum, DatumGroup, Span, TrainingTurn, build_groups
from metaclaw.learner.distillation.lessons import Lesson, Lessons
from metaclaw.learner.gate.steps import StepLimits
from metaclaw.learner.learning_rate import warming
from metaclaw.learner.lineage import Lineage
from metaclaw.learner.stepping import Stepper
from metaclaw.learner.update import MAX_SHORTENED

TEMPERATURE = 0.7
MAX_TOKENS = 24
HELD_OUT_ANSWERS = 2
_POLICY = "policy"

Numbers = dict[str, float | list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One sample: what was asked and answered, by which version, and what it earned."""

    name: str
    question: Prompt
    answer: Answer
    version: int
    reward: float


@dataclass
class Run:
    """``steps`` yields after each update how many samples have been used."""

    lab: Lab
    recipe: Recipe
    seed: int
    version: int = BASE_VERSION
    updates: int = 0
    refused: int = 0
    shortened: int = 0
    kept: list[dict[str, float]] = field(default_factory=list)  # of each update that made a version
    drawn: int = 0
    used: int = 0
    rewards: list[float] = field(default_factory=list)  # of the samples in the order of drawing
    _adapter: str | None = None
    _pending: list[Judged] = field(default_factory=list)
    _ahead: deque[list[Judged]] = field(default_factory=deque)
    _baseline: Baseline | None = None
    _questions: list[Prompt] = field(default_factory=list)

    def steps(self) -> Iterator[int]:
        self.lab.create(_POLICY, seed=self.seed)
        try:
            while True:
                while len(self._ahead) <= self.recipe.staleness:
                    self._ahead.append(self._draw())
                batch = self._ahead.popleft()
                self.used += len(batch)
                self._pending += batch
                is_new = self._learn_as_reference() if self.recipe.is_reference else self._learn()
                if is_new:
                    self._serve()
                yield self.used
        finally:
            self.lab.unload(_POLICY)
            if self._adapter is not None:
                self.lab.withdraw(self._adapter)

    def _draw(self) -> list[Judged]:
        each = self.recipe.answers
        questions = [self._question((self.drawn + offset) // each) for offset in range(self.recipe.batch)]
        asks = [
            Ask(prompt=prompt_of(self.lab, question), seed=_seed(self.seed, "learning", self.drawn + offset))
            for offset, question in enumerate(questions)
        ]
        answers = self.lab.draw(self._adapter, asks, temperature=TEMPERATURE, max_tokens=MAX_TOKENS)
        batch = [
            Judged(
                name=f"{self.drawn + offset:06}", question=question, answer=answer, version=self.version,
                reward=reward(question, answer.text),
            )
            for offset, (question, answer) in enumerate(zip(questions, answers, strict=True))
        ]  # fmt: skip
        self.drawn += len(batch)
        self.rewards += [one.reward for one in batch]
        return batch

    def _question(self, number: int) -> Prompt:
        while number >= len(self._questions):
            again = list(LEARNING)
            Random(f"{self.seed} {len(self._questions)}").shuffle(again)
            self._questions += again
        return self._questions[number]

    def _serve(self) -> None:
        old, self._adapter = self._adapter, self.lab.publish(_POLICY)
        self.version += 1
        if old is not None:
            self.lab.withdraw(old)

    def _learn(self) -> bool:
        """As ``learner/update.py`` does; whether there is a new version."""
        settings = self.recipe.update
        selection = select(
            [self._sample(one) for one in self._pending],
            parent=self.version,
            lineage=Lineage({version: version - 1 for version in range(1, self.version + 1)}),
            baseline=self._baseline, now=0.0, limits=settings,
        )  # fmt: skip
        gone = {turn for turns in selection.expired.values() for turn in turns}
        batch = selection.batch
        if batch is None:
            self._pending = [one for one in self._pending if one.name not in gone]
            return False
        taken = {sample.turn for sample in batch.samples}
        judged = [one for one in self._pending if one.name in taken]
        surprise = batch.surprise if self.recipe.answers == 1 else _within_questions(judged)
        turns = [_turn(one, surprise[one.name]) for one in judged]
        self._pending = [one for one in self._pending if one.name not in taken | gone]
        self._baseline = batch.baseline_after
        self.updates += 1
        lessons = self._lessons(judged)
        is_new = self._step(build_groups(turns, settings), lessons)
        self.refused += not is_new
        return is_new

    def _lessons(self, judged: Sequence[Judged]) -> Lessons:
        """What teachers say of these answers, as the learner gets it from endpoints."""
        tell = {"opd": self._teachers_word, "self_distillation": self._own_word}
        return Lessons(each=tuple(tell[method](judged) for method in self.recipe.update.methods if method in tell))

    def _teachers_word(self, judged: Sequence[Judged]) -> Lesson:
        said = self.lab.score(taught(self.lab), [(one.answer.prompt, one.answer.tokens) for one in judged])
        by_name = {one.name: logprobs for one, logprobs in zip(judged, said, strict=True)}
        opd = OpdSettings()
        return Lesson(method="opd", teacher=TEACHER, weight=opd.weight, max_gap=opd.max_gap, taught=by_name)

    def _own_word(self, judged: Sequence[Judged]) -> Lesson:
        settings = SelfDistillationSettings()
        told = [(one, words) for one in judged if (words := hinted(one.question, one.reward)) is not None]
        pairs = [(self.lab.prompt(words), one.answer.tokens) for one, words in told]
        said = self.lab.likeliest(self._adapter, pairs, top=settings.top_k)
        limits = StepLimits(
            section="self_distillation", max_kl=settings.max_kl, max_entropy_change=settings.max_entropy_change
        )
        return Lesson(
            method="self_distillation", teacher=_POLICY, weight=settings.weight, max_gap=settings.max_gap,
            taught={one.name: logprobs for (one, _), (logprobs, _) in zip(told, said, strict=True)},
            likeliest={one.name: likeliest for (one, _), (_, likeliest) in zip(told, said, strict=True)},
            limits=limits,
        )  # fmt: skip

    def _step(self, groups: Sequence[DatumGroup], lessons: Lessons) -> bool:
        """The learner's own steps; what went too far is taken back and shortened, as ``learner/update.py`` does it."""
        return asyncio.run(self._stepped(groups, lessons))

    async def _stepped(self, groups: Sequence[DatumGroup], lessons: Lessons) -> bool:
        settings, seconds = self.recipe.update, defaultdict[str, float](float)
        stepper, run = Stepper(LabBackend(self.lab), settings), LabRun(self.lab, _POLICY)
        weighed = await stepper.weigh(run, groups, parent=self.version, seconds=seconds, lessons=lessons)
        if weighed.is_empty:
            return False
        before_it = self.lab.save_state(_POLICY)
        try:
            rates = warming(settings, settings.learning_rate, updates=self.version)
            for _ in range(MAX_SHORTENED + 1):
                made = await stepper.step(
                    run, weighed.groups, parent=self.version, rates=rates, seconds=seconds, limits=lessons.limits
                )
                if made.refused is None:
                    self.kept.append({**weighed.numbers, **made.numbers})
                    return True
                if made.refused.shorter is None:
                    return False
                rates = tuple(rate * made.refused.shorter for rate in rates)
                self.shortened += 1
                self.lab.load_state(_POLICY, before_it)
            return False
        finally:
            shutil.rmtree(before_it)

    def _learn_as_reference(self) -> bool:
        batch, self._pending = self._pending, []
        rewards = [one.reward for one in batch]
        advantages, self._baseline = STRATEGIES["batch_zscore"](rewards, self._baseline, 0.9)
        data = tuple(retokenised(self.lab, one, advantage) for one, advantage in zip(batch, advantages, strict=True))
        for _ in range(self.recipe.update.passes):
            self.lab.forward_backward(_POLICY, [DatumGroup(loss=self.recipe.update.loss, config={}, data=data)])
            self.lab.optim_step(_POLICY, learning_rate=self.recipe.update.learning_rate, grad_clip_norm=0.0)
        self.updates += 1
        return True

    def _sample(self, one: Judged) -> Sample:
        return Sample(
            turn=one.name, exchange=one.name, agent="main", version=one.version, reward=one.reward, sampled_at=0.0
        )

    def measured(self, *, is_end: bool) -> Numbers:
        """The held-out reward; at the end what it cost, too."""
        numbers, answers = held_out(self.lab, self._adapter, self.seed)
        if is_end:
            numbers |= divergence(self.lab, _POLICY, answers) | general(self.lab, _POLICY)
        return numbers


def held_out(lab: Lab, adapter: str | None, seed: int) -> tuple[Numbers, list[Answer]]:
    """The reward on questions that are never trained on, and the answers."""
    questions = [question for question in HELD_OUT for _ in range(HELD_OUT_ANSWERS)]
    asks = [
        Ask(prompt=prompt_of(lab, question), seed=_seed(seed, "held out", number))
        for number, question in enumerate(questions)
    ]
    answers = lab.draw(adapter, asks, temperature=TEMPERATURE, max_tokens=MAX_TOKENS)
    rewards = [reward(question, answer.text) for question, answer in zip(questions, answers, strict=True)]
    by_question = np.reshape(rewards, (-1, HELD_OUT_ANSWERS)).mean(axis=1)
    return {"held_out": float(np.mean(rewards)), "by_question": by_question.round(4).tolist()}, answers


def divergence(lab: Lab, model: str, answers: Sequence[Answer]) -> Numbers:
    """How far ``model`` is from the base model on its own held-out answers, in nats a token, as they were drawn."""
    first = [(answer.prompt, answer.tokens) for answer in answers[::HELD_OUT_ANSWERS]]
    theirs = np.concatenate(lab.score(BASE, first, temperature=TEMPERATURE))
    ours = theirs if model == BASE else np.concatenate(lab.score(model, first, temperature=TEMPERATURE))
    return {"kl": float(np.mean(ours - theirs)), "surprise": -float(np.mean(theirs))}


def general(lab: Lab, model: str) -> Numbers:
    """Nats a token that the fixed answers to general prompts cost: their rise is what was forgotten."""
    pairs = [
        (
            lab.prompt([{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]),
            (*lab.tokenizer(answer, add_special_tokens=False)["input_ids"], lab.tokenizer.eos_token_id),
        )
        for question, answer in GENERAL
    ]
    by_prompt = [-float(np.mean(scores)) for scores in lab.score(model, pairs)]
    return {"general_nll": float(np.mean(by_prompt)), "general_by_prompt": [round(value, 4) for value in by_prompt]}


def prompt_of(lab: Lab, question: Prompt) -> tuple[int, ...]:
    return lab.prompt(_asked(question))


def retokenised(lab: Lab, one: Judged, advantage: float) -> Datum:
    """The reference's datum: the text rendered and tokenised again, with the log-probs of the old tokens laid over it.

    They are cut where they are too many and filled with zeros where they are too few. Each token's advantage is the
    exchange's own. That the log-probs are those at temperature 1, as the trainer's are, is in its favour.
    """
    prompt = one.answer.prompt
    tokens = np.asarray(
        lab.written([*_asked(one.question), {"role": "assistant", "content": one.answer.text}]), np.int64
    )
    start = len(prompt) - 1 if tuple(tokens[: len(prompt)]) == prompt else 0
    logprobs, advantages = np.zeros(tokens.size - 1, np.float32), np.zeros(tokens.size - 1, np.float32)
    room = logprobs[start:]
    known = one.answer.logprobs_full[: room.size]
    room[: known.size] = known
    advantages[start:] = advantage
    return Datum(
        tokens_T=tokens[:-1], targets_T=tokens[1:], logprobs_T=logprobs, advantages_T=advantages,
        spans=(Span(turn=one.name, version=one.version, start=start, stop=tokens.size - 1),),
    )  # fmt: skip


def _asked(question: Prompt) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question.text}]


def _within_questions(judged: Sequence[Judged]) -> dict[str, float]:
    """What each answer earned over the others to its question, as ``group`` has it of what a window draws."""
    asked = defaultdict[str, list[Judged]](list)
    for one in judged:
        asked[one.question.text].append(one)
    return {
        one.name: difference
        for those in asked.values()
        for one, difference in zip(those, within_group([one.reward for one in those]), strict=True)
    }


def _turn(one: Judged, surprise: float) -> TrainingTurn:
    answer = one.answer
    sample = PolicySample(
        agent="main", version=one.version, model="", prompt_tokens=array("i", answer.prompt).tobytes(),
        tokens=array("i", answer.tokens).tobytes(), logprobs=answer.logprobs.astype("<f4").tobytes(),
        logprobs_full=answer.logprobs_full.astype("<f4").tobytes(), temperature=TEMPERATURE, top_p=1.0, top_k=-1,
        seed=None, stop_reason=answer.stop_reason, spans=(), renderer="benchmark",
    )  # fmt: skip
    return TrainingTurn(turn=one.name, sample=sample, surprise=surprise)


def _seed(seed: int, what: str, number: int) -> int:
    return Random(f"{seed} {what} {number}").getrandbits(48)


def line_of(run: Run, numbers: Mapping[str, object], began: tuple[float, float]) -> dict[str, object]:
    """What is written of one measurement. ``began``: processor and wall seconds at the start of the run."""
    earned = run.rewards[: run.used]
    return {
        "row": run.recipe.name, "seed": run.seed, "samples": run.used, "updates": run.updates,
        "versions": run.version, "refused": run.refused, "shortened": run.shortened,
        "earned": sum(earned) / len(earned), "rewards": [round(one, 3) for one in earned], **numbers,
        **{f"step_{key}": [round(one[key], 5) for one in run.kept] for key in ("kl", "clipped_share", "learning_rate")},
        "cpu_s": round(time.process_time() - began[0], 1), "wall_s": round(time.monotonic() - began[1], 1),
    }  # fmt: skip
