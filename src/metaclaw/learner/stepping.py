"""The optimiser steps of one update: weighed before, measured after.

Owns which passes they take at the trainer; refuses to know the journal, and what becomes of the weights. Invariant:
what the loss is given was weighed by the very weights that the update starts from, and the divergence is from those,
however many steps there are.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from metaclaw.config import UpdateSettings
from metaclaw.journal.lessons import TaughtTurn
from metaclaw.learner.backends.backend import Pass, TrainingBackend, TrainingRun
from metaclaw.learner.corrections import Corrected, as_drawn_now, clipped_share, corrected, pulled
from metaclaw.learner.datums import TEMPERATURE, AnyGroup, Datum, DatumGroup, Floats, likely_group
from metaclaw.learner.distillation.hearing import heard
from metaclaw.learner.distillation.leaning import leaned
from metaclaw.learner.distillation.lessons import NO_LESSONS, Lessons
from metaclaw.learner.distillation.likely import asked_about, drawn, without
from metaclaw.learner.distillation.likely import weighed as weighed_likely
from metaclaw.learner.gate.steps import Refusal, StepLimits, refusal
from metaclaw.learner.learning_rate import PeakRate, peak_rate
from metaclaw.learner.measurements import changes, measure

_log = logging.getLogger(__name__)

Seconds = defaultdict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What a step did, in numbers and by turn in nats per token, and why its result must not serve (``None`` when it
    may)."""

    numbers: dict[str, float]
    changes: dict[str, float]
    refused: Refusal | None


