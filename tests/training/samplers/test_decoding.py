"""Many requests at once against one at a time with transformers and PEFT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes.tiny_model import byte_tokenizer
from tests.training.samplers.adapters import peft_model
from tests.training.samplers.conftest import Family
from tests.training.samplers.loops import LocalLoop, generate


def greedy_alone(family: Family, name: str | None, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """Tokens and log-probs by whole forward passes, without a cache."""
    model = peft_model(family.base, family.adapters[name] if name else None)
    tokens, logprobs = list(prompt), []
    with torch.inference_mode():
        for _ in range(count):
            row = model(torch.tensor([tokens])).logits[0, -1].float().log_softmax(-1)
            tokens.append(int(row.argmax()))
            logprobs.append(float(row.max()))
    return tokens[len(prompt) :], logprobs


@pytest.fixture
def loop(tied: Family, tmp_path: Path) -> LocalLoop:
    local = LocalLoop(tied.base, max_concurrent=4)
    for name, directory in tied.adapters.items():
        local.load(name, directory, tmp_path)
    return local


@pytest.mark.parametrize("which", ["tied", "untied"])
def test_concurrent_requests_are_answered_as_if_each_were_alone(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Different lengths, adapters and times of arrival; more requests than rows; prompts longer than one chunk.

    PITFALLS B8: two threads on one model switched its mode under each other.
    """
    family: Family = request.getfixturevalue(which)
    loop = LocalLoop(family.base, max_concurrent=4)
    for name, directory in family.adapters.items():
        loop.load(name, directory, tmp_path)
    random = np.random.default_rng(0)
    names = [None, *family.adapters]
    asked = []
    for number, length in enumerate((5, 170, 3, 11, 60, 1, 12, 300)):
        prompt = random.integers(0, 256, length).tolist()
        name, num_tokens = names[number % len(names)], 4 + number
        asked.append((loop.post(generate(prompt, name, max_tokens=num_tokens)), name, prompt, num_tokens))
        loop.turn(number % 3)
    answers = loop.run(*(frame_id for frame_id, *_ in asked))
    for answer, (_, name, prompt, num_tokens) in zip(answers, asked, strict=True):
        tokens, logprobs = greedy_alone(family, name, prompt, num_tokens)
        assert answer.tokens() == tokens
        np.testing.assert_allclose(answer.column("logprobs_full"), logprobs, atol=1e-4)
        assert answer.stop_reason() == "length"
        assert answer.end == {"id": answer.end["id"], "ok": {}}


def test_a_seed_gives_the_same_tokens_in_any_company(loop: LocalLoop) -> None:
    lonely = loop.ask(generate("a prompt", "a", temperature=1.0, seed=5, max_tokens=12, num_samples=3))
    others = [loop.post(generate("x" * length, "b", temperature=0.8, max_tokens=20)) for length in (3, 40)]
    loop.turn(2)
    crowded = loop.run(loop.post(generate("a prompt", "a", temperature=1.0, seed=5, max_tokens=12, num_samples=3)))[0]
    loop.run(*others)
    for sample in range(3):
        assert crowded.tokens(sample) == lonely.tokens(sample)
        np.testing.assert_allclose(crowded.column("logprobs", sample), lonely.column("logprobs", sample), atol=1e-4)
    assert len({tuple(lonely.tokens(sample)) for sample in range(3)}) == 3
    assert loop.ask(generate("a prompt", "a", temperature=1.0, seed=6, max_tokens=12)).tokens() != lonely.tokens(0)


def test_greedy_answers_do_not_depend_on_how_many_run_beside_them(tied: Family, tmp_path: Path) -> None:
    """float32 sums differ in the last bits with the number of rows; only a tie closer than that could turn over."""
    loop = LocalLoop(tied.base, max_concurrent=32)
    loop.load("a", tied.adapters["a"], tmp_path)
    prompts = [np.random.default_rng(seed).integers(0, 256, 5 + seed) for seed in range(32)]
    alone = [loop.ask(generate(prompt, "a", max_tokens=25)) for prompt in prompts]
    for count in (2, 7, 32):
        together = loop.run(*[loop.post(generate(prompt, "a", max_tokens=25)) for prompt in prompts[:count]])
        for one, other in zip(alone, together, strict=False):
            assert other.tokens() == one.tokens()
            np.testing.assert_allclose(other.column("logprobs_full"), one.column("logprobs_full"), atol=1e-4)


def test_hundreds_of_samples_are_answered_through_a_few_rows(loop: LocalLoop) -> None:
    asked = [loop.post(generate([seed % 256, 1, 2], "a", max_tokens=3, num_samples=4)) for seed in range(128)]
    answers = loop.run(*asked)
    assert {len(answer.tokens(sample)) for answer in answers for sample in range(4)} == {3}


def test_more_samples_than_rows_share_one_prefill_and_all_finish(loop: LocalLoop) -> None:
    answer = loop.ask(generate("many", temperature=1.0, seed=1, max_tokens=6, num_samples=11))
    assert {len(answer.tokens(sample)) for sample in range(11)} == {6}
    assert len({tuple(answer.tokens(sample)) for sample in range(11)}) > 5


