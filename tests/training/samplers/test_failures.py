"""A forward pass that fails: who is told, and that the others go on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from metaclaw.training.base_model import load_base
from metaclaw.training.samplers.attention import Segment
from metaclaw.training.samplers.decoder import Decoder
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.pace import ChunkLimits
from metaclaw.training.samplers.requests import Limits, Request, RequestReader
from metaclaw.training.samplers.rows import RowLimits
from metaclaw.training.samplers.slots import LoraSlots
from tests.training.device import DEVICE
from tests.training.memory import Memory
from tests.training.samplers.conftest import Family
from tests.training.samplers.loops import Answers, generate

HERE = torch.device(DEVICE)
POISON = 255


class FailingForward(ForwardPass):
    """A real pass that fails when a prompt holds the poison, or once a row is longer than ``longest``."""

    longest = 10_000
    first_layer_bytes = 0  # asked for when a new row gets its first layer

    def run(self, segments: Sequence[Segment], keep: Sequence[int]) -> torch.Tensor:
        if any(POISON in segment.tokens for segment in segments if len(segment.tokens) > 1):
            raise RuntimeError("poisoned")
        if self.first_layer_bytes and any(not segment.row.keys for segment in segments):
            torch.empty(self.first_layer_bytes, dtype=torch.uint8, device=self.device)
        if max(segment.row.length for segment in segments) > self.longest:
            torch.empty(
                2**46, dtype=torch.uint8, device=self.device
            )  # more than the address space of a process: torch's own failure
        return super().run(segments, keep)


class NoMemoryToScore(TorchDispatchMode):
    """Refuses the normalisers of more than one place: what a prompt's log-probs take beside its logits."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "logsumexp" in func.overloadpacket._qualified_op_name and args[0].shape[0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return func(*args, **(kwargs or {}))


class Driver:
    """A decoder over the failing pass."""

    def __init__(self, family: Family, *, scored: int = 1000) -> None:
        base = load_base(family.base, device=DEVICE, dtype="float32")
        slots = LoraSlots(base.model, HERE)
        self.forward = FailingForward(base.model, slots, HERE)
        self.ended: list[int] = []
        limits = RowLimits(max_rows=4, max_places=2200, kept_places=1000, max_context=2048)
        chunks = ChunkLimits(least=8, most=64, idle=256, scored=scored)
        self.decoder = Decoder(self.forward, limits, chunks, on_end=lambda request: self.ended.append(request.frame_id))
        self.reader = RequestReader(
            Limits(vocab_size=263, max_context=2048, end_tokens=()), decode=lambda _: "", entropy=lambda: 0
        )
        self.answers = Answers()

    def add(self, frame_id: int, prompt, **options) -> Request:
        request = self.reader.read(frame_id, generate(prompt, **options), 0)
        self.decoder.add(request)
        return request

    @torch.inference_mode()
    def run(self, steps: int = 2000) -> None:
        for _ in range(steps):
            if not self.decoder.is_busy:
                return
            self.decoder.step()
            for frame in self.decoder.collect():
                self.answers.take(frame)
        if steps == 2000:
            raise AssertionError("the decoder does not come to an end")


@pytest.fixture
def driver(tied: Family) -> Driver:
    return Driver(tied)


def test_a_prompt_that_fails_ends_alone_though_it_was_read_with_others(driver: Driver) -> None:
    for frame_id, prompt in enumerate(([1, 2, 3], [4, POISON, 6], [7, 8, 9]), start=1):
        driver.add(frame_id, prompt, max_tokens=5)
    driver.run()
    assert "poisoned" in driver.answers.by_id[2].error["message"]
    assert [len(driver.answers.by_id[i].tokens()) for i in (1, 3)] == [5, 5]
    assert sorted(driver.ended) == [1, 2, 3]


def test_when_memory_runs_out_the_longest_answer_ends_and_the_others_go_on(driver: Driver) -> None:
    driver.forward.longest = 40
    driver.add(1, [1] * 8, max_tokens=20)
    driver.add(2, [1] * 30, max_tokens=60)
    driver.add(3, [1] * 9, max_tokens=20)
    driver.run()
    error = driver.answers.by_id[2].error
    assert error["code"] == "engine_error"
    assert "memory" in error["message"]
    assert [len(driver.answers.by_id[i].tokens()) for i in (1, 3)] == [20, 20]