class Stepper:
    """Makes steps as the settings say. ``seconds`` of each call gathers what its passes took."""

    def __init__(self, backend: TrainingBackend, settings: UpdateSettings) -> None:
        self._backend = backend
        self._settings = settings
        self._sizes: dict[str, int] = {}  # parameters by base model, where they are known
        self._said: PeakRate | None = None
        self._limits = StepLimits(section="rl.update", max_kl=settings.max_kl)

    async def peak_rate(self, base_model: str) -> float:
        """The learning rate after the warm-up; said once."""
        setting, known = self._settings.learning_rate, self._sizes.get(base_model)
        if not setting and known is None and (known := await self._backend.num_parameters(base_model)):
            self._sizes[base_model] = known
        peak = peak_rate(setting, known)
        if self._said != peak:
            self._said = peak
            _log.info("the learning rate's peak is %.3g: %s", peak.value, peak.why)
        return peak.value

    async def weigh(
        self,
        run: TrainingRun,
        groups: Sequence[DatumGroup],
        *,
        parent: int,
        seconds: Seconds,
        lessons: Lessons = NO_LESSONS,
    ) -> Corrected:
        """``groups`` as they are to be trained on: one pass over the data, one more of what was not drawn at
        temperature 1 where a teacher spoke, and one of the base model where it pulls."""
        settings = self._settings
        spans = [span for group in groups for datum in group.data for span in datum.spans]
        is_corrected = settings.max_token_weight or settings.max_mismatch or settings.reference_kl or lessons.num_taught
        if not is_corrected and not any(span.is_rolled_out for span in spans):
            return Corrected(groups=tuple(groups), masked=(), numbers=lessons.numbers)
        with timed(seconds, "weigh"):
            now = await run.forward(groups)
        groups = as_drawn_now(groups, now.logprobs)
        groups, numbers, told = await self._taught(run, groups, now, lessons, seconds)
        if settings.reference_kl:
            with timed(seconds, "reference"):
                reference = await self._of_base(groups)
            groups, found = pulled(groups, now.logprobs, reference.logprobs, settings.reference_kl)
            numbers |= found
        weighed = corrected(groups, now.logprobs, parent=parent, settings=settings)
        groups = without(weighed.groups, weighed.masked)
        numbers |= weighed.numbers
        return Corrected(groups=groups, masked=weighed.masked, numbers=numbers, heard=tuple(told))

    async def step(
        self,
        run: TrainingRun,
        groups: Sequence[DatumGroup],
        *,
        parent: int,
        rates: Sequence[float],
        seconds: Seconds,
        limits: Sequence[StepLimits] = (),
    ) -> Stepped:
        """Take the steps, each at its learning rate, and measure where they led; ``limits`` are kept beside our own."""
        settings, parts = self._settings, cut(groups, self._settings.steps)
        groups = [group for part in parts for group in part]
        before = _known(groups)
        is_known = before is not None
        if before is None and len(parts) * settings.num_passes > 1:  # the passes of later steps see the earlier ones
            with timed(seconds, "forward"):
                before = (await run.forward(groups)).logprobs
        passes, step, rate = await self._go_through(run, parts, rates, is_known, seconds)
        before = before or passes[0].logprobs
        with timed(seconds, "forward"):
            after = await run.forward(groups)
        data = [datum for group in groups for datum in group.data]
        numbers = {
            **{f"before/{key}": value for key, value in _merged(passes).items()},
            **{f"step/{key}": value for key, value in step.items()},
            **measure(data, before, after.logprobs, parent=parent),
            "clipped_share": clipped_share(groups, before, settings),
            "learning_rate": rate,
        }
        return Stepped(
            numbers=numbers,
            changes=changes(data, before, after.logprobs),
            refused=refusal(numbers, (self._limits, *limits)),
        )

    async def _go_through(
        self,
        run: TrainingRun,
        parts: Sequence[Sequence[DatumGroup]],
        rates: Sequence[float],
        is_known: bool,
        seconds: Seconds,
    ) -> tuple[list[Pass], Mapping[str, float], float]:
        """The first passes over what was drawn, and of the last step what the optimiser says of it and its rate."""
        passes, step, rate = list[Pass](), dict[str, float](), 0.0
        lots = _lots(parts, self._settings.num_passes, is_known=is_known)
        for lot, rate in zip(lots, rates, strict=False):  # a small update has fewer lots than rates
            with timed(seconds, "forward_backward"):
                if lot.drawn:
                    made = await run.forward_backward(lot.drawn)
                    passes += [made] if lot.is_first else []
                if lot.likely:
                    await run.forward_backward(lot.likely)
            step = await self._optim_step(run, rate, seconds)
        return passes, step, rate

    async def _optim_step(self, run: TrainingRun, rate: float, seconds: Seconds) -> Mapping[str, float]:
        with timed(seconds, "optim_step"):
            return await run.optim_step(learning_rate=rate, grad_clip_norm=self._settings.grad_clip_norm)

    async def _taught(
        self, run: TrainingRun, groups: Sequence[DatumGroup], now: Pass, lessons: Lessons, seconds: Seconds
    ) -> tuple[Sequence[DatumGroup], dict[str, float], list[TaughtTurn]]:
        """``groups`` with what teachers said in them, in numbers and by turn."""
        numbers, told, plain = lessons.numbers, list[TaughtTurn](), list[Floats]()
        if any(lesson.taught and not lesson.likeliest for lesson in lessons.each):
            with timed(seconds, "weigh"):
                plain = await _plain(run, groups, now)
        for lesson in lessons.each:
            if lesson.likeliest:
                asked = asked_about(groups, lesson)
                with timed(seconds, "weigh"):
                    student = (await run.forward(likely_group(asked))).logprobs
                told += heard(asked, drawn(asked, student), lesson)
                groups, found = weighed_likely(asked, student, lesson)
                numbers |= found
            elif lesson.taught:
                told += heard(groups, plain, lesson)
                groups, found = leaned(groups, plain, lesson)
                numbers |= found
        return groups, numbers, told

    async def _of_base(self, groups: Sequence[DatumGroup]) -> Pass:
        """A pass of the base model, which an adapter is that was never trained."""
        base = await self._backend.open(None)
        try:
            return await base.forward(groups)
        finally:
            await base.close()


