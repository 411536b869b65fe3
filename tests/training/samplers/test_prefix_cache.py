"""Prompts that begin like earlier ones: what is reused, and that nobody can tell by the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaclaw.training.commands import UnloadAdapter
from tests.training.device import TOLERANCE
from tests.training.samplers.conftest import Family
from tests.training.samplers.loops import Answer, LocalLoop, generate

NAMES = (None, "a", "b")


def cached(answer: Answer) -> int:
    return answer.events[-1]["cached_tokens"]


@pytest.fixture(scope="module")
def loops(tied: Family, tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalLoop, LocalLoop]:
    """One that keeps a little, so that it must forget too, and one that keeps nothing."""
    pair = (LocalLoop(tied.base, max_concurrent=3, prefix_cache_mb=1), LocalLoop(tied.base, prefix_cache_mb=0))
    for number, loop in enumerate(pair):
        for name in ("a", "b"):
            loop.load(name, tied.adapters[name], tmp_path_factory.mktemp(f"loop{number}"))
    return pair


TURNS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.integers(0, 2),  # which conversation
        st.integers(0, 400),  # how much of its history is sent again
        st.lists(st.integers(0, 255), min_size=1, max_size=60),
        st.integers(1, 12),  # tokens of the answer
        st.integers(1, 3),  # samples
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TURNS)
def test_conversations_are_answered_the_same_with_and_without_what_was_kept(loops, turns) -> None:
    keeping, plain = loops
    histories: dict[int, list[int]] = {0: [], 1: list(range(200)), 2: list(range(200))}
    asked = []
    for name, conversation, kept, new, max_tokens, num_samples in turns:
        prompt = histories[conversation][:kept] + new
        command = generate(
            prompt, name, max_tokens=max_tokens, num_samples=num_samples, temperature=1.0, seed=len(asked)
        )
        asked.append((keeping.post(command), plain.ask(command)))
        for _ in range(len(asked) % 3):
            if keeping.answers.by_id[asked[-1][0]].end is None:  # else it would wait for commands
                keeping.turn()
        histories[conversation] = prompt + asked[-1][1].tokens()
    keeping.run(*(frame_id for frame_id, _ in asked))
    for frame_id, expected in asked:
        answer = keeping.answers.by_id[frame_id]
        for sample in range(len([event for event in expected.events if event["event"] == "finished"])):
            assert answer.tokens(sample) == expected.tokens(sample)
            np.testing.assert_allclose(
                answer.column("logprobs", sample), expected.column("logprobs", sample), atol=10 * TOLERANCE
            )
        assert cached(expected) == 0


@pytest.fixture
def loop(tied: Family, tmp_path: Path) -> LocalLoop:
    local = LocalLoop(tied.base, max_concurrent=4)
    for name, directory in tied.adapters.items():
        local.load(name, directory, tmp_path)
    return local


def test_the_second_turn_reads_only_what_is_new(loop: LocalLoop) -> None:
    """PITFALLS B8: there was no cache, and each token read the whole prompt again."""
    first = loop.ask(generate("x" * 300, "a", max_tokens=20))
    assert cached(first) == 0
    history = [*b"x" * 300, *first.tokens()]
    second = loop.ask(generate([*history, 1, 2, 3], "a", max_tokens=5))
    assert cached(second) == 319  # the last token of an answer is drawn, not read
    assert cached(loop.ask(generate([*history, 1, 2, 3], "b", max_tokens=5))) == 0
    assert cached(loop.ask(generate([*history, 1, 2, 3], None, max_tokens=5))) == 0
    assert cached(loop.ask(generate([*history, 1, 2, 3], "a", max_tokens=5))) == 322  # the last one's logits are needed


def test_a_request_begins_like_one_that_still_runs(loop: LocalLoop) -> None:
    running = loop.post(generate("y" * 100, "a", max_tokens=60))
    loop.turn(3)
    assert cached(loop.ask(generate("y" * 100 + "z", "a", max_tokens=3))) == 100
    assert loop.answers.by_id[running].end is None
    assert len(loop.run(running)[0].tokens()) == 60


def test_prompts_to_be_scored_are_read_whole(loop: LocalLoop) -> None:
    for _ in range(2):
        answer = loop.ask(generate("s" * 100, "a", max_tokens=0, prompt_logprobs=True))
        assert cached(answer) == 0
        assert not np.isnan(answer.prompt["logprobs"][1:]).any()
    assert cached(loop.ask(generate("s" * 100, "a", max_tokens=1))) == 99


def test_what_an_unloaded_adapter_computed_is_forgotten(loop: LocalLoop) -> None:
    loop.ask(generate("u" * 100, "a", max_tokens=3))
    kept = loop.loop._decoder._rows._kept
    before, own = kept.num_places, next(one.row for one in kept._kept if one.row.length == 102)
    assert before >= own.capacity > own.length
    assert loop.ask(UnloadAdapter(adapter_id="a")).end["ok"] == {}
    assert kept.num_places == before - own.capacity


def test_what_is_kept_never_exceeds_its_limit(tied: Family) -> None:
    loop = LocalLoop(tied.base, max_concurrent=4, prefix_cache_mb=1)
    kept = loop.loop._decoder._rows._kept
    for seed in range(6):
        prompt = np.random.default_rng(seed).integers(0, 256, 500)
        loop.ask(generate(prompt, max_tokens=2))
        rows = [one.row for one in kept._kept]
        assert sum(row.capacity for row in rows) == kept.num_places > 0, "what is reserved counts"
        stores = [store for row in rows for store in (*row.keys, *row.values)]
        assert sum(store[0].nbytes for store in stores) / len(rows) * kept.num_places <= 2**20
