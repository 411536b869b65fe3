"""What the sampler's commands do and refuse, step by step in this process."""

from __future__ import annotations

import math
import re
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from metaclaw.training.commands import Cancel, LoadAdapter, OptimStep, UnloadAdapter
from tests.training.memory import Memory
from tests.training.samplers.adapters import publish
from tests.training.samplers.conftest import Family
from tests.training.samplers.loops import LocalLoop, generate


@pytest.fixture
def loop(tied: Family) -> LocalLoop:
    return LocalLoop(tied.base, max_concurrent=4, max_lora_rank=16)


def enlarged(adapter: Path, directory: Path, factor: float) -> Path:
    """A copy whose weights are finite but so large that every logit overflows."""
    copy = Path(copytree(adapter, directory))
    file = copy / "adapter_model.safetensors"
    save_file({key: value * factor for key, value in load_file(file).items()}, file)
    return copy


REFUSALS = {
    "empty prompt": (generate([]), "invalid_request", "empty"),
    "token beyond the vocabulary": (generate([5, 263]), "invalid_request", "263"),
    "negative token": (generate([-1]), "invalid_request", "-1"),
    "prompt beyond the context": (generate([1] * 2049), "request_too_large", "2049 tokens.*2048"),
    "two-dimensional prompt": (generate(np.ones((2, 2))), "invalid_request", "prompt"),
    "no samples": (generate("x", num_samples=0), "invalid_request", "num_samples"),
    "too many samples": (generate("x", num_samples=10**6), "invalid_request", "num_samples"),
    "negative max_tokens": (generate("x", max_tokens=-1), "invalid_request", "max_tokens"),
    "NaN temperature": (generate("x", temperature=math.nan), "invalid_request", "temperature"),
    "negative temperature": (generate("x", temperature=-0.1), "invalid_request", "temperature"),
    "top_p of 0": (generate("x", top_p=0.0), "invalid_request", "top_p"),
    "top_p above 1": (generate("x", top_p=1.1), "invalid_request", "top_p"),
    "top_k below -1": (generate("x", top_k=-2), "invalid_request", "top_k"),
    "empty stop string": (generate("x", stop_strings=("",)), "invalid_request", "stop"),
    "topk beyond the vocabulary": (generate("x", topk_sample_logprobs=264), "invalid_request", "topk_sample_logprobs"),
    "negative topk": (generate("x", topk_prompt_logprobs=-1), "invalid_request", "topk_prompt_logprobs"),
    "unknown adapter": (generate("x", "nobody"), "not_found", "nobody"),
    "unloading an unknown adapter": (UnloadAdapter(adapter_id="nobody"), "not_found", "nobody"),
    "loading from nowhere": (LoadAdapter(adapter_id="n", directory="/no/where"), "invalid_checkpoint", "'n'.*no/where"),
    "a command of the engine": (OptimStep(model_id="m"), "invalid_request", "optim_step"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_bad_command_is_refused_by_name_while_others_run_on(loop: LocalLoop, name: str) -> None:
    command, code, text = REFUSALS[name]
    running = loop.post(generate("fine", max_tokens=8))
    loop.turn()
    error = loop.ask(command).error
    assert (error["code"], error["caller_fault"]) == (code, True)
    assert re.search(text, error["message"])
    assert len(loop.run(running)[0].tokens()) == 8


def test_a_frame_that_is_no_command_is_answered(loop: LocalLoop) -> None:
    for frame in ({"id": 900, "op": "dance"}, {"id": 901, "op": "generate"}):
        loop.post_frame(frame)
        assert "error" in loop.run(frame["id"])[0].end


def test_scoring_nothing_answers_without_a_forward_pass(loop: LocalLoop) -> None:
    answer = loop.ask(generate("x", max_tokens=0, num_samples=2))
    assert [answer.stop_reason(0), answer.stop_reason(1)] == ["length", "length"]
    assert len(answer.events) == 2


def test_a_name_is_never_used_twice(tied: Family, loop: LocalLoop, tmp_path: Path) -> None:
    """KNOWLEDGE 1.1: a name that is used again serves keys and values of the old weights."""
    assert loop.load("v1", tied.adapters["a"], tmp_path).end["ok"] == {}
    again = LoadAdapter(
        adapter_id="v1", directory=str(publish(tied.adapters["b"], tmp_path / "b", loop.base.ready.base_digest))
    )
    assert loop.ask(again).error["code"] == "conflict"
    loop.ask(UnloadAdapter(adapter_id="v1"))
    assert loop.ask(again).error["code"] == "conflict"


@pytest.mark.parametrize("damage", ["a byte flipped", "cut short", "no manifest", "another base", "rank too high"])
def test_a_damaged_or_foreign_adapter_is_refused_and_the_name_stays_free(
    tied: Family, loop: LocalLoop, tmp_path: Path, damage: str
) -> None:
    digest = "0" * 64 if damage == "another base" else loop.base.ready.base_digest
    directory = publish(tied.adapters["a"], tmp_path / "v1", digest)
    weights = directory / "adapter_model.safetensors"
    if damage == "a byte flipped":
        body = bytearray(weights.read_bytes())
        body[-7] ^= 1
        weights.write_bytes(body)
    elif damage == "cut short":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif damage == "no manifest":
        (directory / "manifest.json").unlink()
    elif damage == "rank too high":
        loop = LocalLoop(tied.base, max_lora_rank=3)
    error = loop.ask(LoadAdapter(adapter_id="v1", directory=str(directory))).error
    assert error["code"] == "invalid_checkpoint"
    assert "'v1'" in error["message"]
    assert error["caller_fault"]
    assert loop.ask(generate("x", "v1")).error["code"] == "not_found"
    if damage != "rank too high":
        assert loop.load("v1", tied.adapters["a"], tmp_path / "good").end["ok"] == {}


def test_an_adapter_whose_logits_overflow_fails_its_own_requests_alone(
    tied: Family, loop: LocalLoop, tmp_path: Path
) -> None:
    loop.load("huge", enlarged(tied.adapters["a"], tmp_path / "huge-peft", 1e25), tmp_path)
    loop.load("good", tied.adapters["b"], tmp_path)
    alone = loop.ask(generate("hello there", "good", max_tokens=12)).tokens()
    good, huge, scored = (
        loop.post(generate("hello there", "good", max_tokens=12)),
        loop.post(generate("hello there", "huge", max_tokens=12, num_samples=3)),
        loop.post(generate("hello there", "huge", max_tokens=0, prompt_logprobs=True)),
    )
    answers = loop.run(good, huge, scored)
    assert answers[0].tokens() == alone
    for answer in answers[1:]:
        assert answer.error["code"] == "engine_error"
        assert "'huge'" in answer.error["message"]
        assert not answer.error["caller_fault"]
    again = loop.ask(generate("hello there", "good", max_tokens=12))  # in rows that held what is not a number
    assert again.tokens() == alone


def test_a_cancelled_request_ends_at_once_wherever_it_is(loop: LocalLoop) -> None:
    running = loop.post(generate("one", max_tokens=500, num_samples=3))
    loop.turn(2)
    reading = loop.post(generate("x" * 1000, max_tokens=500))
    loop.turn(2)
    waiting = [loop.post(generate("later", max_tokens=500, num_samples=8)) for _ in range(2)]
    other = loop.post(generate("other", max_tokens=5))
    loop.turn()
    for target in (waiting[0], reading, running):
        cancel = loop.post(Cancel(target=target))
        loop.turn()
        assert loop.answers.by_id[cancel].end["ok"] == {}
        assert loop.answers.by_id[target].end["ok"] == {"cancelled": True}
    loop.turn(3)
    loop.run(loop.post(Cancel(target=waiting[1])), other)
    assert len(loop.answers.by_id[other].tokens()) == 5
    assert loop.ask(Cancel(target=running)).end["ok"] == {}  # it has ended: nothing to do
    assert not loop.loop._decoder.is_busy


def test_an_unloaded_adapter_serves_its_running_requests_to_the_end_and_no_new_one(
    tied: Family, loop: LocalLoop, tmp_path: Path
) -> None:
    loop.load("old", tied.adapters["a"], tmp_path)
    alone = loop.ask(generate("who are you", "old", max_tokens=20)).tokens()
    running = [loop.post(generate("who are you", "old", max_tokens=20, num_samples=2)) for _ in range(4)]
    loop.turn(3)
    loop.ask(UnloadAdapter(adapter_id="old"))
    assert loop.ask(generate("x", "old")).error["code"] == "not_found"
    assert loop.load("new", tied.adapters["b"], tmp_path).end["ok"] == {}
    fresh = loop.post(generate("who are you", "new", max_tokens=20))
    for answer in loop.run(*running):
        assert answer.tokens(0) == answer.tokens(1) == alone
    assert loop.run(fresh)[0].tokens() != alone
    layers = [module for module in loop.base.model.modules() if type(module).__name__ == "SlottedLinear"]
    assert {len(layer._pairs) for layer in layers} == {1}


def test_an_adapter_is_loaded_where_ended_answers_must_make_way_for_it(
    loop: LocalLoop, tied: Family, tmp_path: Path
) -> None:
    with Memory(1 << 40) as memory:
        loop.ask(generate("a prompt that is long enough to be kept", max_tokens=5))
        memory.limit = memory.used + 50_000
        assert loop.load("a@1", tied.adapters["a"], tmp_path).end == {"id": 2, "ok": {}}
    assert len(loop.ask(generate("a prompt", "a@1", max_tokens=5)).tokens()) == 5
