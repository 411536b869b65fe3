"""What is learned of one agent: every question about it is answered with its own and nothing else.

All agents say the same words in sessions, exchanges and skills of the same names; how many of a thing each has, and
every number, is its own, so that one row of another's shows.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metaclaw.errors import ConflictError, NotFoundError
from metaclaw.journal.descent import descendants
from metaclaw.journal.judge_statistics import read_facts
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion, Sample
from metaclaw.journal.learning_status import AgentStatus, read_status
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.policy_reader import PolicyTold, read_policies
from metaclaw.journal.serving import ServingReader
from metaclaw.journal.skill_costs import skill_costs
from metaclaw.journal.skill_reader import SkillReader
from metaclaw.journal.skill_records import Comparison, Evolution, NewCandidate
from metaclaw.journal.skill_trials import Recall, SkillTrials
from metaclaw.skills.experiments import Experiments
from tests.isolation.canaries import AGENTS, canary, whose_are_in

MINE = AGENTS[:4]
FOR_EVER = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    path: Path
    journal: LearningJournal
    holds: PolicyHolds
    trials: SkillTrials
    reader: SkillReader


def turn_of(agent: str, number: int) -> str:
    return f"turn-{number}-{canary(agent)}"


def exchange_of(agent: str, number: int) -> str:
    return f"ex-{number}-{canary(agent)}"


def reward_of(place: int) -> float:
    return round(0.1 * (place + 1), 3)


def plant(journal: LearningJournal, holds: PolicyHolds, trials: SkillTrials, place: int, agent: str) -> None:
    word, own = canary(agent), place + 1
    numbers = itertools.count()

    def judged(how_many: int, version: int = 0) -> list[str]:
        turns = list[str]()
        for number in itertools.islice(numbers, how_many):
            turn, exchange = turn_of(agent, number), exchange_of(agent, number)
            sample = Sample(
                turn=turn, exchange=exchange, agent=agent, version=version, reward=reward_of(place), sampled_at=1.0
            )
            journal.record_verdict(
                exchange=exchange,
                agent=agent,
                judge="test",
                score=reward_of(place),
                detail={"why": word},
                samples=[sample],
            )
            turns.append(turn)
        return turns

    for version in range(own):
        update = journal.claim(agent, version, judged(1))
        new = NewVersion(
            base_model="tiny",
            state_path=f"tinker://{word}/weights/{version}",
            sampler_path=f"tinker://{word}/sampler_weights/{version}",
        )
        journal.commit(
            update,
            new,
            number=version + 1,
            baseline=Baseline(value=reward_of(place), num_rewards=own),
            metrics={"why": word},
        )
    journal.reject(
        journal.claim(agent, own, judged(1)),
        f"refused {word}",
        baseline=Baseline(value=reward_of(place), num_rewards=own),
        metrics={"why": word},
    )
    judged(own)  # pending
    for number in range(own):
        journal.record_failure(exchange=f"failed-{number}-{word}", agent=agent, judge="test", detail={"why": word})
    holds.hold(agent, "pin", f"held for {word}")
    for number in range(own):
        candidate = NewCandidate(
            id=f"c{number}-{word}",
            agent=agent,
            name=f"tea-{number}",
            description="Brew tea",
            body=word,
            base=None,
            why=word,
            author="big",
            exchanges=(exchange_of(agent, 0),),
            turns=(turn_of(agent, number),),
        )
        trials.record_evolution(
            Evolution(
                agent=agent,
                author="big",
                num_failures=own,
                refused=(word,),
                prompt_tokens=own,
                completion_tokens=1,
                cost_usd=0.0,
            ),
            [candidate],
        )
        trials.compare(
            Comparison(
                candidate=candidate.id,
                exchange="x",
                kind="replay",
                fits=True,
                with_score=1.0,
                without_score=0.0,
                prompt_tokens=10 * own,
            )
        )
        trials.adopt(candidate.id, word)
    on_trial = NewCandidate(
        id=f"t-{word}",
        agent=agent,
        name="coffee",
        description="Brew coffee",
        body=word,
        base=None,
        why=word,
        author="big",
        exchanges=(),
        turns=(),
    )
    trials.record_evolution(Evolution(agent=agent, author="big", num_failures=own, refused=(word,)), [on_trial])
    trials.begin_experiment(on_trial.id, share=1.0, usual=0.0)
    trials.keep_recalls(
        [
            Recall(
                skill="tea-0", exchange=exchange_of(agent, number), agent=agent, seq=100 * own + number, recalled_at=0.5
            )
            for number in range(own)
        ]
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learned]:
    path = tmp_path_factory.mktemp("learning") / "learning.db"
    ticks = itertools.count(1)
    with ExitStack() as stack:
        journal = stack.enter_context(LearningJournal.open(path, clock=lambda: float(next(ticks))))
        holds = stack.enter_context(closing(PolicyHolds.open(path, clock=lambda: float(next(ticks)))))
        trials = stack.enter_context(SkillTrials.open(path, clock=lambda: float(next(ticks))))
        for place, agent in enumerate(MINE):
            plant(journal, holds, trials, place, agent)
        for (
            agent
        ) in MINE:  # after everybody's last update, and again the first one's: whose updates count shows in this
            journal.expire([journal.pending(agent)[0].turn], f"rule {canary(agent)}")
        extra = Sample(turn="late", exchange="late", agent=MINE[0], version=1, reward=0.0, sampled_at=1.0)
        journal.record_verdict(exchange="late", agent=MINE[0], judge="test", score=0.0, detail={}, samples=[extra])
        journal.reject(
            journal.claim(MINE[0], 1, ["late"]),
            f"refused {canary(MINE[0])}",
            baseline=Baseline(value=reward_of(0), num_rewards=1),
            metrics={},
        )
        yield Learned(
            path=path, journal=journal, holds=holds, trials=trials, reader=stack.enter_context(SkillReader.open(path))
        )


Question = Callable[[Learned, str], Any]

# What shows the canary of whoever is asked about, and no other.
TELLING: dict[str, Question] = {
    "version": lambda it, agent: it.journal.version(agent, 1),
    "versions": lambda it, agent: it.journal.versions(agent),
    "skill split": lambda it, agent: it.journal.skill_split(agent).support,
    "holds": lambda it, agent: it.holds.holds(agent),
    "last update": lambda it, agent: [one.last_update for one in status_of(it, agent)],
    "policy": lambda it, agent: read_policies(it.path, now=2.0, agent=agent),
    "refused": lambda it, agent: [one.refused for one in read_policies(it.path, now=2.0) if one.agent == agent],
    "weights": lambda it, agent: asked(it.path, lambda reader: reader.sampler_path(agent, 1)),
    "candidates": lambda it, agent: it.reader.candidates(agent=agent),
    "evolutions": lambda it, agent: it.reader.evolutions(agent),
    "descent": lambda it, agent: descendants(it.path, [turn_of(agent, 0)]),
    "experiments": lambda it, agent: asyncio.run(Experiments(it.path).view()).drawn(agent, bytes(32)),
}

# What is a number of its own for each: as many as it has, or its reward.
COUNTED: dict[str, tuple[Question, Callable[[int], Any]]] = {
    "serving": (lambda it, agent: it.journal.serving(agent), lambda own: own),
    "serving, asked by the gateway": (
        lambda it, agent: asked(it.path, lambda one: one.serving_version(agent)),
        lambda own: own,
    ),
    "next version": (lambda it, agent: it.journal.next_version(agent), lambda own: own + 1),
    "number of versions": (lambda it, agent: len(it.journal.versions(agent)), lambda own: own),
    "generation": (lambda it, agent: it.journal.skill_split(agent).generation, lambda own: own),
    "generation, read": (lambda it, agent: it.reader.generation(agent), lambda own: own),
    "baseline": (lambda it, agent: it.journal.baseline(agent).value, lambda own: reward_of(own - 1)),  # pyright: ignore
    "baseline, told": (
        lambda it, agent: (policy_of(it, agent).baseline or {}).get("value"),
        lambda own: reward_of(own - 1),
    ),
    "pending": (
        lambda it, agent: [one.agent for one in it.journal.pending(agent)],
        lambda own: [MINE[own - 1]] * (own - 1),
    ),
    "rewards": (
        lambda it, agent: it.holds.rewards(agent, [0], since=0.0, limit=99, newest=True),
        lambda own: [reward_of(own - 1)] * (2 * own + 1),
    ),
    "status": (
        lambda it, agent: [
            (one.serving, one.num_versions, one.judged, one.failed, one.pending, one.consumed)
            for one in status_of(it, agent)
        ],
        lambda own: [(own, own, 2 * own + 1 + (own == 1), own, own - 1, own)],
    ),
    "policy": (
        lambda it, agent: [
            len(told)
            for told in (
                policy_of(it, agent).versions,
                policy_of(it, agent).refused,
                policy_of(it, agent).holds,
                policy_of(it, agent).history,
            )
        ],
        lambda own: [own + 1, 1 + (own == 1), 1, own],
    ),
    "descent": (  # of the first turn, on which all versions stand: each once, and the agent's own last one serves
        lambda it, agent: [
            (one.agent == agent, one.state) for one in descendants(it.path, [turn_of(agent, 0)]) if one.kind == "policy"
        ],
        lambda own: [*[(True, "kept")] * (own - 1), (True, "serving")],
    ),
    "which version serves": (
        lambda it, agent: [one.version for one in policy_of(it, agent).versions if one.is_serving],
        lambda own: [own],
    ),
    "mean rewards": (
        lambda it, agent: policy_of(it, agent).versions[0].mean_reward,
        lambda own: pytest.approx(reward_of(own - 1)),
    ),
    "number of candidates": (lambda it, agent: len(it.reader.candidates(agent=agent)), lambda own: own + 1),
    "number of evolutions": (lambda it, agent: len(it.reader.evolutions(agent)), lambda own: own + 1),
    "judged, told": (
        lambda it, agent: [
            (one.agent == agent, sum(one.judged.values()), sum(one.unjudged.values()))
            for one in read_facts(it.path, agent=agent)
        ],
        lambda own: [(True, 2 * own + 1 + (own == 1), own)],
    ),
    "evolving": (lambda it, agent: skill_costs(it.path, agent=agent).evolving.prompt_tokens, lambda own: own * own),
    "trials": (lambda it, agent: skill_costs(it.path, agent=agent).trials.prompt_tokens, lambda own: 10 * own * own),
    "scores with": (
        lambda it, agent: it.reader.scores_with(agent, "tea-0", since=0.0),
        lambda own: [reward_of(own - 1)] * own,
    ),
    "mean score": (
        lambda it, agent: it.reader.mean_score(agent, FOR_EVER),
        lambda own: pytest.approx(reward_of(own - 1) * (2 * own + 1) / (2 * own + 1 + (own == 1))),
    ),
    "utilities": (
        lambda it, agent: [
            (one.num_recalled, one.num_with, one.num_without) for one in it.reader.utilities(agent, "tea-0")
        ],
        lambda own: [(own, own, own + 1 + (own == 1))],
    ),
}


def status_of(it: Learned, agent: str) -> list[AgentStatus]:
    return [one for one in read_status(it.path) if one.agent == agent]


def policy_of(it: Learned, agent: str) -> PolicyTold:
    (found,) = read_policies(it.path, now=2.0, agent=agent)
    return found


def asked(path: Path, question: Callable[[ServingReader], Any]) -> Any:
    with closing(ServingReader(path)) as reader:
        return asyncio.run(question(reader))


@pytest.mark.parametrize("name", TELLING)
def test_what_is_learned_of_an_agent_is_told_of_it_alone(learned: Learned, name: str) -> None:
    for agent in MINE:
        assert whose_are_in(TELLING[name](learned, agent)) == {agent}


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_counted_is_an_agents_own(learned: Learned, name: str) -> None:
    question, expected = COUNTED[name]
    for place, agent in enumerate(MINE):
        assert question(learned, agent) == expected(place + 1), agent


def test_what_a_rule_gave_up_counts_since_the_agents_own_last_update(learned: Learned) -> None:
    assert [learned.journal.expired(agent) for agent in MINE] == [{}, *({f"rule {canary(one)}": 1} for one in MINE[1:])]


def test_samples_of_another_are_never_claimed(learned: Learned) -> None:
    theirs = learned.journal.pending(MINE[2])[0].turn
    with pytest.raises(ConflictError):
        learned.journal.claim(MINE[1], 2, [theirs])
    assert theirs in {one.turn for one in learned.journal.pending(MINE[2])}


def test_a_sample_is_of_its_own_agents_generation(tmp_path: Path) -> None:
    path, (one, other) = tmp_path / "learning.db", MINE[:2]
    with LearningJournal.open(path, clock=lambda: 9.0) as journal, SkillTrials.open(path, clock=lambda: 1.0) as trials:
        candidate = NewCandidate(
            id="c",
            agent=other,
            name="tea",
            description="d",
            body="b",
            base=None,
            why="",
            author="",
            exchanges=(),
            turns=(),
        )
        trials.record_evolution(Evolution(agent=other, author="", num_failures=1), [candidate])
        assert trials.adopt("c", "") == 1
        mine = NewCandidate(
            id="d",
            agent=one,
            name="tea",
            description="d",
            body="b",
            base=None,
            why="",
            author="",
            exchanges=(),
            turns=(),
        )
        sample = Sample(turn="t", exchange="x", agent=one, version=0, reward=1.0, sampled_at=5.0)
        journal.record_verdict(exchange="x", agent=one, judge="", score=1.0, detail={}, samples=[sample])
        assert journal.pending(one)[0].generation == 0
        trials.record_evolution(Evolution(agent=one, author="", num_failures=1), [mine])
        assert trials.adopt("d", "") == 1, "generations are counted for each agent"


def test_serving_retiring_and_releasing_touch_the_agents_own(tmp_path: Path) -> None:
    path, (one, other) = tmp_path / "learning.db", MINE[:2]
    with (
        LearningJournal.open(path) as journal,
        SkillTrials.open(path) as trials,
        closing(PolicyHolds.open(path)) as holds,
    ):
        for place, agent in enumerate((one, other)):
            plant(journal, holds, trials, place + 1, agent)
        assert [version.version for version in journal.retire(one, keep=[])] == [1]
        assert [version.deleted_at for version in journal.versions(other)] == [None] * 3
        journal.serve(other, 1, "mine is still there")
        assert (journal.serving(one), journal.serving(other)) == (2, 1)
        with pytest.raises(NotFoundError):
            journal.serve(one, 3, "the other's")
        assert holds.release(one, "pin")
        assert [len(holds.holds(agent)) for agent in (one, other)] == [0, 1]


def test_a_version_that_is_tried_is_tried_on_its_own_agents_sessions(tmp_path: Path) -> None:
    path = tmp_path / "learning.db"
    with LearningJournal.open(path) as journal:
        for place, agent in enumerate(MINE):
            for number in range(place + 1):
                new = NewVersion(base_model="b", state_path=f"{agent}{number}", sampler_path=f"s{agent}{number}")
                is_last = number == place
                journal.commit(
                    journal.claim(agent, number, []),
                    new,
                    number=number + 1,
                    baseline=None,
                    metrics={},
                    canary_share=0.1 * (place + 1) if is_last else 0.0,
                )

        def told(agent: str) -> list[tuple[int, int | None, float]]:
            canary, (policy,) = journal.canary(agent), read_policies(path, now=1.0, agent=agent)
            served = asked(path, lambda reader: reader.serving(agent))
            shown = [(one.version, one.canary_share) for one in policy.versions if one.canary_share]
            assert [(served.canary, served.share)] == [(canary.version, canary.share)] == shown if canary else not shown
            return [(served.version, served.canary, round(served.share, 2))]

        expected = {agent: [(place, place + 1, round(0.1 * (place + 1), 2))] for place, agent in enumerate(MINE)}
        assert {agent: told(agent) for agent in MINE} == expected
        first, second, *_ = MINE
        journal.serve(first, 1, "it is good")
        withdrawn = journal.canary(second)
        assert withdrawn is not None
        journal.end_canary(withdrawn, "it is not", serves=False)
        assert {agent: told(agent) for agent in MINE} == expected | {
            first: [(1, None, 0.0)],
            second: [(1, None, 0.0)],
        }


def test_the_end_of_a_trial_ends_no_other_agents(tmp_path: Path) -> None:
    one, other = MINE[:2]
    with LearningJournal.open(tmp_path / "learning.db") as journal:
        for agent in (one, other):
            new = NewVersion(base_model="b", state_path=f"state {agent}", sampler_path=f"sampler {agent}")
            update = journal.claim(agent, 0, [])
            journal.commit(update, new, number=1, baseline=None, metrics={}, canary_share=0.5)
        ended = journal.canary(one)
        assert ended is not None
        journal.end_canary(ended, "it is not", serves=False)
        assert [journal.canary(agent) is None for agent in (one, other)] == [True, False]
