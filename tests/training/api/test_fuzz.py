"""Malformed requests on every route: each is answered, none with a bug, and none stops a worker.

What a job does with a malformed body counts too: an accepted request is followed to its result.
"""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

import httpx2
import numpy as np
import pytest

from metaclaw.training.api.proto import tinker_pb2 as pb
from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import API_KEY, training_server
from tests.training.api.test_tenants import VERDICTS
from tests.training.api.test_tinker_wire import forward_backward, make_model, post_fb, retrieve, step

SEED = 1
NUM_MUTATIONS = 30

MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {
        "role": "assistant", "content": None, "reasoning_content": "r", "token_ids": [1, 2], "renderer": "x",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "t"},
    {"role": "user", "content": "hi"},
]  # fmt: skip
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
PASS = {
    "data": [
        {
            "model_input": {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]},
            "loss_fn_inputs": {
                "target_tokens": {"data": [2, 3], "dtype": "int64", "shape": [2]},
                "weights": {
                    "data": [1.0], "dtype": "float32", "shape": [2, 1], "sparse_crow_indices": [0, 1, 1],
                    "sparse_col_indices": [0],
                },
            },
        }
    ],
    "loss_fn": "cross_entropy",
    "loss_fn_config": {"temperature": 1.0},
}  # fmt: skip
SAVE = {"ttl_seconds": 3600, "overwrite": False, "user_metadata": {"a": "b"}}
# Bodies with every field that is known, so that each gets its turn; ``MODEL`` and so on are filled in.
FULL: dict[str, dict[str, Any]] = {
    "client/config": {"sdk_version": "0.38.0"},
    "create_session": {"tags": ["a"], "user_metadata": {"a": 1}, "display_name": "n", "project_id": "p"},
    "session_heartbeat": {"session_id": "SESSION"},
    "sessions/search": {
        "session_id": "SESSION", "user_metadata": {"a": "b"}, "display_name": "n", "limit": 2,
        "cursor": {"last_created_at": "2026-01-01T00:00:00Z", "last_session_id": "SESSION"},
    },
    "retrieve_future": {"request_id": "FUTURE", "allow_metadata_only": True},
    "cancel_future": {"request_id": "FUTURE"},
    "create_model": {
        "session_id": "SESSION", "model_seq_id": 1, "base_model": "tiny-qwen3", "user_metadata": {"a": "b"},
        "lora_config": {"rank": 2, "seed": 1, "train_mlp": True, "train_attn": True, "train_unembed": True},
        "optimizer_config": {"type": "adamw"},
    },
    "get_info": {"model_id": "MODEL"},
    "forward_backward": {"model_id": "MODEL", "seq_id": 1, "forward_backward_input": PASS},
    "forward": {"model_id": "MODEL", "seq_id": 1, "forward_input": PASS},
    "optim_step": {
        "model_id": "MODEL", "seq_id": 1, "optimizer_params": None,
        "adam_params": {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.9, "eps": 1e-9, "weight_decay": 0.1,
                        "grad_clip_norm": 1.0},
    },
    "save_weights": {"model_id": "MODEL", "seq_id": 1, "path": "w", **SAVE},
    "save_weights_external": {"model_id": "MODEL", "seq_id": 1, "path": "e", "age_encryption_recipients": [], **SAVE},
    "save_weights_for_sampler": {
        "model_id": "MODEL", "seq_id": 1, "path": "s", "kind": "snapshot", "sampling_session_seq_id": 9, **SAVE,
    },
    "load_weights": {
        "model_id": "MODEL", "seq_id": 1, "path": "tinker://MODEL/weights/w", "optimizer": True, "base_model": None,
        "session_id": None, "model_seq_id": None, "optimizer_config": {"type": "adamw"}, "user_metadata": {"a": "b"},
    },
    "create_sampling_session": {
        "session_id": "SESSION", "sampling_session_seq_id": 3, "base_model": "tiny-qwen3", "model_path": None,
    },
    "asample": {
        "sampling_session_id": "SESSION:sample:0", "seq_id": 1, "num_samples": 1,
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]},
        "sampling_params": {"max_tokens": 2, "seed": 1, "stop": ["a"], "temperature": 1.0, "top_k": -1, "top_p": 1.0},
        "prompt_logprobs": True, "topk_prompt_logprobs": 1, "topk_sample_logprobs": 1, "prompt_logprobs_last_n": 1,
        "target_prompt_logprobs": None, "prompt_alt_tokens_k": 0, "record_stability_info": False,
    },
    "weights_info": {"tinker_path": "tinker://MODEL/weights/w"},
    "chat/completions": {
        "model": "tiny-qwen3", "messages": MESSAGES, "max_tokens": 2, "stream": False, "temperature": 1.0, "top_p": 0.9,
        "top_k": 3, "n": 1, "stop": ["x"], "seed": 1, "logprobs": True, "top_logprobs": 1, "tools": [TOOL],
        "tool_choice": "auto", "parallel_tool_calls": False, "chat_template_kwargs": {"enable_thinking": True},
        "stream_options": {"include_usage": True}, "return_token_ids": True, "return_policy_record": True,
    },
    "completions": {
        "model": "tiny-qwen3", "prompt": [[1, 2], [3]], "max_tokens": 2, "stream": False, "temperature": 1.0,
        "top_p": 0.9, "top_k": 3, "n": 1, "best_of": 1, "echo": True, "stop": "x", "seed": 1, "logprobs": 1,
        "prompt_logprobs": 1, "suffix": None, "return_token_ids": True, "stream_options": {"include_usage": True},
    },
}  # fmt: skip
NESTED = json.loads('{"a":[' * 90 + "]}" * 90)  # about as deep as the parser lets through
WEIRD: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**40, -(2**63) - 1, 0.5, 1e308, float("nan"), float("inf"), "", "\0",
    "\ud800", "a" * 300, "../../x", "tinker://", "tinker://a/weights/b", "tinker://a:train:0/weights/../../b",
    "base@1", "\u2028\U0001f4a5", [], [[]], {}, [None], {"a": None}, [1, "a"], {"": {}}, [2**62, 0], [-1], [0, 2**62],
    NESTED,
]  # fmt: skip
PATHS = ["%00", "%ff", "..%2f..%2fx", "a" * 300, "%F0%9F%92%A5", "tinker:%2F%2Fa%2Fweights%2Fb", "a:train:0", "."]
QUERIES = ["", "limit=-1", f"limit={10**30}", f"offset={2**70}&limit=1", "limit=x", "offset=-5", "limit=&offset=%00",
           "expires=x&signature=%ff", f"expires={10**40}", "access_scope=nobody", "project_id=%00"]  # fmt: skip
