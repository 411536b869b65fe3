"""One server with each sampler, for the tests that hold with both.

vLLM's half runs by `make test-vllm`: it needs the environment that `metaclaw vllm prepare` makes, fails without it, and
takes minutes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import psutil
import pytest
import tinker
from tinker import types

from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import API_KEY, TrainingServer, training_server
from tests.training.sampler_contract.reference import Reference

START_S = {"transformers": 120.0, "vllm": 420.0}
ROLE = {"transformers": "sampler", "vllm": "vllm"}  # the worker's last argument
CONTEXT = 1024
_SETTINGS = {"transformers": {}, "vllm": {"sampler": "vllm", "vllm_kv_cache_gb": 1, "sampler_threads": 2}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contracted:
    """A server and which sampler it has."""

    server: TrainingServer
    sampler: str

    def processes(self) -> list[psutil.Process]:
        """The sampler's worker and whatever it started."""
        worker = psutil.Process(self.server.worker_pid(ROLE[self.sampler]))
        return [worker, *worker.children(recursive=True)]

    def wait_until_ready(self) -> None:
        self.server.wait_until_ready(START_S[self.sampler])

    def directory_of(self, path: str) -> Path:
        """Where the files of a checkpoint's path lie."""
        run, kind, name = path.removeprefix("tinker://").split("/")
        (found,) = self.server.data_dir.glob(f"checkpoints/{run.replace(':', '_')}-*/{kind}/{name}")
        return found


@pytest.fixture(scope="package", params=["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def contracted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contracted]:
    root = tmp_path_factory.mktemp(request.param)
    model = make_tiny_model(root / "tiny-qwen3")
    settings = {"max_context": CONTEXT, "max_concurrent": 16, **_SETTINGS[request.param]}
    with training_server(model, root / "data", start_s=START_S[request.param], **settings) as server:
        yield Contracted(server=server, sampler=request.param)


@pytest.fixture(scope="package")
def service(contracted: Contracted) -> Iterator[tinker.ServiceClient]:
    os.environ["TINKER_TELEMETRY"] = "0"
    client = tinker.ServiceClient(base_url=contracted.server.url, api_key=f"tml-{API_KEY}")
    yield client
    client.close("success").result()


@pytest.fixture(scope="package")
def trainer(contracted: Contracted, service: tinker.ServiceClient) -> tinker.TrainingClient:
    """Trained hard enough that every answer differs from the base model's."""
    client = service.create_lora_training_client(str(contracted.server.model), rank=4, seed=7).result()
    train(client)
    return client


def train(client: tinker.TrainingClient) -> None:
    tokens = [72, 69, 76, 76, 79, 7, 8, 9]
    datum = types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": [1.0] * (len(tokens) - 1)},
    )
    client.forward_backward([datum], "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=2e-2)).result()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Something to sample from, by Tinker and by OpenAI, and what it must answer."""

    client: tinker.SamplingClient
    model: str
    reference: Reference


@pytest.fixture(scope="package")
def base(contracted: Contracted, service: tinker.ServiceClient) -> Weights:
    name = str(contracted.server.model)
    client = service.create_sampling_client(base_model=name).result()
    return Weights(client=client, model=name, reference=Reference(contracted.server.model))


@pytest.fixture(scope="package")
def tuned(contracted: Contracted, service: tinker.ServiceClient, trainer: tinker.TrainingClient) -> Weights:
    path = trainer.save_weights_for_sampler("tuned").result().path
    return Weights(
        client=service.create_sampling_client(model_path=path).result(),
        model=path,
        reference=Reference(contracted.server.model, contracted.directory_of(path)),
    )


@pytest.fixture(scope="package", params=["base", "tuned"])
def weights(request: pytest.FixtureRequest, base: Weights, tuned: Weights) -> Weights:
    return {"base": base, "tuned": tuned}[request.param]


@pytest.fixture
def chat(contracted: Contracted) -> Iterator[openai.OpenAI]:
    url = f"{contracted.server.url}/v1"
    with openai.OpenAI(base_url=url, api_key=API_KEY, max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture
def http(contracted: Contracted) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=contracted.server.url, headers={"X-API-Key": API_KEY}, timeout=START_S[contracted.sampler]
    ) as client:
        yield client