def test_a_request_waits_until_the_cache_has_room_for_it(driver: Driver) -> None:
    """SkyRL #1873: unlimited batching of queued work ran out of memory."""
    driver.add(1, [1] * 100, max_tokens=400)
    driver.add(2, [2] * 1400, max_tokens=300)  # together 2,200 places, which is the limit
    driver.add(3, [3] * 10, max_tokens=10)
    seen: list[int] = []
    while driver.decoder.is_busy:
        driver.run(1)
        seen.append(len(driver.decoder._running))
    assert max(seen) == 2
    assert [len(driver.answers.by_id[i].tokens()) for i in (1, 2, 3)] == [400, 300, 10]


def test_memory_that_cannot_be_had_for_a_row_fails_that_request_alone(driver: Driver) -> None:
    """A real allocation that fails: the next request, and the running one, are served."""
    driver.add(1, [1] * 8, max_tokens=30)
    driver.run(3)
    driver.forward.first_layer_bytes = 2**46
    driver.add(2, [2] * 30, max_tokens=10)
    driver.run(5)  # first without the prompt, which is then read alone
    driver.forward.first_layer_bytes = 0
    driver.run(60)
    assert "memory" in driver.answers.by_id[2].error["message"]
    driver.add(3, [2] * 30, max_tokens=10)
    driver.run()
    assert [len(driver.answers.by_id[i].tokens()) for i in (1, 3)] == [30, 10]


def test_what_is_only_kept_makes_way_when_memory_runs_out(driver: Driver) -> None:
    """The limits are of what was free at the start: on one GPU training takes of it for a pass."""
    with Memory(1 << 40) as memory:
        driver.add(1, [1] * 40, max_tokens=10)
        driver.run()
        row = memory.used
        memory.limit = row + row // 2  # another row does not fit beside the kept one
        driver.add(2, [2] * 40, max_tokens=10)
        driver.run()
        memory.limit = memory.used + row // 2
        driver.add(3, [2] * 30 + [3] * 10, max_tokens=10)  # which goes on from what is kept, and copies it
        driver.run()
    assert [len(driver.answers.by_id[i].tokens()) for i in (1, 2, 3)] == [10, 10, 10]


def test_a_pass_that_failed_for_want_of_memory_holds_none_while_the_answers_go_on(driver: Driver) -> None:
    """Its variables are in the traceback: with them, the next pass failed as well."""
    with Memory(1 << 40) as memory:
        driver.add(1, [1] * 8, max_tokens=100)
        driver.run(5)
        driver.add(2, [2] * 500, max_tokens=10)
        driver.run(1)
        memory.limit = memory.used + 20_000  # the row is there; what a chunk takes beside it is not
        driver.run()
    assert "memory" in driver.answers.by_id[2].error["message"]
    assert len(driver.answers.by_id[1].tokens()) == 100


def test_a_prompt_that_cannot_be_scored_for_want_of_memory_fails_alone(driver: Driver) -> None:
    driver.add(1, [1] * 8, max_tokens=20)
    driver.run(3)
    driver.add(2, [2] * 100, max_tokens=0, prompt_logprobs=True)
    with NoMemoryToScore():
        driver.run()
    assert "memory" in driver.answers.by_id[2].error["message"]
    assert len(driver.answers.by_id[1].tokens()) == 20


class Widest(TorchDispatchMode):
    """Remembers the most places whose logits were there at once."""

    places = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.shape[-1:] == (263,):
            self.places = max(self.places, result.numel() // 263)
        return result


def test_prompts_are_scored_as_far_at_once_as_there_is_memory_for_the_logits(tied: Family) -> None:
    driver = Driver(tied, scored=50)
    for frame_id, length in ((1, 300), (2, 40)):
        driver.add(frame_id, [frame_id] * length, max_tokens=0, prompt_logprobs=True)
    driver.add(3, [3] * 200, max_tokens=5)
    with Widest() as widest:
        driver.run()
    assert widest.places <= 51
    assert [len(driver.answers.by_id[i].prompt["logprobs"]) for i in (1, 2)] == [300, 40]
    assert len(driver.answers.by_id[3].tokens()) == 5
