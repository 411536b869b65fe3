"""One server for all tests of this folder, and clients for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx2
import openai
import pytest
import tinker

from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import API_KEY, TrainingServer, training_server

MAX_OPEN = 100  # sampling requests that the server takes before it answers 429


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    root = tmp_path_factory.mktemp("server")
    model = make_tiny_model(root / "tiny-qwen3")
    with training_server(
        model, root / "data", max_context=1024, max_concurrent=24, max_queued=MAX_OPEN - 24
    ) as running:
        yield running


@pytest.fixture(scope="package")
def service(server: TrainingServer) -> Iterator[tinker.ServiceClient]:
    os.environ["TINKER_TELEMETRY"] = "0"
    client = tinker.ServiceClient(base_url=server.url, api_key=f"tml-{API_KEY}")
    yield client
    client.close("success").result()


@pytest.fixture(scope="package")
def rest(server: TrainingServer) -> Iterator[tinker.RestClient]:
    client = tinker.RestClient(base_url=server.url, api_key=f"tml-{API_KEY}")
    yield client
    client.holder.close()  # it has no close of its own, and would leave a socket open


@pytest.fixture
def http(server: TrainingServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers={"X-API-Key": API_KEY}, timeout=60) as client:
        yield client


@pytest.fixture
def chat(server: TrainingServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client
