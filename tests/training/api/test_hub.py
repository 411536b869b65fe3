"""The tokenizer for clients elsewhere: ``HF_ENDPOINT`` points at our server."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx2
import pytest

from tests.fakes.training_server import API_KEY

_FROM_PRETRAINED = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps([tokenizer("Hi there").input_ids, tokenizer.chat_template, sorted(tokenizer.get_vocab().items())]))
"""

# The address in X-Forwarded-For is what the server sees behind a proxy: this client is not on its machine.
_GET_TOKENIZER = """
import json, sys, tinker
service = tinker.ServiceClient(default_headers_overrides={"X-Forwarded-For": "203.0.113.9"})
trainer = service.create_lora_training_client(sys.argv[1], rank=2)
path = trainer.save_weights_for_sampler("v1").result().path
tokenizers = [trainer.get_tokenizer(), service.create_sampling_client(model_path=path).get_tokenizer()]
names = [trainer.get_info().model_data.tokenizer_id, tokenizers[0].name_or_path]
print(json.dumps([names, [each("Hi there").input_ids for each in tokenizers]]))
"""


def run(server, tmp_path, program, *arguments, **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TINKER_"))}
    own = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "empty"), "HF_TOKEN": API_KEY}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments], env={**kept, **own, **environment},
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub(server):
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {API_KEY}"}) as client:
        yield client


@pytest.mark.slow
def test_a_tokenizer_comes_from_the_server_as_from_the_hub(server, tmp_path):
    fetched = run(server, tmp_path, _FROM_PRETRAINED, "tiny-qwen3")
    assert fetched == run(server, tmp_path, _FROM_PRETRAINED, str(server.model))


@pytest.mark.slow
def test_clients_of_the_sdk_on_another_machine_find_their_tokenizer(server, tmp_path):
    (tokenizer_id, used), tokens = run(
        server, tmp_path, _GET_TOKENIZER, "tiny-qwen3",
        TINKER_BASE_URL=server.url, TINKER_API_KEY=f"tml-{API_KEY}", TINKER_TELEMETRY="0",
    )  # fmt: skip
    assert (tokenizer_id, used) == ("tiny-qwen3", "tiny-qwen3")
    assert tokens == [[39, 72, 220, 83, 71, 68, 81, 68]] * 2


def test_a_file_has_what_the_hubs_client_looks_for(server, hub):
    head = hub.head("/tiny-qwen3/resolve/main/tokenizer.json")
    content = (server.model / "tokenizer.json").read_bytes()
    assert (head.status_code, int(head.headers["content-length"]), head.content) == (200, len(content), b"")
    assert head.headers["etag"].strip('"')
    commit = head.headers["x-repo-commit"]
    assert len(commit) == 40
    assert hub.get(f"/tiny-qwen3/resolve/{commit}/tokenizer.json").content == content
    assert hub.get("/api/models/tiny-qwen3").json()["sha"] == commit
    names = {each["path"] for each in hub.get("/api/models/tiny-qwen3/tree/main").json()}
    assert {"tokenizer.json", "config.json"} <= names


@pytest.mark.parametrize(
    "file",
    [
        "model.safetensors",
        "../tiny-qwen3/config.json",
        "..%2f..%2fserver.db",
        "%2e%2e/%2e%2e/server.db",
        "/etc/passwd",
        "subfolder/config.json",
        "config.json%00",
        "",
    ],
)
def test_weights_and_whatever_else_is_there_are_not_given_out(hub, file):
    answer = hub.get(f"/tiny-qwen3/resolve/main/{file}")
    assert answer.status_code == 404


def test_another_model_and_another_revision_are_not_found_as_the_hub_says_it(hub):
    assert hub.get("/api/models/somebody/else").headers["x-error-code"] == "RepoNotFound"
    assert hub.head("/somebody/else/resolve/main/config.json").headers["x-error-code"] == "RepoNotFound"
    assert hub.head("/tiny-qwen3/resolve/v2/config.json").headers["x-error-code"] == "RevisionNotFound"
    assert hub.head("/tiny-qwen3/resolve/main/nothing.json").headers["x-error-code"] == "EntryNotFound"


@pytest.mark.parametrize("path", ["/api/models/tiny-qwen3", "/tiny-qwen3/resolve/main/config.json"])
def test_nobody_without_a_key_learns_what_is_served(server, path):
    assert httpx2.get(server.url + path).status_code == 401
