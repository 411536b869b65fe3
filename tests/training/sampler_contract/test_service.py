"""Whatever samples: weights change under load, come and go, are refused when damaged, survive the sampler."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest
import tinker
from tinker import types

from metaclaw.training.api.adapters import MAX_LOADED
from tests.training.sampler_contract.conftest import train
from tests.training.sampler_contract.reference import Reference

PROMPT = types.ModelInput.from_ints([72, 69, 76, 76, 79])
GREEDY = types.SamplingParams(max_tokens=24, stop=[], temperature=0.0)
HI = [{"role": "user", "content": "hi"}]
NUM_VERSIONS = 3


def answer(client: tinker.SamplingClient) -> list[int]:
    return client.sample(PROMPT, 1, GREEDY).result().sequences[0].tokens


def test_weights_are_swapped_under_load_without_a_failed_request(contracted, service, chat):
    """R8, ART #678: streams are open across the load of every version, and each sampling client keeps its weights."""
    trainer = service.create_lora_training_client(str(contracted.server.model), rank=8, seed=3).result()
    is_over = threading.Event()
    current = str(contracted.server.model)
    served: list[tuple[str, str]] = []

    def one_after_another() -> None:
        while not is_over.is_set():
            model = current
            chunks = chat.chat.completions.create(
                model=model, messages=HI, max_tokens=80, temperature=0.0, stream=True,
                extra_body={"return_token_ids": True},
            )  # fmt: skip
            tokens = [token for chunk in chunks for token in chunk.choices[0].model_extra["token_ids"]]
            served.append((model, str(tokens)))

    clients, paths = [], []
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(one_after_another) for _ in range(4)]
        try:
            for version in range(NUM_VERSIONS):
                train(trainer)
                path = trainer.save_weights_for_sampler(f"swap-{version}").result().path
                clients.append(service.create_sampling_client(model_path=path).result())
                paths.append(path)
                assert answer(clients[-1])  # loaded and warm
                current = path
                while path not in [model for model, _ in list(served)] and not any(each.done() for each in running):
                    time.sleep(0.05)
        finally:
            is_over.set()
        for each in running:
            each.result()  # no request failed
    answers = {model: {text for name, text in served if name == model} for model, _ in served}
    assert {model: len(texts) for model, texts in answers.items()} == dict.fromkeys(answers, 1)
    assert set(paths) <= set(answers)
    for client, path in zip(clients, paths, strict=True):
        reference = Reference(contracted.server.model, contracted.directory_of(path))
        assert answer(client) == reference.greedy([72, 69, 76, 76, 79], 24)


def test_versions_beyond_what_the_sampler_holds_are_served_again_on_demand(contracted, service, trainer):
    """KNOWLEDGE 6: an evicted adapter answered 404 for ever."""
    clients = [trainer.save_weights_and_get_sampling_client().result() for _ in range(MAX_LOADED + 2)]
    first = answer(clients[0])
    assert [answer(client) for client in clients[1:]] == [first] * (len(clients) - 1)
    assert answer(clients[0]) == first


def test_damaged_weights_are_refused_with_their_name_and_others_are_served(contracted, service, trainer):
    path = trainer.save_weights_for_sampler("damaged").result().path
    file = contracted.directory_of(path) / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    client = service.create_sampling_client(model_path=path).result()
    with pytest.raises(tinker.RequestFailedError, match="damaged"):
        answer(client)
    file.write_bytes(whole)
    assert answer(client)


def test_a_client_that_leaves_stops_its_generation(contracted, http):
    body = {"model": "tiny-qwen3", "messages": HI, "max_tokens": 900, "n": 8, "stream": True}
    for _ in range(4):
        with http.stream("POST", "/v1/chat/completions", json=body) as stream:
            next(stream.iter_lines())
    quick = http.post("/v1/chat/completions", json={"model": "tiny-qwen3", "messages": HI, "max_tokens": 2})
    assert quick.status_code == 200


def test_forty_streams_at_once_all_end_well(contracted, chat):
    def text(seed: int) -> str:
        chunks = chat.chat.completions.create(model="tiny-qwen3", messages=HI, max_tokens=24, seed=seed, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(40) as pool:
        together = list(pool.map(text, range(40)))
    assert [together[number] for number in (3, 33)] == [text(3), text(33)]


def test_nobody_but_the_server_can_speak_to_a_sampler(contracted):
    """KNOWLEDGE 1.4: whatever listens does so on loopback, and takes no request without the token of this start."""
    listening = [
        (process, connection.laddr)
        for process in contracted.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for _, address in listening} <= {"127.0.0.1", "::1"}
    assert bool(listening) == (contracted.sampler == "vllm")
    for process, address in listening:
        if "api_server" not in " ".join(process.cmdline()):
            continue
        url = f"http://127.0.0.1:{address.port}"
        body = {"model": "base", "token_ids": [1, 2], "sampling_params": {"max_tokens": 1}}
        for path in ("/inference/v1/generate", "/v1/completions", "/v1/load_lora_adapter"):
            assert httpx2.post(f"{url}{path}", json=body).status_code == 401
        for path in ("/sleep", "/pause", "/collective_rpc", "/update_weights"):
            assert httpx2.post(f"{url}{path}", json={}).status_code in (401, 404)


def test_after_kill_9_the_sampler_comes_back_with_what_it_served_and_leaves_nothing_behind(contracted, service, http):
    """The worker is killed, and where it has children, in a second round the last of them."""
    trainer = service.create_lora_training_client(str(contracted.server.model), rank=4, seed=5).result()
    train(trainer)
    client = trainer.save_weights_and_get_sampling_client().result()
    before = answer(client)
    victims = [lambda: contracted.processes()[0]]
    if contracted.sampler == "vllm":
        victims.append(lambda: next(p for p in contracted.processes() if "api_server" in " ".join(p.cmdline())))
    for victim in victims:
        old, killed = contracted.processes(), victim()
        body = {"model": "tiny-qwen3", "messages": HI, "max_tokens": 900, "n": 8, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            killed.kill()
            last = [line for line in lines if line][-1]
            assert "error" in last or last == "data: [DONE]"  # all choices may have ended just before; never cut off
        _, alive = psutil.wait_procs(old, timeout=30)
        assert alive == []
        contracted.wait_until_ready()
        assert answer(client) == before