async def _plain(run: TrainingRun, groups: Sequence[DatumGroup], now: Pass) -> list[Floats]:
    """The trainer's log-probabilities at temperature 1, where ``now`` has them at that which was sampled at."""
    others = [
        replace(group, config={**group.config, TEMPERATURE: 1.0}) for group in groups if group.config[TEMPERATURE] != 1
    ]
    again = iter((await run.forward(others)).logprobs if others else ())
    same = iter(now.logprobs)
    found = list[Floats]()
    for group in groups:
        for _ in group.data:
            here = next(same)
            found.append(here if group.config[TEMPERATURE] == 1 else next(again))
    return found


def _known(groups: Sequence[DatumGroup]) -> tuple[Floats, ...] | None:
    """What ``weigh`` heard of each datum; ``None`` where it did not ask."""
    found = [datum.now_T for group in groups for datum in group.data]
    known = tuple(one for one in found if one is not None)
    return known if len(known) == len(found) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lot:
    """What one step learns from: what was drawn, and what is likely to a teacher. ``is_first``: nothing of it was
    learned before."""

    drawn: Sequence[DatumGroup]
    likely: Sequence[AnyGroup] = ()
    is_first: bool = False


def _lots(parts: Sequence[Sequence[DatumGroup]], num_passes: int, *, is_known: bool) -> list[_Lot]:
    """What the steps learn from, in order: the parts, as often as the settings say.

    An answer that the loss has moved far enough leaves the rest to the others. What is likely is learned the first time
    alone, as nothing bounds it. ``is_known``: what weighs nothing would be a pass for nothing.
    """
    first, again = list[_Lot](), list[_Lot]()
    for part in parts:
        weighing, likely = _weighing(part), likely_group(part)
        drawn = weighing if is_known else part
        first.append(_Lot(drawn=drawn if drawn or likely else part, likely=likely, is_first=True))
        again += [_Lot(drawn=weighing)] if weighing else []
    return first + again * (num_passes - 1)


def _weighing(groups: Sequence[DatumGroup]) -> list[DatumGroup]:
    """``groups`` without the sequences of which no drawn token weighs anything: masked, or taught otherwise."""
    found = [
        replace(group, data=tuple(datum for datum in group.data if np.any(datum.advantages_T))) for group in groups
    ]
    return [group for group in found if group.data]


def cut(groups: Sequence[DatumGroup], steps: int) -> list[list[DatumGroup]]:
    """At most ``steps`` parts that together hold all data, each with as much of what was good and of what was bad.

    A part of bad answers alone makes everything in them less likely, what all answers share with them; that is noise,
    and a few answers drawn by chance are often such a part. So they are dealt by their advantages, back and forth.
    """
    # All groups together: dealt one by one, the first part got the worst answer of each temperature. What teaches
    # nothing comes last, so that no part consists of that alone while others are left.
    every = [(place, datum) for place, group in enumerate(groups) for datum in group.data]
    dealt: list[dict[int, list[Datum]]] = [defaultdict(list) for _ in range(steps)]
    for number, (group, datum) in enumerate(sorted(every, key=lambda one: _worth(one[1]))):
        turn, place = divmod(number, steps)
        dealt[steps - 1 - place if turn % 2 else place][group].append(datum)
    parts = [[replace(groups[place], data=tuple(data)) for place, data in sorted(part.items())] for part in dealt]
    return [part for part in parts if part]


def _worth(datum: Datum) -> tuple[bool, float]:
    """How good it was, after all others where it teaches nothing."""
    teaches = datum.likely is not None or bool(np.any(datum.advantages_T))
    return not teaches, float(np.sum(datum.advantages_T, dtype=np.float64))


def _merged(passes: Sequence[Pass]) -> dict[str, float]:
    """As the backend merges groups: only sums add up; of anything else the last pass's stays."""
    merged = dict[str, float]()
    for one in passes:
        for key, value in one.metrics.items():
            merged[key] = value + (merged.get(key, 0.0) if key.endswith(":sum") else 0.0)
    return merged


@contextmanager
def timed(seconds: Seconds, phase: str) -> Generator[None]:
    """Add to ``seconds`` what the block takes."""
    started = time.monotonic()
    yield
    seconds[phase] += round(time.monotonic() - started, 3)
