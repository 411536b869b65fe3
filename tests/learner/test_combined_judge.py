"""Whose score counts where several could judge."""

from __future__ import annotations

import pytest

from metaclaw.config import JudgeSettings
from metaclaw.errors import JudgeError
from metaclaw.learner.judges.combined import CombinedJudge, FeedbackJudge, Source
from metaclaw.learner.judges.judge import Exchange, Verdict
from metaclaw.learner.judges.loading import load_judge
from metaclaw.upstreams.session import new_session

pytestmark = pytest.mark.anyio


class Says:
    """A judge with one answer."""

    def __init__(self, name: str, answer: float | Exception | None, *, needs_followup: bool = False) -> None:
        self.name = name
        self.needs_followup = needs_followup
        self.asked = 0
        self._answer = answer

    async def judge(self, exchange: Exchange) -> Verdict:
        self.asked += 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return Verdict(score=self._answer)


def exchange(feedback: float | None = None) -> Exchange:
    return Exchange(
        id="x", agent="main", session="s", turn_ids=("t",), prompt="ask", answer="hi", messages=(),
        finish_reason="stop", feedback=feedback,
    )  # fmt: skip


def combined(*judges: Says, compares: bool = True) -> CombinedJudge:
    sources = [Source(name=judge.name, judge=judge) for judge in judges]
    return CombinedJudge([Source(name="feedback", judge=FeedbackJudge()), *sources], compares=compares)


async def test_the_first_source_with_an_opinion_decides_and_those_after_it_are_not_asked():
    silent, first, second = Says("verifier", None), Says("command", 0.5), Says("llm", -1.0)

    verdict = await combined(silent, first, second).judge(exchange())

    assert (verdict.score, verdict.judge, verdict.detail["source"]) == (0.5, "command", "command")
    assert [opinion.source for opinion in verdict.opinions] == ["command"]
    assert second.asked == 0


async def test_a_source_that_fails_does_not_hand_over_to_the_next_one():
    """Else an outage would change, without a word, whose rewards an agent learns from."""
    second = Says("llm", 1.0)
    with pytest.raises(JudgeError, match="broken"):
        await combined(Says("verifier", JudgeError("broken")), second).judge(exchange())
    assert second.asked == 0


async def test_nobody_with_an_opinion_is_no_opinion():
    assert (await combined(Says("verifier", None), Says("llm", None)).judge(exchange())).score is None


async def test_a_persons_word_goes_before_and_the_judge_is_asked_for_comparison_alone():
    judge = Says("llm", -1.0)

    verdict = await combined(Says("verifier", None), judge).judge(exchange(feedback=1.0))

    assert (verdict.score, verdict.judge) == (1.0, "feedback")
    assert [(opinion.source, opinion.score) for opinion in verdict.opinions] == [("feedback", 1.0), ("llm", -1.0)]


async def test_a_comparison_that_fails_or_is_switched_off_takes_nothing_from_the_verdict():
    broken, unasked = Says("llm", JudgeError("broken")), Says("llm", 1.0)
    assert (await combined(broken).judge(exchange(feedback=0.5))).score == 0.5
    assert (await combined(unasked, compares=False).judge(exchange(feedback=0.5))).score == 0.5
    assert unasked.asked == 0


async def test_the_order_is_the_settings_and_what_is_not_set_up_is_left_out():
    settings = JudgeSettings(
        verifier="tests.learner.verifiers:answers_what_the_prompt_says", url="http://127.0.0.1:1/v1", model="m",
        precedence="verifier, llm, feedback",
    )  # fmt: skip
    async with new_session() as session:
        judge = load_judge(settings, session)
        assert judge is not None
        assert judge.sources == ("verifier", "llm", "feedback")
        assert judge.needs_followup
        assert load_judge(JudgeSettings(), session) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precedence": "llm,llm"}, "twice"),
        ({"precedence": "llm", "verifier": "a:b"}, "leaves out what is set: verifier"),
        ({"precedence": "feedback", "url": "http://127.0.0.1:1"}, "llm"),
    ],
)
def test_an_order_that_forgets_a_source_is_refused(changes: dict, says: str):
    with pytest.raises(ValueError, match=says):
        JudgeSettings(**changes)