DEEP = b'{"model": ' + b"[" * 5000 + b"]" * 5000 + b"}"
BYTES = [b"", b"\xff\xfe", b"null", b"[]", b'"a"', b"{", b'{"a":1}garbage', b"\x00" * 64, DEEP, b'{"model_id":"\xff"}',
         b"1" * 6000, b"\x28\xb5\x2f\xfd\x00\x00"]  # fmt: skip


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in ``value`` something could be replaced."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here] * bool(here) + [place for key, each in items for place in places(each, (*here, key))]


def mutated(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """``body`` with one or two of its parts replaced or left out."""
    body = json.loads(json.dumps(body))
    for _ in range(chance.choice((1, 1, 2))):
        *way, last = chance.choice(places(body))
        parent: Any = body
        for key in way:
            parent = parent[key]
        if chance.random() < 0.15:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(chance.choice(WEIRD))
        if not body:
            break
    return body


class Fuzzer:
    """One client with one of everything, and the routes' bodies about it."""

    def __init__(self, http: httpx2.Client, chance: random.Random) -> None:
        self.http = http
        self.chance = chance
        self.session = http.post("/api/v1/create_session", json={}).json()["session_id"]
        self.model = make_model(http, self.session)
        first = step(http, self.model, 1)
        retrieve(http, first)
        self.future = first.json()["request_id"]
        self.seq_id = 1
        self.num_models = 0
        body = {"session_id": self.session, "sampling_session_seq_id": 0, "base_model": "tiny-qwen3"}
        assert http.post("/api/v1/create_sampling_session", json=body).status_code == 200

    def filled(self, body: dict[str, Any]) -> dict[str, Any]:
        """With the ids of what exists, and the numbers whose turn it is."""
        text = json.dumps(body).replace("MODEL", self.model).replace("SESSION", self.session)
        body = json.loads(text.replace("FUTURE", self.future))
        self.num_models += "model_seq_id" in body
        numbers = {"seq_id": self.seq_id + 1, "model_seq_id": self.num_models}
        return {**body, **{name: number for name, number in numbers.items() if body.get(name) is not None}}

    def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> None:
        """Send it, follow it to its result, and look at both."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.http.request(method, path, content=content, headers=headers)
        about = f"{method} {path} {content[:2000]!r} {headers}: {answer.status_code} {answer.text[:500]}"
        assert answer.status_code < 500, about
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.json()["error"], about
        # 409: the number was taken by a request whose own number was what was replaced, and is run now.
        is_run = answer.status_code in (200, 409) and path in SUBMITTING and self.is_run(path, content)
        if is_run and answer.status_code == 200:
            told = self.http.post("/api/v1/retrieve_future", json={"request_id": answer.json()["request_id"]})
            assert told.status_code == 200, f"{about}: {told.status_code} {told.text[:500]}"
            if told.headers["content-type"] == "application/json":
                assert told.json().get("type") != "try_again", f"{about}: it waits for a number"
                assert told.json().get("category") != "server", f"{about}: {told.text[:500]}"

    def is_run(self, path: str, content: bytes) -> bool:
        """Whether what was accepted is run now: a number whose turn has not come waits for ever."""
        if path in UNORDERED:
            return True
        try:
            seq_id = json.loads(content).get("seq_id")
        except ValueError:
            seq_id = pb.ForwardBackwardRequest.FromString(content).seq_id
        if seq_id is None or int(seq_id) > self.seq_id + 1:
            return seq_id is None
        self.seq_id = max(self.seq_id, int(seq_id))
        return True


UNORDERED = {"/api/v1/asample", "/api/v1/create_model", "/api/v1/unload_model"}
SUBMITTING = UNORDERED | {
    f"/api/v1/{name}"
    for name in ("forward", "forward_backward", "optim_step", "load_weights", "save_weights", "save_weights_external",
                 "save_weights_for_sampler")
}  # fmt: skip
JSON = {"content_type": "application/json"}
PROTOBUF = {"content_type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    """A server of its own, so that nothing is left in anybody's queues."""
    root = tmp_path_factory.mktemp("fuzz")
    with (
        training_server(make_tiny_model(root / "tiny-qwen3"), root / "data", max_context=256) as server,
        httpx2.Client(base_url=server.url, headers={"X-API-Key": API_KEY}, timeout=60) as http,
    ):
        pids = [server.worker_pid(name) for name in ("engine", "sampler")]
        yield Fuzzer(http, random.Random(SEED))
        assert pids == [server.worker_pid(name) for name in ("engine", "sampler")]


def address(path: str, chance: random.Random) -> str:
    """``path`` with something strange in every place of it."""
    parts = [chance.choice(PATHS) if part.startswith("{") else part for part in path.split("/")]
    return f"{'/'.join(parts)}?{chance.choice(QUERIES)}"


@pytest.mark.parametrize("route", sorted(VERDICTS), ids=" ".join)
def test_bytes_and_addresses_that_make_no_sense_are_refused_on_every_route(fuzzer, route):
    method, path = route
    for _ in range(4 if "{" in path else 0):
        fuzzer.ask(method, address(path, fuzzer.chance), b"{}")
    for query in QUERIES if method == "GET" and "{" not in path else ():
        fuzzer.ask(method, f"{path}?{query}")
    for content in BYTES if method in ("POST", "PUT") else ():
        fuzzer.ask(method, path.replace("{model_id}", fuzzer.model), content, **JSON)
    for encoding in ("zstd", "gzip", "nonsense"):
        fuzzer.ask(method, path, b"{}", content_encoding=encoding)


@pytest.mark.parametrize("name", sorted(FULL))
def test_a_body_with_any_part_replaced_is_answered_and_its_job_as_well(fuzzer, name):
    path = f"/v1/{name}" if name.endswith("completions") else f"/api/v1/{name}"
    for _ in range(NUM_MUTATIONS):
        body = mutated(fuzzer.filled(FULL[name]), fuzzer.chance)
        fuzzer.ask("POST", path, json.dumps(body).encode(), **JSON)


def mutated_message(content: bytes, chance: random.Random) -> bytes:
    """A message with strange tensors, or with bytes turned, added or lost."""
    message = pb.ForwardBackwardRequest.FromString(content)
    tensor = message.data[0].loss_fn_inputs[chance.choice(("target_tokens", "weights", "logprobs", "\u2028"))]
    match chance.randrange(6):
        case 0:
            tensor.dtype = chance.choice((0, 1, 2, 3, 4, 77))
            tensor.dense = chance.randbytes(chance.choice((0, 1, 4, 8, 16)))
        case 1:
            del tensor.shape[:]
            tensor.shape.extend(chance.choice(([0, 2**62], [-1], [2**62, 4], [2, 1], [], [1] * 70, [2**63 - 1])))
            tensor.dense = chance.choice((b"", bytes(4), bytes(8)))
        case 2:
            rows = np.array(chance.choice(([0, 1, 1], [5, 0, 1], [0, 2**62, 1], [0])), "<i8")
            tensor.sparse_csr.values = chance.randbytes(4)
            tensor.sparse_csr.crow_indices = rows.tobytes()
            tensor.sparse_csr.col_indices = np.array([chance.choice((0, -1, 2**62))], "<i8").tobytes()
            tensor.shape[:] = chance.choice(([2, 1], [2**31, 2**31], [2, 0], [0, 0], [0, 2**62]))
        case 3:
            message.data[0].model_input[0].encoded_text.tokens = chance.choice((b"", b"x", b"\xff" * 8, bytes(8)))
        case 4:
            message.loss_fn = chance.choice(("", "\u2028", "ppo", "cispo", "gspo", "dro", "importance_sampling"))
            message.loss_fn_config["temperature"] = chance.choice((0.0, -1.0, math.nan, math.inf, 1e-300))
        case _:
            del message.data[:]
    changed = bytearray(message.SerializeToString())
    if chance.random() < 0.3 and changed:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed[: chance.randrange(len(changed))] if changed and chance.random() < 0.1 else changed)


def test_a_message_with_any_part_replaced_is_answered_and_its_job_as_well(fuzzer):
    for _ in range(4 * NUM_MUTATIONS):
        content = forward_backward(fuzzer.model, fuzzer.seq_id + 1)
        fuzzer.ask("POST", "/api/v1/forward_backward", mutated_message(content, fuzzer.chance), **PROTOBUF)


def test_after_all_that_the_model_still_learns(fuzzer):
    while (answer := post_fb(fuzzer.http, fuzzer.model, fuzzer.seq_id + 1)).status_code == 409:
        fuzzer.seq_id += 1
    assert retrieve(fuzzer.http, answer).headers["content-type"] == "application/x-protobuf"
    stepped = retrieve(fuzzer.http, step(fuzzer.http, fuzzer.model, fuzzer.seq_id + 2))
    assert stepped.json()["metrics"]["grad_norm"] > 0