def test_logprobs_as_drawn_and_in_full_are_those_of_the_trainer(tied: Family, loop: LocalLoop) -> None:
    """R3, KNOWLEDGE 1.6: log-probs belong to the drawn tokens, before and after truncation; to 1e-3 of a fresh pass."""
    prompt = list(b"a question?")
    answer = loop.ask(
        generate(prompt, "a", temperature=0.7, top_p=0.9, top_k=20, seed=3, max_tokens=24, topk_sample_logprobs=3)
    )
    tokens = answer.tokens()
    with torch.inference_mode():
        logits = peft_model(tied.base, tied.adapters["a"])(torch.tensor([prompt + tokens])).logits[
            0, len(prompt) - 1 : -1
        ]
    full = logits.log_softmax(-1)
    np.testing.assert_allclose(answer.column("logprobs_full"), full[range(24), tokens], atol=1e-3)
    np.testing.assert_allclose(answer.column("topk_logprobs"), full.topk(3).values, atol=1e-3)
    assert answer.column("topk_tokens").tolist() == full.topk(3).indices.tolist()
    for place, token in enumerate(tokens):
        values, ids = (logits[place] / 0.7).topk(20)
        p = values.softmax(-1)
        kept = (p.cumsum(-1) - p) < 0.9
        expected = dict(zip(ids[kept].tolist(), (p[kept] / p[kept].sum()).log().tolist(), strict=True))
        assert answer.column("logprobs")[place] == pytest.approx(expected[token], abs=1e-3)


@pytest.mark.parametrize("length", [1, 7, 700])
def test_a_prompt_is_scored_from_its_second_token_on(tied: Family, loop: LocalLoop, length: int) -> None:
    prompt = np.random.default_rng(length).integers(0, 256, length).tolist()
    others = [loop.post(generate("x" * 50, "b", max_tokens=30))]
    loop.turn(2)  # so that the prompt is read in small chunks
    answer = loop.ask(generate(prompt, "c", max_tokens=0, prompt_logprobs=True, topk_prompt_logprobs=2, num_samples=2))
    loop.run(*others)
    with torch.inference_mode():
        full = peft_model(tied.base, tied.adapters["c"])(torch.tensor([prompt])).logits[0].log_softmax(-1)
    scored = answer.prompt["logprobs"]
    assert scored.shape == (length,)
    assert np.isnan(scored[0])
    np.testing.assert_allclose(scored[1:], full[range(length - 1), prompt[1:]], atol=1e-4)
    np.testing.assert_allclose(answer.prompt["topk_logprobs"][1:], full[:-1].topk(2).values, atol=1e-4)
    assert answer.prompt["topk_tokens"].shape == (length, 2)
    assert answer.tokens() == []
    assert [answer.stop_reason(sample) for sample in range(2)] == ["length", "length"]


def test_prompts_longer_than_a_chunk_never_hold_up_running_answers(loop: LocalLoop) -> None:
    """One token a step for those that run, while a prompt of many chunks is read."""
    running = loop.post(generate("short", max_tokens=400))
    loop.turn()
    reading = loop.post(generate("x" * 1500, max_tokens=1))
    while loop.answers.by_id[reading].end is None:
        before = len(loop.answers.by_id[running].tokens())
        loop.turn()
        assert len(loop.answers.by_id[running].tokens()) == before + 1
    assert before >= 8
    loop.run(running)


def test_requests_begin_in_the_order_of_arrival(loop: LocalLoop) -> None:
    asked = [loop.post(generate("x" * length, max_tokens=3)) for length in (9, 200, 4, 9, 120, 5, 5, 1)]
    loop.run(*asked)
    first_seen = sorted(asked, key=loop.order.index)
    assert first_seen == asked


def test_stop_tokens_and_stop_strings_end_an_answer_and_are_part_of_it(tied: Family, loop: LocalLoop) -> None:
    free = loop.ask(generate("tell me", "b", temperature=1.0, seed=9, max_tokens=60)).tokens()
    last = free[10]
    first = free.index(last)
    stopped = loop.ask(generate("tell me", "b", temperature=1.0, seed=9, max_tokens=60, stop_tokens=(last,)))
    assert stopped.tokens() == free[: first + 1]
    assert stopped.stop_reason() == "stop"
    assert len(stopped.column("logprobs")) == first + 1
    texts = [byte_tokenizer().decode(free[: end + 1]) for end in range(len(free))]
    wanted = next(text[-2:] for text in texts[5:] if text[-2:].isascii() and text[-2:].isprintable())
    expected = next(end for end, text in enumerate(texts) if wanted in text)
    stopped = loop.ask(generate("tell me", "b", temperature=1.0, seed=9, max_tokens=60, stop_strings=(wanted,)))
    assert stopped.tokens() == free[: expected + 1]
    assert stopped.stop_reason() == "stop"


def test_without_stop_tokens_the_models_own_end_ends_the_answer(loop: LocalLoop) -> None:
    """B8 of the fork: the end token must be sampled and counted, not cut."""
    (end,) = loop.base.ready.end_tokens
    for seed in range(40):
        answer = loop.ask(generate("x", temperature=1.9, seed=seed, max_tokens=60, stop_tokens=None))
        if answer.stop_reason() == "stop":
            assert answer.tokens()[-1] == end
            assert end not in answer.tokens()[:-1]
            endless = loop.ask(generate("x", temperature=1.9, seed=seed, max_tokens=60))
            assert endless.tokens()[: len(answer.tokens())] == answer.tokens()
            assert len(endless.tokens()) == 60
            return
    pytest.fail("no seed ended; the test needs another prompt")


def test_an_answer_ends_where_the_context_does(tied: Family) -> None:
    loop = LocalLoop(tied.base, max_concurrent=2)
    limit = loop.base.ready.max_context
    answer = loop.ask(generate([1] * (limit - 3), max_tokens=100))
    assert len(answer.tokens()) == 3
    assert answer.stop_reason() == "length"
    full = loop.ask(generate([1] * limit, max_tokens=100))
    assert full.tokens() == []
    assert full.stop_reason() == "length"
