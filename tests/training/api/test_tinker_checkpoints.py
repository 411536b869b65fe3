"""Saved states that were damaged or do not fit, and two models at once, through the SDK."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tinker
from tinker import types

from metaclaw.training.checkpoints import FileRecord, verify
from tests.training.api.test_tinker_training import datum

pytestmark = pytest.mark.filterwarnings("ignore:DEPRECATED. TrainingClient.load_state:FutureWarning")  # the SDK's

DATA = [datum([5, 6, 7, 8, 9])]


def loss(client) -> float:
    return client.forward(DATA, "cross_entropy").result().metrics["loss:sum"]


def folder_of(server, name: str) -> Path:
    (directory,) = server.data_dir.glob(f"checkpoints/*/weights/{name}")
    return directory


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "optimizer.safetensors", "manifest.json"])
def test_a_state_with_one_flipped_bit_is_refused_by_the_name_of_its_file(server, service, file):
    client = service.create_lora_training_client("tiny-qwen3", rank=4).result()
    client.forward_backward(DATA, "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    name = f"flipped-{file.split('.')[0]}"
    state = client.save_state(name).result().path
    damaged = folder_of(server, name) / file
    body = bytearray(damaged.read_bytes())
    body[len(body) // 2] ^= 1
    damaged.write_bytes(body)
    before = loss(client)
    for load in (
        lambda: service.create_training_client_from_state_with_optimizer(state).result(),
        lambda: client.load_state_with_optimizer(state).result(),
    ):
        with pytest.raises(tinker.RequestFailedError, match=rf"{name}.*{file}.*damaged") as refused:
            load()
        assert refused.value.category == types.RequestErrorCategory.User
    assert loss(client) == before


def test_a_state_of_another_rank_does_not_go_into_a_model(service):
    narrow = service.create_lora_training_client("tiny-qwen3", rank=4).result()
    wide = service.create_lora_training_client("tiny-qwen3", rank=8).result()
    state = narrow.save_state("narrow").result().path
    before = loss(wide)
    with pytest.raises(tinker.RequestFailedError, match="its rank is 4, not 8") as refused:
        wide.load_state(state).result()
    assert refused.value.category == types.RequestErrorCategory.User
    assert loss(wide) == before


def life(server, service, rank: int, name: str) -> tuple[list[list[int]], list[dict[str, FileRecord]]]:
    """What a model of this rank samples and saves in three steps."""
    client = service.create_lora_training_client("tiny-qwen3", rank=rank, seed=rank).result()
    params = types.SamplingParams(max_tokens=24, temperature=1.0, seed=rank, stop=[])
    tokens: list[list[int]] = []
    for step in range(3):
        client.forward_backward([datum([rank + step + n for n in range(12)])] * 4, "cross_entropy")
        client.optim_step(types.AdamParams(learning_rate=1e-2))
        sampler = client.save_weights_and_get_sampling_client().result()
        answer = sampler.sample(types.ModelInput.from_ints([1, 2, 3]), 2, params).result()
        tokens += [list(sequence.tokens) for sequence in answer.sequences]
        client.save_state(f"{name}-{step}").result()
    return tokens, [verify(folder_of(server, f"{name}-{step}")).files for step in range(3)]


def test_two_models_trained_and_sampled_at_once_do_what_each_does_alone(server, service):
    """Bit for bit: neither sees the other's weights, gradients, moments or random numbers."""
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda rank: life(server, service, rank, f"together-{rank}"), (3, 6)))
    alone = [life(server, service, rank, f"alone-{rank}") for rank in (3, 6)]
    assert together == alone
    assert together[0][0] != together[1][0], "both answer alike: nothing was tested"
